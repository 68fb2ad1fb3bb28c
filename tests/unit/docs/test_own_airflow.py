"""``docs/how_to/own_airflow.md`` names settings and commands that exist."""

import dataclasses
import re

import msgspec

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.deployment.settings import DeploySettings, load
from tests.harness.kafka import ROOT

TEXT = (ROOT / "docs/how_to/own_airflow.md").read_text("utf-8")


def test_every_setting_is_known() -> None:
    names = set(re.findall(r"`(K2_\w+)`", TEXT))
    values = {name: "http://localhost:1" if name.endswith("_URL") else "x" for name in names if "_FILE" not in name}
    load({name: value for name, value in values.items() if name.startswith("K2_DEPLOY_")})
    ReportSettings.load({name: value for name, value in values.items() if name.startswith("K2_REPORT_")})
    paths = {f"K2_DEPLOY_{field.name.upper()}" for field in msgspec.structs.fields(DeploySettings)}
    paths |= {f"K2_REPORT_{field.name.upper()}" for field in dataclasses.fields(ReportSettings)}
    of_secrets = {name for name in names if name.endswith("_FILE")} - paths
    assert of_secrets == {"K2_AGENT_TOKEN_FILE", "K2_CONTROL_TOKEN_FILE"}


def test_the_pool_is_that_of_the_tasks() -> None:
    from ingest_ops.airflow.deployment_tasks import POOL

    assert f"airflow pools set {POOL} 1 " in TEXT
    assert "--include-deferred" in TEXT
