"""The lane of books with its snapshots, without a broker and an exchange."""

import json
from typing import Any

import pytest

from ingest.core.batch import Span
from ingest.core.errors import Retry
from ingest.core.market_events import BookSnapshot, DepthUpdate
from ingest.core.pending_batches import PendingBatches
from ingest.core.streams import DEPTH
from ingest.core.trade import Position
from ingest.kafka.stream_encoding import BookEncoder
from ingest.metrics import Metrics
from ingest.service.book_lane import BookLane, wrong_with
from ingest.service.book_snapshots import AGAIN_SECONDS, BookSnapshots
from ingest.service.lane_counters import StreamCounters

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SENT = 1_700_000_000_000_000


def update(first: int, last: int, symbol: str = "BTCUSDT", price: str = "1.0") -> DepthUpdate:
    return DepthUpdate(symbol, first, last, SENT + last, [(price, "2.0")], [])


def book(last: int) -> BookSnapshot:
    return BookSnapshot(last, [("1.0", "1.0")], [("2.0", "1.0")])


class World:
    """A lane that writes, with a clock and an exchange that answers what it is given."""

    def __init__(self, *, active: bool = True, held_bytes: int = 10**7) -> None:
        self.now = 100.0
        self.share = 0.0
        self.missing = False
        self.answers: list[BookSnapshot | Retry] = []
        self.asked: list[str] = []
        self.outbox = PendingBatches(limit=1000, batch_records=1000)
        self.metrics = Metrics(process=False)
        self.lane = BookLane(
            grace_seconds=0.25, stream=DEPTH, outbox=self.outbox, counters=StreamCounters(self.metrics, "depth"),
            room_for=lambda: self.share, held_bytes=held_bytes, dead_letter_max_bytes=1000,
            monotonic=lambda: self.now, time_ns=lambda: SENT * 1000,
        )  # fmt: skip
        self.lane.use(BookEncoder(1, dict.fromkeys(SYMBOLS, ("B", "Q"))))
        for symbol in SYMBOLS:
            self.lane.add(symbol, None)
        if active:
            self.lane.take_up({}, {})
        self.snapshots = BookSnapshots(
            self.lane, self, every_seconds=3600.0, trades_first=lambda: self.missing, monotonic=lambda: self.now,
            sleep=self.sleep,
        )  # fmt: skip

    async def book(self, symbol: str) -> BookSnapshot:
        self.asked.append(symbol)
        answer = self.answers.pop(0)
        if isinstance(answer, Retry):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def rows(self) -> list[tuple[str, str, int, int]]:
        found: list[Span] = []
        while (batch := self.outbox.take()) is not None:
            found += batch.spans
        return [(name, kind, first, last) for name, kind, first, last, _, _ in found]

    def event(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value("ingest_stream_events_total", {"stream": "depth", "event": name})
        return value or 0.0


async def test_a_new_book_gets_its_snapshot_in_front_of_what_follows_it() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    assert world.snapshots.next_symbol() == "BTCUSDT"
    world.answers = [book(14)]
    await world.snapshots._take("BTCUSDT")
    world.lane.on_trades("a", [update(13, 14), update(15, 20)])
    name = "depth:BTCUSDT"
    assert world.rows() == [
        (name, "update", 10, 12), (name, "update", 13, 14), (name, "snapshot", 14, 14), (name, "update", 15, 20),
    ]  # fmt: skip
    assert world.lane.books() == {"recorded": 2, "begun": 1, "in_sync": 1}
    world.lane.publish()
    assert not world.lane.awaits_snapshots
    world.lane.on_trades("a", [update(1, 2, "ETHUSDT")])
    world.lane.publish()
    assert world.lane.awaits_snapshots
    world.snapshots._not_before["ETHUSDT"] = world.now + 1.0
    assert world.snapshots.next_symbol() is None


async def test_a_snapshot_that_is_too_old_is_asked_for_again_later() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    world.answers = [book(9), book(12)]
    await world.snapshots._take("BTCUSDT")
    assert world.event("snapshot_refused") == 1
    assert world.snapshots.next_symbol() is None
    world.now += AGAIN_SECONDS
    assert world.snapshots.next_symbol() == "BTCUSDT"
    await world.snapshots._take("BTCUSDT")
    assert [row[1] for row in world.rows()] == ["update", "snapshot"]


async def test_a_crossed_snapshot_is_refused_and_the_updates_go_on() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    world.answers = [BookSnapshot(12, [("2.0", "1.0")], [("2.0", "1.0")])]
    await world.snapshots._take("BTCUSDT")
    world.lane.on_trades("a", [update(13, 13)])
    assert [row[1] for row in world.rows()] == ["update", "update"]
    assert world.event("crossed") == 1


async def test_a_snapshot_without_an_exact_record_is_refused_and_the_updates_go_on() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    world.answers = [BookSnapshot(12, [("1.0000000001", "1.0")], [("2.0", "1.0")])]
    await world.snapshots._take("BTCUSDT")
    world.lane.on_trades("a", [update(13, 13)])
    assert [row[1] for row in world.rows()] == ["update", "update"]
    assert world.event("rejected") == 1


async def test_no_answer_holds_nothing_up() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    world.answers = [Retry("busy", after=3.0)]
    await world.snapshots._take("BTCUSDT")
    world.lane.on_trades("a", [update(13, 13)])
    assert [row[1] for row in world.rows()] == ["update", "update"]
    assert world.now >= 103.0


async def test_books_that_are_not_in_sync_come_first_then_busy_ones_and_regular_ones_when_due() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12), update(1, 2, "ETHUSDT"), update(3, 4, "ETHUSDT")])
    assert world.snapshots.next_symbol() == "ETHUSDT"
    world.answers = [book(4), book(12), book(4)]
    await world.snapshots._take("ETHUSDT")
    assert world.snapshots.next_symbol() == "BTCUSDT"
    await world.snapshots._take("BTCUSDT")
    assert world.snapshots.next_symbol() is None
    world.now += 3600.0
    assert world.snapshots.next_symbol() == "ETHUSDT"
    world.lane.stand_by()
    assert world.snapshots.next_symbol() is None


