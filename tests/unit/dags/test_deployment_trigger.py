"""The wait of a deployment in Airflow: how it ends the task that holds the pool, and wakes the others."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.state_machine import State

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def trigger() -> Any:
    """Imported late: Airflow's own warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ingest_ops.airflow import deployment_trigger as trigger
    return trigger


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trigger: Any) -> Journal:
    monkeypatch.setenv("K2_DEPLOY_JOURNAL_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    monkeypatch.setenv("K2_AGENT_TOKEN", "a-token-for-tests-only")
    monkeypatch.setenv("K2_CONTROL_TOKEN", "a-token-for-tests-only")
    monkeypatch.setattr(trigger, "SETTLE_SECONDS", 0.0)
    return Journal(f"sqlite:///{tmp_path / 'journal.db'}", lambda: 1000.0)


async def _only_event(trigger: Any, name: str, *, finished: bool) -> Any:
    (event,) = [event async for event in trigger.DeploymentTrigger(name, f"airflow:{name}", finished=finished).run()]
    return event


async def test_the_task_that_holds_the_pool_ends_without_needing_the_slot_again(journal: Journal, trigger: Any) -> None:
    """Else the soak that follows a deployment has the slot, and the deployment's report waits for the soak."""
    journal.change(journal.create("d1", parse({"version": "v2"})), state=State.DONE)
    event = await _only_event(trigger, "d1", finished=True)
    assert event.task_instance_state == "success"
    journal.close()


async def test_a_wait_wakes_its_task(journal: Journal, trigger: Any) -> None:
    event = await _only_event(trigger, "never-opened", finished=False)
    assert not hasattr(event, "task_instance_state")
    assert event.payload == {"deployment_id": "never-opened"}
    journal.close()
