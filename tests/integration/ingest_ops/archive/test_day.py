"""The archive on a real Kafka: what is in the topic becomes the table, once, whatever is wrong with the topic."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ingest_ops.archive import build
from ingest_ops.archive.errors import ArchiveError, NotFinished, TryAgain
from ingest_ops.archive.importing import import_day
from ingest_ops.archive.lock import locked
from ingest_ops.archive.positions import Position
from ingest_ops.archive.source import DayReader
from ingest_ops.common.verdict import Verdict
from tests.harness.archive import DAY_US, GeneratedMarket, midnight, table_rows
from tests.harness.archive_world import DAY, NEXT, World
from tests.integration.ingest_ops.archive.conftest import MakeWorld

pytestmark = pytest.mark.integration


def codes(world: World, symbol: str, day: Any = DAY) -> list[tuple[str, int | None, int | None]]:
    current = world.archive().current(day)
    assert current is not None
    entry = current.entry(symbol)
    assert entry is not None
    return [(one.code, one.first_id, one.last_id) for one in entry.findings if one.code != "void"]


def test_two_days_are_certified_and_a_second_run_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    world.published.abort([("BTCUSDT", b"\0\0\0\0\x01never read", midnight(DAY) // 1000)])
    first, second = world.run(), world.run(NEXT)
    assert [one.certificate.verdict for one in (first, second)] == [Verdict.PASS, Verdict.PASS]
    for day in (DAY, NEXT):
        world.assert_equals_truth(day)
    assert second.certificate.previous is not None
    assert second.certificate.previous.root == first.certificate.root
    quiet = first.certificate.entry("QUIETUSDT")
    assert quiet is not None
    assert (quiet.trades, quiet.previous_last_id, quiet.end) == (0, 4, "position, and the exchange's history")
    snapshots = len(world.archive().table.table.snapshots())
    again = world.run()
    assert (again.changed, again.certified, again.certificate) == (False, False, first.certificate)
    assert len(world.archive().table.table.snapshots()) == snapshots
    assert world.faults(DAY, NEXT) == []
    assert not [path for path in world.settings.work.iterdir() if path.is_dir()]


def test_a_day_is_over_at_midnight(make_world: MakeWorld) -> None:
    world = make_world()
    with pytest.raises(NotFinished):
        world.run(DAY + timedelta(days=2))


def test_one_run_at_a_day_at_a_time(make_world: MakeWorld) -> None:
    world = make_world()
    name = f"{world.settings.namespace}.{world.settings.table}-{DAY}"
    with locked(world.settings.work / f"{name}.lock", "test"), pytest.raises(TryAgain, match="another run"):
        world.run()
    assert world.run().certificate.verdict is Verdict.PASS


def test_a_trade_that_the_topic_lost_fails(make_world: MakeWorld) -> None:
    def lose(values: list[tuple[str, bytes, int]]) -> list[tuple[str, bytes, int]]:
        lost = next(one for one in values if one[0] == "ETHUSDT" and one[2] * 1000 > midnight(DAY) + DAY_US // 2)
        return [one for one in values if one is not lost]

    world = make_world(lose)
    certificate = world.run().certificate
    ids = [one[0] for one in world.truth()["ETHUSDT"]]
    kept = {one[0] for one in _table(world)["ETHUSDT"]}
    (lost,) = set(ids) - kept
    assert certificate.verdict is Verdict.FAIL
    assert codes(world, "ETHUSDT") == [("missing", lost, lost), ("only_theirs", lost, lost)]
    assert world.faults() == []


def _table(world: World) -> Any:
    return table_rows(world.archive(), DAY)


def test_records_twice_and_out_of_order_are_written_once_in_order(make_world: MakeWorld) -> None:
    def spoil(values: list[tuple[str, bytes, int]]) -> list[tuple[str, bytes, int]]:
        middle = len(values) // 2
        part = values[middle : middle + 200]
        return [*values[:middle], *part[100:], *part[:100], *part[150:], *values[middle + 200 :]]

    world = make_world(spoil)
    certificate = world.run().certificate
    assert certificate.verdict is Verdict.FAIL
    world.assert_equals_truth()
    assert {one.code for each in certificate.symbols for one in each.findings} == {"duplicate", "void"}


def test_a_late_void_replaces_the_day_and_keeps_both_certificates(make_world: MakeWorld) -> None:
    world = make_world()
    archive_before = world.run().certificate
    symbol = world.market.ledger.symbols["ETHUSDT"]
    number = world.market.rows("ETHUSDT", DAY)[50][0]
    symbol.voids.append((number, number))
    world.published.publish()
    outcome = world.run()
    assert (outcome.changed, outcome.certificate.sequence, outcome.certificate.verdict) == (False, 2, Verdict.FAIL)
    assert codes(world, "ETHUSDT") == [("trade_in_void", number, number)]
    assert len(world.archive().certificates.names(DAY)) == 2
    assert archive_before.root == outcome.certificate.root


@pytest.mark.parametrize(
    ("form", "verdict", "code"),
    [
        ("absent", Verdict.INCONCLUSIVE, "comparison_absent"),
        ("truncated", Verdict.INCONCLUSIVE, "comparison_checksum"),
        ("checksum", Verdict.INCONCLUSIVE, "comparison_checksum"),
        ("corrected", Verdict.FAIL, "differing"),
        ("extra", Verdict.FAIL, "only_theirs"),
        ("hole", Verdict.PASS, "only_ours"),
    ],
)
def test_the_exchanges_file(make_world: MakeWorld, form: str, verdict: Verdict, code: str) -> None:
    world = make_world(prepare=small)
    world.market.fault(form, "ETHUSDT")
    assert world.run().certificate.verdict is verdict
    assert [one for one, _, _ in codes(world, "ETHUSDT")] == [code]
    world.market.rest.daily_files.faults.clear()
    later = world.run()
    assert (later.changed, later.certified, later.certificate.verdict) == (False, True, Verdict.PASS)
    assert world.faults() == []


def small(market: GeneratedMarket) -> None:
    market.listed("ETHUSDT", 1000)
    for day in (DAY - timedelta(days=1), DAY, NEXT):
        market.fill("ETHUSDT", day, 100)
    market.now_us = midnight(NEXT + timedelta(days=1))


def test_what_is_not_shown_is_no_pass(make_world: MakeWorld) -> None:
    """Recording begins within the day; a quiet symbol, whose end only the exchange can show, is not asked for."""

    def prepare(market: GeneratedMarket) -> None:
        market.listed("ETHUSDT", 1000)
        market.fill("ETHUSDT", DAY, 100)
        market.now_us = midnight(NEXT) + 3_600_000_000

    world = make_world(prepare=prepare)
    assert world.run().certificate.verdict is Verdict.INCONCLUSIVE
    assert codes(world, "ETHUSDT") == [("start_not_shown", 1000, 1000)]
    world.run(rest_url="")
    assert [one for one, _, _ in codes(world, "ETHUSDT")] == ["start_not_shown", "end_not_shown"]
    world.run(grace_seconds=2 * 86_400)
    assert [one for one, _, _ in codes(world, "ETHUSDT")] == ["start_not_shown", "end_not_shown"]


def test_trades_that_the_exchange_has_and_the_service_has_not_yet(make_world: MakeWorld) -> None:
    world = make_world(prepare=lambda market: _until_noon(market))
    position = Position(1000, 1099, None, 0)
    assert position.last_id == world.market.ledger.symbols["ETHUSDT"].last_id
    world.market.trade("ETHUSDT", midnight(DAY) + DAY_US - 1)  # not published
    world.market.now_us = midnight(NEXT) + 3_600_000_000
    certificate = world.run(files_url="").certificate
    entry = certificate.entry("ETHUSDT")
    assert entry is not None
    assert "end_not_shown" in [one.code for one in entry.findings]


def _until_noon(market: GeneratedMarket) -> None:
    market.listed("ETHUSDT", 1000)
    for number in range(100):
        market.trade("ETHUSDT", midnight(DAY) + number)
    market.now_us = midnight(NEXT) + 3_600_000_000


def test_imported_history_joins_the_recording(make_world: MakeWorld) -> None:
    """A recorded day and the same day from the exchange's files have one root; ids go on where the import ended."""
    world = make_world(prepare=small)
    before = DAY - timedelta(days=1)
    now_us = world.market.now_us
    imported = import_day(world.settings, before, ["ETHUSDT"], {}, now_us)
    recorded = world.run().certificate
    assert (imported.certificate.verdict, recorded.verdict) == (Verdict.PASS, Verdict.PASS)
    assert world.faults(before, DAY) == []
    with pytest.raises(ArchiveError, match="was recorded"):
        import_day(world.settings, DAY, ["ETHUSDT"], {}, now_us)
    aside = replace(world.settings, warehouse=world.settings.warehouse + "-aside")
    again = import_day(aside, DAY, ["ETHUSDT"], {}, now_us).certificate
    assert (again.root, again.origin) == (recorded.root, "exchange-files")


def test_what_a_killed_run_has_read_is_read_again_only_if_it_fails(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[tuple[str, bytes, int]] = []

    def lose(values: list[tuple[str, bytes, int]]) -> list[tuple[str, bytes, int]]:
        lost.append(next(one for one in values if one[2] * 1000 > midnight(DAY) + DAY_US // 2))
        return [one for one in values if one is not lost[0]]

    reads: list[Any] = []
    world, read = make_world(lose, prepare=small), DayReader._read

    def noted(self: DayReader, *args: Any) -> Any:
        reads.append(args)
        return read(self, *args)

    monkeypatch.setattr(DayReader, "_read", noted)
    _interrupted(world, monkeypatch)
    world.published.commit(lost)  # a repair, while nothing runs
    assert world.run().certificate.verdict is Verdict.PASS
    assert len(reads) == 2
    world.assert_equals_truth()
    _interrupted(world, monkeypatch)
    assert world.run().certified is False
    assert len(reads) == 3


def _interrupted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends when the topic is read and the first bucket is written."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_whole", end)
        with pytest.raises(KeyboardInterrupt):
            world.run()
