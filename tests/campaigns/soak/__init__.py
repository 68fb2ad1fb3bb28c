"""Soaks: the real service under load for an hour or a day, judged by ``ingest_ops.soak``."""
