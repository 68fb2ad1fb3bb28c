"""The assets that the DAGs make, by name and URI. The validation's has a partition for each UTC day."""

from airflow.sdk import Asset

SCHEME = "k2"
DEPLOYMENT = Asset(name="k2_deployment", uri="k2://ingest/deployment", group="k2")
"""A version went live."""
SOAK_REPORT = Asset(name="k2_soak_report", uri="k2://reports/soak", group="k2")
VALIDATION_REPORT = Asset(name="k2_validation_report", uri="k2://reports/validation", group="k2")
DAY_KEY = "%Y-%m-%d"
"""How a partition of the validation is named: the UTC day that it is about."""
