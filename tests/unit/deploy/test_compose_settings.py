"""Every container of the service starts with the settings that compose gives it, with what ``make secrets`` wrote."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ingest.core.errors import BadSettings
from ingest.settings import load
from ingest_ops.archive.settings import ArchiveSettings
from tests.harness.kafka import ROOT
from tests.unit.deploy.test_compose import SERVICES

OURS = sorted(name for name, service in SERVICES.items() if service.get("env_file"))
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def interpolated(text: str, variables: dict[str, str]) -> str:
    """As compose does it: ``${NAME:-default}``."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], "") or match[2] or "", text)


def environment(service: str, folder: Path, variables: dict[str, str]) -> dict[str, str]:
    """What a container of the service sees; its secrets are the files that are mounted, and no others."""
    made = dict(variables) if SERVICES[service].get("env_file") else {}
    for name, value in SERVICES[service].get("environment", {}).items():
        made[name] = interpolated(str(value), variables)
    mounted = SERVICES[service].get("secrets", [])
    for name, value in made.items():
        if value.startswith("/run/secrets/"):
            secret = value.rpartition("/")[2]
            made[name] = str(folder / "secrets" / secret) if secret in mounted else f"/run/secrets/{secret}"
    return made


@pytest.fixture(params=["", "# K2_LOG_LEVEL=\nK2_BINANCE_SYMBOLS=BTCUSDT\n"], ids=["no .env before", "an .env before"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkout in which ``make secrets`` was run."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/secrets.sh", tmp_path / "deploy")
    if request.param:
        (tmp_path / ".env").write_text(request.param)
    subprocess.run([tmp_path / "deploy/secrets.sh"], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    return tmp_path


def test_the_slots_and_the_one_off_services_are_all_looked_at() -> None:
    fleet = [f"ingest-fleet-{number}" for number in (1, 2, 3)]
    slots = ["ingest", "ingest-green", "ingest-sim", "ingest-sim-green"]
    assert sorted([*slots, *fleet, "fleet-topics", "sim-topics", "topics"]) == OURS


@pytest.mark.parametrize("service", OURS)
@pytest.mark.parametrize("before", [False, True], ids=["make secrets", "after cloning"])
def test_a_container_s_settings_are_good(folder: Path, service: str, before: bool) -> None:
    lines = [] if before else (folder / ".env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    try:
        load(environment(service, folder, variables))
    except BadSettings as error:
        pytest.fail(f"{service} does not start: {error}")


@pytest.mark.parametrize("service", ["archive", "airflow-scheduler"])
def test_the_archive_s_settings_are_good(folder: Path, service: str) -> None:
    settings = ArchiveSettings.load(environment(service, folder, {}))
    url = (folder / "secrets" / "airflow_database_url").read_text()
    assert (settings.catalog["uri"], settings.bootstrap_servers) == (url, "kafka:9092")
    kept = [one.split(":")[1] for one in SERVICES[service]["volumes"] if one.startswith("archive-data:")]
    assert all(Path(one).is_relative_to(kept[0]) for one in (settings.warehouse, settings.work))


@pytest.mark.parametrize("service", ["topics", "sim-topics", "fleet-topics"])
def test_a_one_off_service_needs_no_control_api(service: str) -> None:
    given = SERVICES[service]["environment"]
    assert given["K2_CONTROL_PORT"] == ""
    assert "K2_CONTROL_TOKEN_FILE" not in given
    assert not SERVICES[service].get("secrets")
