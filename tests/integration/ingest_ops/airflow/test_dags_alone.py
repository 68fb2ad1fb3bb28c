"""DAGs run by ``dag.test()``, as the contributing page says: an empty Airflow, no scheduler, a real journal."""

import re
from contextlib import closing

import pytest

from ingest_ops.deployment.deployment_state import DeploymentState
from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.settings import now
from ingest_ops.deployment.state_machine import State
from tests.harness.airflow import Alone
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("alone"), dags=ROOT / "dags")


def block(language: str, text: str) -> str:
    """The page's block of a language that has a text."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return next(one for one in blocks if text in one)


def opened(alone: Alone, state: State) -> str:
    """A deployment in a state; its id."""
    with closing(Journal(alone.journal_url, now)) as journal:
        facts = DeploymentState(live="blue", candidate="green")
        record = journal.create(f"d-{state.lower()}", parse({"version": "v2", "audit": "no"}), facts=facts)
        return journal.change(record, state=state).id


def test_a_task_that_fails_fails_the_run_with_its_reason(alone: Alone) -> None:
    said = alone.python(block("python", "dag.test("))
    assert "no deployment is open that one could hold" in said
    assert "\nfailed\n" in said


def test_a_dag_runs_as_the_page_says_and_does_its_work(alone: Alone) -> None:
    name = opened(alone, State.SHADOW)
    said = alone.python(block("python", "dag.test("))
    assert "\nsuccess\n" in said, said
    with closing(Journal(alone.journal_url, now)) as journal:
        record = journal.read(name)
        assert record.facts.held_by
        journal.change(record, state=State.ABORTED)


def test_the_command_does_the_same(alone: Alone) -> None:
    (command,) = (line for line in block("sh", "airflow dags test").splitlines() if "dags test" in line)
    said = alone.run(command)
    assert "exit code 0" in said, said
    assert re.search(r"DagRun Finished: dag_id=reconcile.*state=success", said), said
