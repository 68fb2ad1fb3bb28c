"""The commands of ``python -m ingest_ops`` that deploy, roll back and judge."""
