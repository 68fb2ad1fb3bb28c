"""Airflow's web interface in a browser, on the real parts: ``make ui``."""
