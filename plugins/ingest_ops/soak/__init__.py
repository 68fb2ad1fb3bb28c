"""Soak tests: one engine for pytest, the command line and Airflow."""
