"""The tasks of the deployment DAGs and a run that is over, used twice, or undone. No scheduler."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_ops.airflow.waiting import announced
from ingest_ops.deployment.journal import Journal, Record
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.settings import now
from ingest_ops.deployment.state_machine import State

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

RUN = "manual__2026-01-21T10:15:00+00:00"
OWNER = f"airflow deploy_blue_green {RUN}"
PARAMS = {"version": "v2", "audit": "no"}


class Ti:
    """A task instance that knows which runs are active."""

    task_id = "roll_back"
    acquiring = "queued"
    """The state of the task that acquires the pool."""

    def __init__(self, *active: str, result: Any = None) -> None:
        self.active = active
        self.result = result

    def get_dr_count(self, dag_id: str, *, states: list[str], run_ids: list[str] | None = None) -> int:
        assert "running" in states
        if run_ids is None:
            return sum(one.startswith(f"{dag_id} ") for one in self.active)
        return sum(f"{dag_id} {one}" in self.active for one in run_ids)

    def get_task_states(self, dag_id: str, *, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert (dag_id, task_ids) == ("deploy_blue_green", ["acquire_pool"])
        return {run_ids[0]: {"acquire_pool": self.acquiring}}

    def xcom_pull(self, task_ids: str) -> Any:
        return self.result


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    for name, value in {
        "JOURNAL_URL": url, "REPORTS": str(tmp_path), "AGENT_URL": "http://127.0.0.1:9",
        "PROMETHEUS_URL": "http://127.0.0.1:9", "LEASE_SECONDS": "0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"K2_DEPLOY_{name}", value)
    made = Journal(url, now)
    yield made
    made.close()


def context(
    ti: Ti, *, run_id: str = RUN, dag_id: str = "deploy_blue_green", at: float | None = None, **params: Any
) -> Any:
    run = SimpleNamespace(
        dag_id=dag_id, run_id=run_id, triggering_user_name="ada",
        run_after=datetime.fromtimestamp(now() if at is None else at, UTC), start_date=None,
    )  # fmt: skip
    return {"params": PARAMS | params, "dag_run": run, "ti": ti}


def opened(journal: Journal, state: State = State.SHADOW, *, owner: str = OWNER) -> Record:
    from ingest_ops.airflow.deployment_tasks import deployment_name
    from ingest_ops.deployment.deployment_state import DeploymentState

    name = deployment_name("deploy_blue_green", RUN)
    facts = DeploymentState(owner=owner, live="blue", candidate="green")
    return journal.change(journal.create(name, parse(PARAMS), facts=facts), state=state)


@pytest.mark.parametrize(("state", "task"), [(State.APPROVAL, "cut_over"), (State.RETIRE, "retire_blue")])
def test_a_task_waits_without_a_worker_while_a_person_holds_the_deployment(
    dagbag: Any, journal: Journal, state: State, task: str
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    record = opened(journal, state)
    journal.change(record, facts=record.facts.with_(held_by="ada", entered=now()))
    with pytest.raises(TaskDeferred) as deferred:
        dagbag.dags["deploy_blue_green"].get_task(task).execute(context(Ti()))
    assert deferred.value.trigger.deployment_id == record.id
    assert deferred.value.trigger.finished is False


def reconciled(dagbag: Any, ti: Ti) -> None:
    import time

    time.sleep(0.2)  # its lease of 0.1 s has run out
    task = dagbag.dags["reconcile"].get_task("reconcile")
    task.seconds = 0.0
    task.execute(context(ti, dag_id="reconcile", run_id="r1"))


@pytest.mark.parametrize("state", [State.SHADOW, State.APPROVAL, State.VALIDATE])
def test_a_deployment_whose_run_is_over_is_undone(dagbag: Any, journal: Journal, state: State) -> None:
    record = opened(journal, state)
    reconciled(dagbag, Ti())
    after = journal.read(record.id)
    assert after.state in (State.ABORTING, State.ROLLING_BACK)
    assert "its run is over" in after.facts.reason
    assert RUN in after.facts.reason


@pytest.mark.parametrize(
    ("owner", "active"), [(OWNER, (OWNER.removeprefix("airflow "),)), ("", ())], ids=["its run goes on", "no run"]
)
def test_a_deployment_that_has_its_run_or_needs_none_goes_on(
    dagbag: Any, journal: Journal, owner: str, active: tuple[str, ...]
) -> None:
    record = opened(journal, State.SHADOW, owner=owner)
    reconciled(dagbag, Ti(*active))
    assert journal.read(record.id).facts.cancelled_by == ""


def test_a_run_id_that_was_used_before_is_refused_by_every_task(dagbag: Any, journal: Journal) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    record = opened(journal)
    journal.change(record, state=State.DONE)
    later = context(Ti(), at=now() + 3600)
    dag = dagbag.dags["deploy_blue_green"]
    for task in ("acquire_pool", "wait_for_open_deployment", "build", "cut_over", "report"):
        one = dag.get_task(task)
        with pytest.raises(AirflowFailException, match=r"another run id|choose another id"):
            one.poke(later) if task == "wait_for_open_deployment" else one.execute(later)
    assert dag.get_task("roll_back").execute(later) == "nothing was begun"
    assert journal.read(record.id).state is State.DONE


def test_the_same_run_with_another_version_is_refused(dagbag: Any, journal: Journal) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    opened(journal)
    with pytest.raises(AirflowFailException, match="another plan"):
        dagbag.dags["deploy_blue_green"].get_task("acquire_pool").execute(context(Ti(), version="v3"))


def test_the_link_of_a_roll_back_leads_to_what_it_undid(dagbag: Any) -> None:
    (link,) = dagbag.dags["roll_back"].get_task("roll_back").operator_extra_links
    ti = Ti(result={"deployment": "deploy-x"})
    ti.dag_id, ti.run_id = "roll_back", "r1"  # type: ignore[attr-defined]
    assert link.get_link(None, ti_key=ti) == "/k2/reports/deployments/deploy-x.html"
    ti.result = None
    assert link.get_link(None, ti_key=ti) == "/k2/reports/deployments/back-r1.html"


def test_every_parameter_that_has_a_default_may_be_left_as_it_is(dagbag: Any) -> None:
    """The form marks a parameter required unless it has a value or may be null: an empty text is neither."""
    for dag in dagbag.dags.values():
        for name, param in dag.params.items():
            schema = dag.params.get_param(name).schema
            types = schema.get("type", [])
            assert param != "" or "null" in types, f"{dag.dag_id}: {name} cannot be sent as it is"


@pytest.mark.parametrize(
    ("active", "waited", "outcome"),
    [(("soak_24h r1",), 4000, "soak_24h holds"), ((), 10, ""), ((), 4000, "airflow pools set ingest 1")],
    ids=["a soak holds it", "a moment ago", "no pool"],
)
def test_a_deployment_that_waits_for_the_pool_says_for_whom(
    dagbag: Any, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, active: tuple[str, ...],
    waited: float, outcome: str,
) -> None:  # fmt: skip
    from airflow.sdk.exceptions import AirflowFailException

    from ingest_ops.airflow import deployment_tasks as tasks

    del journal
    monkeypatch.setattr(tasks, "OPENING_SECONDS", 0.0)
    task = dagbag.dags["deploy_blue_green"].get_task("wait_for_open_deployment")
    said: list[str] = []
    monkeypatch.setattr(type(task), "log", SimpleNamespace(info=lambda text, *parts: said.append(text % parts)))
    made = context(Ti(*active), at=now() - waited)
    if outcome.startswith("airflow"):
        with pytest.raises(AirflowFailException, match=outcome):
            task.poke(made)
        return
    assert task.poke(made) is False
    assert outcome in "".join(said)
    assert bool(announced(tmp_path, 0.0)) == bool(active), "a soak that follows a deployment makes way"


@pytest.mark.parametrize(
    ("acquiring", "waited", "fails"), [("scheduled", 61.0, True), ("scheduled", 59.0, False), ("queued", 61.0, False)]
)
def test_a_pool_that_does_not_exist_is_said_within_a_minute(
    dagbag: Any, journal: Journal, monkeypatch: pytest.MonkeyPatch, acquiring: str, waited: float, fails: bool
) -> None:
    """The run waited for another one for an hour before it began, which does not count."""
    from airflow.sdk.exceptions import AirflowFailException

    from ingest_ops.airflow import deployment_tasks as tasks

    del journal
    monkeypatch.setattr(tasks, "OPENING_SECONDS", 0.0)
    ti = Ti()
    ti.acquiring = acquiring
    made = context(ti, at=now() - 3600)
    made["dag_run"].start_date = datetime.fromtimestamp(now() - waited, UTC)
    task = dagbag.dags["deploy_blue_green"].get_task("wait_for_open_deployment")
    if fails:
        with pytest.raises(AirflowFailException, match=r"not given within 61 s.*airflow pools set ingest 1"):
            task.poke(made)
    else:
        assert task.poke(made) is False


def test_the_wait_for_a_soak_says_until_when(dagbag: Any, tmp_path: Path) -> None:
    from ingest_ops.airflow.deployment_tasks import _until
    from ingest_ops.soak.plan import PLANS
    from ingest_ops.soak.record import Record as Soak

    del dagbag
    begun = datetime(2026, 1, 22, 3, 0, tzinfo=UTC).timestamp()
    Soak("soak-1", PLANS["1h"], begun).save(tmp_path / "soak" / "records" / "soak-1.json")
    (tmp_path / "soak" / "records" / "broken.json").write_text("{")
    ended = begun + PLANS["1h"].run_seconds
    assert _until(tmp_path, begun + 60) == f" until {datetime.fromtimestamp(ended, UTC):%Y-%m-%d %H:%M} UTC"
    assert _until(tmp_path, ended + 1) == "", "a record that was left behind says nothing"


@pytest.mark.parametrize(("state", "task"), [(State.MANUAL, "person"), (State.DONE, "report"), (None, "report")])
def test_a_person_is_asked_only_where_it_could_go_neither_on_nor_back(
    dagbag: Any, journal: Journal, state: State | None, task: str
) -> None:
    said: dict[str, Any] = {}
    ti: Any = Ti()
    ti.xcom_push = lambda key, value: said.update({key: value})
    if state is not None:
        record = opened(journal, state)
        journal.change(record, facts=record.facts.with_(reason="no slot writes"))
    found = dagbag.dags["deploy_blue_green"].get_task("need_person").python_callable(**context(ti))
    assert found == task
    assert (task == "person") == ("no slot writes" in said.get("evidence", "") and "By hand" in said["evidence"])
