"""What Airflow loads: the report page, its places in the web interface, and the links of the operators."""

import os
from pathlib import Path
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from airflow.plugins_manager import AirflowPlugin

from ingest_ops.airflow.deployment_tasks import ReportLink as DeploymentLink
from ingest_ops.airflow.deployment_tasks import deployment_name
from ingest_ops.airflow.notifier import RunCreated
from ingest_ops.airflow.soak_tasks import ReportLink as SoakLink
from ingest_ops.airflow.soak_tasks import run_name
from ingest_ops.airflow.validation_tasks import ReportLink as ValidationLink
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.report.page import BASE, PREFIX, make_app


def report_of(dag: str, run: str) -> str:
    """The report of a DAG's run, as an id; a validation's is found by the list."""
    if dag.startswith("soak"):
        return f"soak/{run_name(dag, run)}"
    return f"deployments/{deployment_name(dag, run)}"


def _reports() -> Path:
    return ReportSettings.load(os.environ).reports


def _apps() -> list[Any]:
    return [{"app": make_app(_reports, get_user, report_of), "url_prefix": PREFIX, "name": "K2 Ingest reports"}]


def _views() -> list[Any]:
    """A page in the navigation, a tab on each DAG, and one on each run with its own report; in Airflow's theme."""
    page = f"{BASE}/theme"
    of_dag, of_run = f"{page}?dag={{DAG_ID}}", f"{page}?dag={{DAG_ID}}&run={{RUN_ID}}"
    return [
        {"name": "Reports", "href": page, "destination": "nav", "url_route": "k2-reports"},
        {"name": "Reports", "href": of_dag, "destination": "dag", "url_route": "k2-dag-reports"},
        {"name": "Report", "href": of_run, "destination": "dag_run", "url_route": "k2-run-report"},
    ]


def _links() -> list[Any]:
    return [DeploymentLink(), SoakLink(), ValidationLink()]


def _deadlines() -> list[Any]:
    return [RunCreated]


class IngestOpsPlugin(AirflowPlugin):
    """K2 Ingest's part of the web interface."""

    name = "ingest_ops"
    fastapi_apps = _apps()
    external_views = _views()
    operator_extra_links = _links()
    deadline_references = _deadlines()
