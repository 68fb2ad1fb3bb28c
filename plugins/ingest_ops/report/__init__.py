"""The command ``python -m ingest_ops report``."""