def test_a_gap_is_declared_after_the_grace_and_only_where_no_connection_fills_it() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12), update(15, 16)])
    world.lane.tick()
    world.lane.on_trades("b", [update(13, 14)])
    world.lane.on_trades("a", [update(20, 21)])
    world.lane.tick()
    assert world.lane.gaps() == 1
    world.now += 0.3
    world.lane.tick()
    world.lane.tick()
    assert [row[1:] for row in world.rows()] == [
        ("update", 10, 12), ("update", 13, 14), ("update", 15, 16), ("break", 17, 19), ("update", 20, 21),
    ]  # fmt: skip
    assert (world.lane.gaps(), world.lane.held, world.event("break")) == (0, 0, 1)


def test_without_room_updates_are_shed_and_the_break_is_declared_once_there_is_room() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12)])
    world.share = 0.8
    world.lane.on_trades("a", [update(13, 14), update(15, 16)])
    world.lane.tick()
    world.share = 0.1
    world.lane.on_trades("a", [update(17, 18)])
    rows = world.rows()
    assert rows[0][1:] == ("update", 10, 12)
    assert [row[1] for row in rows[1:]][-1] == "update"
    due = 10
    for _, _, first, last in rows:
        assert first == due
        due = last + 1
    assert world.event("shed") >= 1
    assert world.event("break") >= 1


def test_an_update_without_an_exact_record_is_a_dead_letter_and_a_break() -> None:
    world = World()
    world.lane.on_trades("a", [update(10, 12), update(13, 13, price="1e5"), update(14, 15)])
    batch = world.outbox.take()
    assert batch is not None
    assert [(span[1], span[2], span[3]) for span in batch.spans] == [
        ("update", 10, 12), ("break", 13, 13), ("update", 14, 15),
    ]  # fmt: skip
    (letter,) = batch.dead_letters
    assert (letter.reason, letter.symbol) == ("bad_decimal", "BTCUSDT")


