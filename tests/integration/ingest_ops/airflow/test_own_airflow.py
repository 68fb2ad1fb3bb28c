"""``docs/how_to/own_airflow.md`` followed on an Airflow that has of this repository what the page says, and no more."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.harness.airflow import Alone
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

PAGE = (ROOT / "docs" / "how_to" / "own_airflow.md").read_text("utf-8")
LINES = [
    line.strip() for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.M | re.S) for line in block.splitlines()
]
ENVIRONMENT = """
import json
from ingest_ops.airflow.connections import environment
from ingest_ops.deployment.settings import load
found = load(environment())
print("SETTINGS", json.dumps([found.agent_url, found.agent_token, found.control_token, found.prometheus_url]))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The folder of DAGs is a copy, as step 2 says; nothing else of the repository is configured."""
    folder = tmp_path_factory.mktemp("own")
    dags = folder / "dags"
    dags.mkdir()
    for path in (ROOT / "dags").glob("*.py"):
        shutil.copy(path, dags)
    made = Alone(folder, dags=dags)
    del made.environment["K2_DEPLOY_AGENT_URL"]
    return made


def test_the_page_has_the_lines_that_are_followed_here() -> None:
    assert [line.split()[:3] for line in LINES] == [
        ["airflow", "pools", "set"], ["airflow", "providers", "list"], ["airflow", "dags", "list-import-errors"],
    ]  # fmt: skip


def test_every_line_of_the_page_works(own: Alone) -> None:
    pool, providers, errors = LINES
    assert own.run(pool).endswith("exit code 0")
    (made,) = [one for one in json.loads(_json(own.run("airflow pools list -o json"))) if one["pool"] == "ingest"]
    assert (str(made["slots"]), str(made["include_deferred"])) == ("1", "True")
    assert "k2-ingest" in own.run(providers)
    assert own.run("airflow dags reserialize").endswith("exit code 0")  # what the DAG processor does
    assert "No data found" in own.run(errors)
    known = {one["dag_id"] for one in json.loads(_json(own.run("airflow dags list -o json")))}
    assert known == {path.stem for path in (ROOT / "dags").glob("*.py")}


def test_connections_take_the_place_of_variables(own: Alone, tmp_path: Path) -> None:
    del tmp_path
    for line in (
        "airflow connections add k2_agent --conn-type k2_agent --conn-schema https --conn-host agent.example "
        "--conn-port 9443 --conn-password of-the-agent",
        "airflow connections add k2_control --conn-type generic --conn-password of-the-slots",
        "airflow connections add k2_prometheus --conn-type k2_prometheus --conn-schema http "
        "--conn-host prometheus.example --conn-port 9090",
    ):
        assert own.run(line).endswith("exit code 0")
    said = own.python(ENVIRONMENT)
    found = json.loads(said.partition("SETTINGS ")[2].splitlines()[0]) if "SETTINGS " in said else said
    assert found == ["https://agent.example:9443", "of-the-agent", "of-the-slots", "http://prometheus.example:9090"]


def _json(said: str) -> str:
    """The list among what a command said."""
    return said[said.index("[{") : said.rindex("}]") + 2]
