"""The task of ``daily_archive`` on a real Kafka, run as a worker runs it: a late repair, a corrected file, the page."""

from pathlib import Path
from typing import Any

import pytest

from ingest_ops.archive.settings import PREFIX
from tests.harness.archive import table_rows
from tests.harness.archive_world import DAY, World
from tests.integration.ingest_ops.archive.conftest import MakeWorld
from tests.integration.ingest_ops.archive.test_day import small

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]
NAMES = ("warehouse", "work", "bootstrap_servers", "topic", "schema_registry_url", "rest_url", "files_url")


def run(world: World) -> dict[str, Any]:
    from ingest_ops.airflow.archive_tasks import ArchiveDay

    found: dict[str, Any] = ArchiveDay(task_id="archive", day=DAY.isoformat()).execute({})
    return found


def verdicts(world: World) -> list[str]:
    return [str(one.verdict) for one in world.archive().certificates.all(DAY)]


def test_a_late_repair_and_a_corrected_file(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    world = make_world(prepare=small)
    for name in NAMES:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(getattr(world.settings, name)))
    monkeypatch.setenv("K2_REPORT_REPORTS", str(tmp_path / "reports"))
    world.market.fault("absent")
    with pytest.raises(AirflowException, match="comparison_absent") as waits:
        run(world)
    assert not isinstance(waits.value, AirflowFailException)  # it is tried again
    world.market.rest.daily_files.faults.clear()
    first = run(world)
    assert (first["verdict"], first["url"]) == ("PASS", f"/k2/reports/archive/{DAY}-1d.html")
    assert (tmp_path / "reports" / "archive" / f"{DAY}-1d.html").exists()
    before = table_rows(world.archive(), DAY)
    late = world.market.rows("ETHUSDT", DAY)[-1]
    world.market.ledger.symbols["ETHUSDT"].append(*late[1:])  # after midnight, with a time of the day
    world.published.publish()
    assert run(world)["table_changed"] is True
    assert before != table_rows(world.archive(), DAY) == world.truth()
    world.market.fault("corrected")
    with pytest.raises(AirflowFailException, match="differing"):
        run(world)
    world.market.rest.daily_files.faults.clear()
    assert run(world)["table_changed"] is False
    assert verdicts(world) == ["INCONCLUSIVE", "PASS", "PASS", "FAIL", "PASS"]
    assert world.faults() == []
