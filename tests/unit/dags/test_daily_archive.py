"""The tasks of the daily archive, run as a worker runs them, without a scheduler."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

AT = datetime(2026, 1, 22, 0, 30, tzinfo=UTC)


def context(partition_key: str | None = None, **params: Any) -> Any:
    run = SimpleNamespace(logical_date=AT, run_after=AT + timedelta(days=1), partition_key=partition_key)
    return {"params": {"first": None, "last": None} | params, "dag_run": run}


def days(dagbag: Any, *args: Any, **params: Any) -> Any:
    return dagbag.dags["daily_archive"].get_task("days").execute(context(*args, **params))


def test_the_days_of_a_run(dagbag: Any) -> None:
    assert days(dagbag) == ["2026-01-21"]
    assert days(dagbag, "2026-01-10") == ["2026-01-10"]
    assert days(dagbag, first="2026-01-19") == ["2026-01-19", "2026-01-20", "2026-01-21"]
    assert days(dagbag, first="2025-12-31", last="2026-01-01") == ["2025-12-31", "2026-01-01"]


@pytest.mark.parametrize("params", [{"last": "2026-01-01"}, {"first": "2020-01-01"}, {"last": "2999-01-01"}])
def test_ranges_that_are_none(dagbag: Any, params: dict[str, str]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException):
        days(dagbag, **({"first": "2026-01-05"} if "first" not in params else {}), **params)


def test_one_task_for_each_day_and_an_asset(dagbag: Any) -> None:
    archive = dagbag.dags["daily_archive"].get_task("archive")
    assert archive.is_mapped
    assert archive.upstream_task_ids == {"days"}
    assert archive.retries >= 12
    assert [asset.name for asset in archive.outlets] == ["k2_archive_day"]


def operator() -> Any:
    from ingest_ops.airflow.archive_tasks import ArchiveDay

    return ArchiveDay(task_id="archive", day="2026-01-21")


def test_a_broker_that_is_away_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    for name, value in (
        ("WAREHOUSE", tmp_path / "archive"), ("WORK", tmp_path / "work"), ("BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("TIMEOUT_SECONDS", 1),
    ):  # fmt: skip
        monkeypatch.setenv(f"K2_ARCHIVE_{name}", str(value))
    with pytest.raises(AirflowException) as caught:
        operator().execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_wrong_settings_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("K2_ARCHIVE_WORKERS", "many")
    with pytest.raises(AirflowFailException, match="K2_ARCHIVE_WORKERS"):
        operator().execute(context())
