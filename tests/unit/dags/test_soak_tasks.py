"""The soak DAGs: their shape, and each task's part."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.soak.job import Job
from ingest_ops.soak.plan import SOAK_1H, Plan
from ingest_ops.soak.record import Record, State
from tests.unit.ingest_ops.soak.books import START, finished, sound

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

PLANS = {"soak_1h": ("1h", "3min"), "soak_24h": ("24h", "12h")}


@pytest.mark.parametrize("dag_id", PLANS)
def test_the_shape_is_watch_audit_report_verdict(dagbag: Any, dag_id: str) -> None:
    dag = dagbag.dags[dag_id]
    order = ["watch", "audit", "report", "verdict"]
    assert [task.task_id for task in dag.topological_sort()] == order
    assert {task.pool for task in dag.tasks} == {"ingest"}
    assert all(task.retries >= 1 for task in dag.tasks if task.task_id != "verdict")
    assert dag.get_task("verdict").retries == 0
    assert [asset.name for asset in dag.get_task("report").outlets] == ["k2_soak_report"]
    assert tuple(dag.params.get_param("plan").schema["enum"]) == PLANS[dag_id]
    assert dag.params["plan"] == PLANS[dag_id][0]


def test_the_hour_runs_daily_and_after_each_deployment(dagbag: Any) -> None:
    timetable = dagbag.dags["soak_1h"].timetable
    assert timetable.timetable.expression == "0 3 * * *"
    assert "k2_deployment" in str(timetable.asset_condition)


def test_a_new_dag_does_not_run_at_once(dagbag: Any) -> None:
    assert all(dagbag.dags[name].start_date is None for name in PLANS)


class Store(dict[str, Any]):
    """Stands for the task's state in Airflow's database."""

    def set(self, key: str, value: Any, **_: object) -> None:
        self[key] = value


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_REPORT_REPORTS", str(tmp_path))
    return tmp_path


def context(store: Store, params: Mapping[str, object] | None = None) -> dict[str, Any]:
    class Run:
        dag_id, run_id, run_type = "soak_1h", "manual__2026-01-01T00:00:00+00:00", "manual"

    form = {"plan": "1h", "selector": "", "previous_selector": None, "trial_seconds": None, **(params or {})}
    return {"task_state_store": store, "dag_run": Run, "params": form}


def test_a_retry_goes_on_with_the_first_start(reports: Path) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    from ingest_ops.airflow.soak_tasks import SoakWatch

    del reports
    store, jobs = Store(), []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            SoakWatch(task_id="watch").execute(context(store))  # type: ignore[arg-type]
        jobs.append(deferred.value.trigger.serialize()[1]["job"])
        json.dumps(jobs[-1])
        assert deferred.value.timeout.total_seconds() > 3600
    assert jobs[0] == jobs[1]
    assert jobs[0]["run_id"] == "soak_1h-manual__2026-01-01T00-00-00-00-00"
    assert jobs[0]["started"] == store["started"]


def test_an_unknown_parameter_ends_it_without_a_retry(reports: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from ingest_ops.airflow.soak_tasks import SoakWatch

    del reports
    with pytest.raises(AirflowFailException, match="unknown parameters: hours"):
        SoakWatch(task_id="watch").execute(context(Store(), {"hours": 3}))  # type: ignore[arg-type]


def job(reports: Path, plan: Plan = SOAK_1H) -> Job:
    settings = ReportSettings.load({"K2_REPORT_REPORTS": str(reports)})
    return Job.of({"plan": plan.name}, settings, run_id="soak-test", started=START, trigger="manual")


def stored(reports: Path, state: State = State.FINISHED) -> Job:
    made = job(reports)
    record: Record = finished(SOAK_1H, sound(SOAK_1H))
    record.state = state
    record.save(made.record)
    return made


@pytest.mark.parametrize(("state", "command"), [(State.ABORTED, "false"), (State.FINISHED, "")])
def test_what_was_ended_early_is_not_audited(
    reports: Path, monkeypatch: pytest.MonkeyPatch, state: State, command: str
) -> None:
    from ingest_ops.airflow.soak_tasks import SoakAudit

    monkeypatch.setenv("K2_REPORT_AUDIT_COMMAND", command)
    assert SoakAudit(task_id="audit", job=stored(reports, state).as_json()).execute({}) is None


def test_the_report_is_written_and_the_verdict_fails_with_its_reasons(reports: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from ingest_ops.airflow.soak_tasks import SoakReport, SoakVerdict

    made = stored(reports)
    found = SoakReport(task_id="report", job=made.as_json(), figures=None).execute({})
    assert found["verdict"] == "INCONCLUSIVE"
    assert Path(found["files"]["html"]) == reports / "soak" / "soak-test.html"
    with pytest.raises(AirflowFailException, match="INCONCLUSIVE: Audit of the topic: not audited"):
        SoakVerdict(task_id="verdict", found=found).execute({})

    figures = reports / "audit.json"
    figures.write_text(json.dumps({"verdict": "PASS", "reason": "clean", "totals": {}}))
    again = SoakReport(task_id="report", job=made.as_json(), figures=str(figures)).execute({})
    assert SoakVerdict(task_id="verdict", found=again).execute({}).endswith("soak-test.html")


def test_the_link_leads_to_the_report() -> None:
    from ingest_ops.airflow.soak_tasks import report_url, run_name
    from ingest_ops.report.page import BASE

    assert report_url("soak-x") == f"{BASE}/soak/soak-x.html"
    assert run_name("soak_1h", "scheduled__2026-01-01T03:00:00+00:00") == "soak_1h-scheduled__2026-01-01T03-00-00-00-00"
