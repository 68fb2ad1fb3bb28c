"""What Airflow learns about this provider from its entry point ``apache_airflow_provider``.

The plugin has an entry point of its own: Airflow loads those of providers only if it does not load providers lazily.
"""

from typing import Any

from ingest import __version__

DISTRIBUTION = "k2-ingest-ops"
INTEGRATION = "K2 Ingest"
OPERATORS = [
    "ingest_ops.airflow.archive_tasks",
    "ingest_ops.airflow.control_tasks",
    "ingest_ops.airflow.soak_tasks",
    "ingest_ops.airflow.validation_tasks",
    "ingest_ops.airflow.deployment_tasks",
]
CONNECTIONS = (
    ("k2_agent", "AgentHook", "K2 Ingest deploy agent"),
    ("k2_prometheus", "PrometheusHook", "K2 Ingest Prometheus"),
)
TRIGGERS = ["ingest_ops.airflow.soak_trigger", "ingest_ops.airflow.deployment_trigger"]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as Airflow's schema of providers wants it."""
    return {
        "package-name": DISTRIBUTION,
        "name": INTEGRATION,
        "description": "Deployments, soak tests, validation reports and the archive of K2 Ingest.",
        "versions": [__version__],
        "integrations": [{"integration-name": INTEGRATION, "tags": ["service"]}],
        "operators": [{"integration-name": INTEGRATION, "python-modules": OPERATORS}],
        "hooks": [{"integration-name": INTEGRATION, "python-modules": ["ingest_ops.airflow.hooks"]}],
        "connection-types": [
            {"connection-type": kind, "hook-class-name": f"ingest_ops.airflow.hooks.{hook}", "hook-name": name}
            for kind, hook, name in CONNECTIONS
        ],
        "notifications": ["ingest_ops.airflow.notifier.WebhookNotifier"],
        "asset-uris": [{"schemes": ["k2"], "handler": None}],
        "triggers": [{"integration-name": INTEGRATION, "python-modules": TRIGGERS}],
    }
