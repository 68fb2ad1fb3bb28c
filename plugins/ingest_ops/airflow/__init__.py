"""Operators, triggers, DAG factories and the plugin: the only package that imports Airflow."""
