"""``daily_archive`` under a real Airflow: a scheduler killed in the middle, a late repair, a corrected file."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ingest.simulator.rest import Response
from ingest_ops.archive.settings import PREFIX
from ingest_ops.common.verdict import Verdict
from tests.harness.airflow import Airflow
from tests.harness.archive import table_rows
from tests.harness.archive_world import DAY, NEXT, World, Worlds
from tests.harness.registry import Registry

DAG = "daily_archive"
SECONDS = 900.0
pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def world(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Registry() as registry, Worlds(kafka, registry.url, tmp_path_factory.mktemp("archive")) as worlds:
        yield worlds.make()


@pytest.fixture(scope="module")
def airflow(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    settings = world.settings
    names = ("warehouse", "work", "bootstrap_servers", "topic", "schema_registry_url", "rest_url", "files_url")
    environment = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in names}
    environment |= {
        "K2_REPORT_REPORTS": str(settings.work.parent / "reports"),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
    }
    with Airflow(tmp_path_factory.mktemp("airflow"), environment=environment) as made:
        yield made


def run_of(airflow: Airflow) -> str:
    return airflow.trigger(DAG, {"first": DAY.isoformat(), "last": DAY.isoformat()})


def ended(airflow: Airflow, run: str) -> str:
    airflow.wait(lambda: airflow.run_state(DAG, run) in ("success", "failed"), "the run's end", seconds=SECONDS)
    return airflow.run_state(DAG, run)


def verdicts(world: World) -> list[str]:
    return [str(one.verdict) for one in world.archive().certificates.all(DAY)]


def test_the_scheduler_is_killed_in_the_middle(airflow: Airflow, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the day is compared with the exchange's files: its rows are in the work folder, nothing is committed."""
    handle, asked = world.market.rest.handle, []

    def slow(method: str, path: str, *others: Any) -> Response | None:
        if path.endswith(".zip"):
            asked.append(path)
            time.sleep(5 if len(asked) > 1 else 60)
        return handle(method, path, *others)

    monkeypatch.setattr(world.market.rest, "handle", slow)
    run = run_of(airflow)
    airflow.wait(lambda: bool(asked), "the comparison", seconds=SECONDS)
    airflow.kill("scheduler")
    assert list(world.settings.work.rglob("*.parquet"))
    assert not list(Path(world.settings.warehouse).rglob("*.parquet"))
    time.sleep(20)  # until its heartbeat is too old
    airflow.start("scheduler")
    assert ended(airflow, run) == "success"
    world.assert_equals_truth()
    assert (verdicts(world), world.faults()) == (["PASS"], [])
    assert not [path for path in world.settings.work.iterdir() if path.is_dir()]
    links = airflow.api(f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/archive/links?map_index=0")
    assert links["extra_links"]["Archive report"] == f"/k2/reports/archive/{DAY}-1d.html"
    assert (world.settings.work.parent / "reports" / "archive" / f"{DAY}-1d.html").exists()


def test_a_late_repair_after_midnight(airflow: Airflow, world: World) -> None:
    """Trades that come into the topic after the day was certified: the next run replaces it, both certificates stay."""
    symbol = world.market.ledger.symbols["ETHUSDT"]
    before = table_rows(world.archive(), DAY)
    number = world.market.rows("ETHUSDT", NEXT)[-1][0] + 1
    assert symbol.last_id == number - 1
    late = world.market.rows("ETHUSDT", DAY)[-1]
    symbol.append(late[1], late[2], late[3], late[4])  # the exchange gives it a time of the day before
    world.published.publish()
    run = run_of(airflow)
    assert ended(airflow, run) == "success"
    after = table_rows(world.archive(), DAY)
    assert after == world.truth() != before
    assert (verdicts(world), world.faults()) == (["PASS", "PASS"], [])


def test_a_file_of_the_exchange_that_is_corrected_two_days_later(airflow: Airflow, world: World) -> None:
    world.market.fault("corrected", "ETHUSDT")
    run = run_of(airflow)
    assert ended(airflow, run) == "failed"
    path = f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/archive/logs/1?map_index=0&full_content=true"
    assert "differing" in json.dumps(airflow.api(path))
    world.market.rest.daily_files.faults.clear()
    assert ended(airflow, run_of(airflow)) == "success"
    assert verdicts(world) == ["PASS", "PASS", "FAIL", "PASS"]
    assert world.archive().current(DAY).verdict is Verdict.PASS  # type: ignore[union-attr]
    assert world.faults() == []
