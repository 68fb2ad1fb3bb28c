"""The rules as Prometheus's own tool sees them: each alert fires, does not fire, and behaves as said without data."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks import ALERTS
from deploy.generate import rules
from deploy.records import Record, records
from tests.deploy.cases import CASES, Case
from tests.support.kafka import ROOT

BY_NAME = {alert.name: alert for alert in ALERTS}
NAMES = [alert.name for alert in ALERTS]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no promtool: install prometheus (Debian: apt-get install prometheus)")
        pytest.skip("no promtool")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def needed(expr: str, step: int) -> list[Record]:
    """The recording rules that an expression rests on, in their order: days are evaluated quickly without the rest."""
    found = [record for record in records(step) if record.name in expr]
    below = [record for one in found for record in needed(one.expr, step)]
    return [record for record in records(step) if record in found or record in below]


def firing(name: str, series: dict[str, str], case: Case, expected: bool) -> dict[str, Any]:
    return {
        "interval": f"{case.step}s",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0',
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": 1}] if expected else [],
            }
        ],
    }


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    assert sorted(CASES) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
def test_alert_fires_does_not_fire_and_without_data(name: str, promtool: str, tmp_path: Path) -> None:
    case = CASES[name]
    tests = [firing(name, {}, case, case.no_data_fires)]
    if case.fires:
        tests += [firing(name, case.fires, case, expected=True), firing(name, case.quiet, case, expected=False)]
    alert = BY_NAME[name]
    (tmp_path / "rules.yaml").write_text(
        rules(records=needed(alert.expr, case.step), alerts=[alert], interval=case.step)
    )
    path = tmp_path / "tests.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": f"{case.step}s", "tests": tests})
    )
    run(promtool, "test", "rules", str(path))


@pytest.mark.integration
def test_the_configuration_is_one_that_prometheus_takes(promtool: str) -> None:
    run(promtool, "check", "config", "deploy/prometheus/prometheus.yaml")


@pytest.mark.integration
def test_the_configuration_is_one_that_alertmanager_takes() -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        if os.environ.get("CI"):
            pytest.fail("no amtool: install prometheus-alertmanager (Debian)")
        pytest.skip("no amtool")
    run(amtool, "check-config", "deploy/alertmanager/alertmanager.yaml")
