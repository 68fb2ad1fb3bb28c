"""What Airflow loads: the report page, its places in the web interface, and the links of the operators."""

import os
from pathlib import Path
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from airflow.plugins_manager import AirflowPlugin

from ingest_ops.airflow.soak_tasks import ReportLink as SoakLink
from ingest_ops.airflow.validation_tasks import ReportLink as ValidationLink
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.deployment.tasks import ReportLink as DeploymentLink
from ingest_ops.report.page import BASE, PREFIX, make_app


def _reports() -> Path:
    return ReportSettings.load(os.environ).reports


def _apps() -> list[Any]:
    return [{"app": make_app(_reports, get_user), "url_prefix": PREFIX, "name": "K2 Ingest reports"}]


def _views() -> list[Any]:
    """A page in the navigation, and a tab on each DAG."""
    return [
        {"name": "Reports", "href": f"{BASE}/", "destination": "nav", "url_route": "k2-reports"},
        {"name": "Reports", "href": f"{BASE}/?dag={{DAG_ID}}", "destination": "dag", "url_route": "k2-dag-reports"},
    ]


def _links() -> list[Any]:
    return [DeploymentLink(), SoakLink(), ValidationLink()]


class IngestOpsPlugin(AirflowPlugin):
    """K2 Ingest's part of the web interface."""

    name = "ingest_ops"
    fastapi_apps = _apps()
    external_views = _views()
    operator_extra_links = _links()
