"""``docs/how_to/own_airflow.md`` followed on an Airflow that has of this repository what the page says, and no more."""

import json
import re
import shutil

import pytest

from tests.harness.airflow import Alone
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

PAGE = (ROOT / "docs" / "how_to" / "own_airflow.md").read_text("utf-8")
LINES = [
    line.strip() for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.M | re.S) for line in block.splitlines()
]


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


def _json(said: str) -> str:
    """The list among what a command said."""
    return said[said.index("[{") : said.rindex("}]") + 2]
