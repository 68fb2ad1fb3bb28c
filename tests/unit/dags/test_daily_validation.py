"""The tasks of the daily validation, run as a worker runs them, without a scheduler."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

AT = datetime(2026, 1, 22, 0, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_REPORT_REPORTS", str(tmp_path))
    monkeypatch.setenv("K2_REPORT_PROMETHEUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("K2_REPORT_RETRIES", "0")
    monkeypatch.setenv("K2_REPORT_SCRAPE_SECONDS", "60")
    return tmp_path


class Ti:
    """What tasks tell each other."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], Any] = {}
        self.task = ""

    def xcom_push(self, key: str, value: Any) -> None:
        self.said[self.task, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.said.get((task_ids, key))


def context(ti: Ti, logical_date: datetime | None = AT, partition_key: str | None = None, **params: Any) -> Any:
    run = SimpleNamespace(logical_date=logical_date, run_after=AT + timedelta(days=1), partition_key=partition_key)
    return {"params": {"days": 2, "end": None, "refresh": False} | params, "dag_run": run, "ti": ti}


@pytest.fixture
def run(dagbag: Any) -> Callable[..., Any]:
    dag = dagbag.dags["daily_validation"]

    def execute(task: str, ti: Ti, **changes: Any) -> Any:
        ti.task = task
        made = context(ti, **changes)
        operator = dag.get_task(task)
        made["outlet_events"] = {asset: SimpleNamespace(extra={}) for asset in operator.outlets}
        found = operator.execute(made)
        ti.said[task, "return_value"] = found
        return found

    return execute


def test_the_report_is_made_whatever_became_of_the_reading(dagbag: Any) -> None:
    dag = dagbag.dags["daily_validation"]
    assert dag.get_task("report").trigger_rule == "all_done"
    assert dag.get_task("report").upstream_task_ids == {"audit", "read"}
    assert dag.get_task("verdict").upstream_task_ids == {"report"}
    assert dag.get_task("read").retries == 4
    assert dag.get_task("verdict").retries == 0
    assert [asset.name for asset in dag.get_task("report").outlets] == ["k2_validation_report"]


def test_prometheus_away_is_tried_again_and_never_a_pass(run: Callable[..., Any], reports: Path) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    ti = Ti()
    with pytest.raises(AirflowException, match="2026-01-21") as caught:
        run("read", ti)
    assert not isinstance(caught.value, AirflowFailException), "a retry may help"
    found = run("report", ti)
    assert found["verdict"] == "INCONCLUSIVE"
    assert any("not read" in reason for reason in found["reasons"])
    assert found["url"] == "/k2/reports/validation/2026-01-21-2d.html"
    assert (reports / "validation" / "2026-01-21-2d.html").exists()
    with pytest.raises(AirflowFailException, match="INCONCLUSIVE"):
        run("verdict", ti)


def test_a_kept_good_day_passes_without_prometheus(run: Callable[..., Any], reports: Path) -> None:
    from ingest_ops.validation import day_store
    from tests.harness.production_week import calm
    from tests.harness.validation_demo import evidence
    from tests.unit.ingest_ops.validation.days import day_of

    world = calm(step=60.0)
    for at in (6, 7):
        day_store.save(reports / "validation" / "days", day_of(world, at))
    evidence(world, reports)
    ti = Ti()
    assert run("report", ti)["verdict"] == "PASS", ti.said
    assert run("verdict", ti) == "PASS"


def test_missed_reports_are_made_up_for(run: Callable[..., Any], reports: Path) -> None:
    from ingest_ops.validation.daily import missed_reports

    folder = reports / "validation"
    folder.mkdir()
    assert missed_reports(folder, date(2026, 1, 21), 7) == [], "the first run has missed nothing"
    (folder / "2026-01-17-7d.json").write_text("{}")
    (folder / "2026-01-19-7d.json").write_text("{}")
    assert missed_reports(folder, date(2026, 1, 21), 7) == [date(2026, 1, 18), date(2026, 1, 20)]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, date(2026, 1, 21)),
        ({"logical_date": None}, date(2026, 1, 22)),
        ({"end": "2026-01-10"}, date(2026, 1, 10)),
        ({"partition_key": "2026-01-19"}, date(2026, 1, 19)),
        ({"partition_key": "2026-01-19", "end": "2026-01-10"}, date(2026, 1, 10)),
    ],
)
def test_the_day_is_the_one_before_the_run(dagbag: Any, changes: dict[str, Any], end: date) -> None:
    """A run by hand has no logical date."""
    operator = dagbag.dags["daily_validation"].get_task("read")
    assert operator.window(context(Ti(), **changes)) == (end, 2)


@pytest.mark.parametrize("params", [{"prometheus": "http://elsewhere"}, {"end": "2999-01-01"}])
def test_unknown_parameters_and_days_to_come_are_refused(dagbag: Any, params: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException):
        dagbag.dags["daily_validation"].get_task("read").window(context(Ti(), **params))


def test_wrong_settings_are_not_tried_again(dagbag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("K2_REPORT_MEMORY_MB", "much")
    with pytest.raises(AirflowFailException, match="K2_REPORT_MEMORY_MB"):
        dagbag.dags["daily_validation"].get_task("read").settings()


def test_an_audit_of_an_earlier_day_is_not_made(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_REPORT_AUDIT_COMMAND", "false")
    assert run("audit", Ti()) is None


def test_the_plugin_offers_the_page_and_the_links() -> None:
    from ingest_ops.airflow.plugin import IngestOpsPlugin

    views = {view["destination"]: view["href"] for view in IngestOpsPlugin.external_views}
    assert views == {
        "nav": "/k2/reports/theme",
        "dag": "/k2/reports/theme?dag={DAG_ID}",
        "dag_run": "/k2/reports/theme?dag={DAG_ID}&run={RUN_ID}",
    }
    assert [app["url_prefix"] for app in IngestOpsPlugin.fastapi_apps] == ["/k2"]
    assert {link.name for link in IngestOpsPlugin.operator_extra_links} >= {"Soak report", "Validation report"}


def test_the_page_asks_airflow_itself_who_is_there() -> None:
    from fastapi.testclient import TestClient

    from ingest_ops.airflow.plugin import IngestOpsPlugin

    client = TestClient(IngestOpsPlugin.fastapi_apps[0]["app"], raise_server_exceptions=False)
    for path in ("/reports/", "/reports.json", "/reports/validation/2026-01-21-7d.html"):
        answer = client.get(path)
        assert answer.status_code >= 400
        assert "validation" not in answer.text


@pytest.mark.parametrize(
    ("params", "name"), [({}, "2026-01-21-2d"), ({"end": "2026-01-19", "days": 7}, "2026-01-19-7d")]
)
def test_every_task_links_to_the_report_of_its_run_before_it_is_made(
    dagbag: Any, params: dict[str, Any], name: str
) -> None:
    """Airflow gives the worker's task instance in place of its key."""
    made = context(Ti(), **params)
    instance = SimpleNamespace(get_template_context=lambda: made)
    for task in dagbag.dags["daily_validation"].tasks:
        (link,) = task.operator_extra_links
        assert link.get_link(task, ti_key=instance) == f"/k2/reports/validation/{name}.html"