def test_a_standby_takes_over_without_a_break_and_after_a_crash_with_one() -> None:
    for position, kinds in ((12, ["update", "update"]), (5, ["break", "update", "update", "update"])):
        world = World(active=False)
        world.lane.on_trades("a", [update(10, 12), update(13, 14), update(15, 16)])
        positions = {"depth:BTCUSDT": Position(1, position, 1, SENT - 10)}
        world.lane.writer_at(positions)
        world.lane.take_up({"depth:BTCUSDT": position + 1}, positions)
        world.now += 1.0
        world.lane.tick()
        rows = world.rows()
        assert [row[1] for row in rows] == kinds
        assert world.lane.held == 0
        assert world.lane.states["BTCUSDT"].synced == (position == 12)


def test_memory_of_a_standby_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.service.span_lane.HELD_EVENTS", 5)
    world = World(active=False)
    world.lane.on_trades("a", [update(n, n) for n in range(1, 20)])
    assert world.lane.held == 5
    assert len(world.lane.states["BTCUSDT"].waiting) == 5
    world.lane.remove("BTCUSDT")
    assert world.lane.held == 0


def test_memory_of_a_standby_is_bounded_in_bytes_and_what_was_dropped_is_a_break() -> None:
    """Events with many levels: few of them fill the memory that 100,000 small ones would take."""
    world = World(active=False, held_bytes=150_000)
    levels = [(f"{price}.5", "1.0") for price in range(100)]
    for number in range(1, 31):
        event = DepthUpdate("BTCUSDT", number, number, SENT + number, levels, [])
        world.lane.on_trades("a", [event, update(number, number, "ETHUSDT")])
        assert world.lane.memory.total <= 150_000
    assert 0 < world.event("shed") < 60
    assert 0 < len(world.lane.states["BTCUSDT"].waiting) <= 5
    world.lane.take_up({"depth:BTCUSDT": 2}, {"depth:BTCUSDT": Position(1, 1, 1, SENT)})
    world.now += 1.0
    world.lane.tick()
    kinds = [kind for name, kind, _, _ in world.rows() if name == "depth:BTCUSDT"]
    assert kinds[:2] == ["break", "update"]
    assert (world.lane.held, world.lane.memory.total) == (0, 0)


def test_what_a_removed_symbol_held_is_free_again() -> None:
    world = World(active=False)
    world.lane.on_trades("a", [update(1, 1), update(2, 2)])
    assert world.lane.memory.total > 0
    world.lane.remove("BTCUSDT")
    assert (world.lane.held, world.lane.memory.total) == (0, 0)


def test_ids_that_went_back_are_logged_once_and_counted() -> None:
    world = World()
    late: Any = DepthUpdate("BTCUSDT", 1, 2, SENT + 10_000_000, [("1.0", "2.0")], [])
    world.lane.on_trades("a", [update(10, 12), late, late])
    assert world.event("halt") == 1
    assert not world.lane.await_snapshot("BTCUSDT")
    world.lane.publish()
    assert world.metrics.registry.get_sample_value("ingest_stream_symbols_halted", {"stream": "depth"}) == 1


@pytest.mark.parametrize(
    ("bids", "asks", "wrong"),
    [
        ([("1.0", "1"), ("0.9", "1")], [("1.1", "1"), ("1.2", "1")], None),
        ([], [("1.1", "1")], None),
        ([("0.9", "1"), ("1.0", "1")], [], "sorted"),
        ([("1.0", "1")], [("1.0", "1")], "crossed"),
        ([("x", "1")], [], "no number"),
    ],
)
def test_what_makes_a_snapshot_no_book(bids: Any, asks: Any, wrong: str | None) -> None:
    found = wrong_with(BookSnapshot(1, bids, asks))
    assert (found is None) == (wrong is None)
    assert wrong is None or wrong in str(found)
    assert json.dumps(found) is not None
