"""The assets that the DAGs make, by name and URI. Those of validation and archive have a partition for each UTC day."""

from airflow.sdk import Asset

SCHEME = "k2"
DEPLOYMENT = Asset(name="k2_deployment", uri="k2://ingest/deployment", group="k2")
"""A version went live."""
SOAK_REPORT = Asset(name="k2_soak_report", uri="k2://reports/soak", group="k2")
VALIDATION_REPORT = Asset(name="k2_validation_report", uri="k2://reports/validation", group="k2")
ARCHIVE_DAY = Asset(name="k2_archive_day", uri="k2://archive/trades", group="k2")
"""A day of the archive is certified with PASS."""
DAY_KEY = "%Y-%m-%d"
"""How a partition is named: the UTC day that it is about."""
