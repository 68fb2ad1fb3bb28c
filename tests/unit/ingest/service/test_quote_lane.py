"""Which times had no listener, and what the lane of quotes writes about them."""

from dataclasses import dataclass, field

import pytest

from ingest.core.batch import Span
from ingest.core.errors import Reject
from ingest.core.market_events import Quote
from ingest.core.pending_batches import PendingBatches
from ingest.core.streams import BOOK_TICKER
from ingest.core.trade import Position
from ingest.kafka.stream_encoding import QuoteEncoder
from ingest.metrics import Metrics
from ingest.service.lane_counters import StreamCounters
from ingest.service.quote_lane import TICK_SECONDS, QuoteLane, crossed

NOW_US = 1_700_000_000_000_000


def quote(number: int, symbol: str = "BTCUSDT") -> Quote:
    return Quote(symbol, number, "1.0", "1.0", "2.0", "1.0")


@dataclass(eq=False)
class Connection:
    name: str
    live_at: float | None = 0.0
    last_frame_at: float = 0.0
    subscribed: set[str] = field(default_factory=lambda: {"BTCUSDT"})

    @property
    def symbols(self) -> set[str]:
        return self.subscribed


class World:
    def __init__(self, *, active: bool = True) -> None:
        self.share = self.now = 0.0
        self.outbox = PendingBatches(limit=1000, batch_records=1000)
        self.metrics = Metrics(process=False)
        self.lane = QuoteLane(
            stream=BOOK_TICKER, outbox=self.outbox, counters=StreamCounters(self.metrics, "bookTicker"),
            room_for=lambda: self.share, held_bytes=10**7, dead_letter_max_bytes=1000, monotonic=lambda: self.now,
            time_ns=lambda: NOW_US * 1000,
        )  # fmt: skip
        self.lane.use(QuoteEncoder(1, {"BTCUSDT": ("BTC", "USDT")}))
        self.lane.add("BTCUSDT", None)
        if active:
            self.lane.take_up({}, {})

    def rows(self) -> list[tuple[str, int, int]]:
        found: list[Span] = []
        while (batch := self.outbox.take()) is not None:
            found += batch.spans
        return [(kind, first, last) for _, kind, first, last, _, _ in found]


def test_a_rotation_with_an_overlap_declares_nothing() -> None:
    world, old, new = World(), Connection("q-g0a"), Connection("q-g0b", live_at=None)
    world.lane.opened(old)
    world.lane.on_trades("q-g0a", [quote(5)])
    world.lane.opened(new)
    world.lane.on_trades("q-g0b", [quote(6)])  # not used: it is not known yet that nothing lies between
    old.last_frame_at = 9.0
    new.live_at = 10.0
    world.lane.on_trades("q-g0b", [quote(7)])
    old.last_frame_at = 10.5
    world.lane.on_trades("q-g0a", [quote(6), quote(7)])
    world.lane.on_trades("q-g0b", [quote(8)])
    world.lane.ended(old, NOW_US)
    world.lane.on_trades("q-g0b", [quote(12)])
    assert world.rows() == [("update", number, number) for number in (5, 6, 7, 8, 12)]


def test_a_lost_connection_is_a_break_before_the_next_quote() -> None:
    world, old, new = World(), Connection("q-g0a"), Connection("q-g0a")
    world.lane.opened(old)
    world.lane.on_trades("q-g0a", [quote(5)])
    world.lane.ended(old, NOW_US - 1000)
    world.lane.opened(new)
    world.lane.on_trades("q-g0a", [quote(9), quote(11)])
    assert world.rows() == [("update", 5, 5), ("break", 6, 8), ("update", 9, 9), ("update", 11, 11)]


def test_a_connection_that_died_unheard_is_a_break_although_another_was_open() -> None:
    world, old, new = World(), Connection("q-g0a", last_frame_at=1.0), Connection("q-g0b", live_at=5.0)
    world.lane.opened(old)
    world.lane.on_trades("q-g0a", [quote(5)])
    world.lane.opened(new)
    world.lane.on_trades("q-g0b", [quote(8)])
    world.lane.ended(old, NOW_US - 1000)  # heard last before the other one listened
    world.lane.on_trades("q-g0b", [quote(9)])
    assert world.rows() == [("update", 5, 5), ("break", 6, 8), ("update", 9, 9)]


def test_of_a_pair_one_may_be_lost_without_a_break() -> None:
    world, first, second = World(), Connection("q-g0a"), Connection("q-g0c", live_at=1.0)
    world.lane.opened(first)
    world.lane.opened(second)
    first.last_frame_at = 2.0
    for name, number in (("q-g0a", 5), ("q-g0c", 5), ("q-g0c", 7), ("q-g0a", 7)):
        world.lane.on_trades(name, [quote(number)])
    world.lane.ended(first, NOW_US)
    world.lane.on_trades("q-g0c", [quote(11)])
    assert world.rows() == [("update", number, number) for number in (5, 7, 11)]


def test_quotes_give_way_before_trades_do_and_say_so() -> None:
    world = World()
    world.lane.on_trades("q-g0a", [quote(5)])
    world.share = 0.6
    world.lane.on_trades("q-g0a", [quote(6), quote(7)])
    world.share = 0.4
    world.lane.on_trades("q-g0a", [quote(9)])
    assert world.rows() == [("update", 5, 5), ("break", 6, 8), ("update", 9, 9)]


def test_a_hand_over_needs_no_break_and_a_crash_does() -> None:
    for heard, kinds in (([4, 6, 8], ["update"]), ([8, 9], ["break", "update", "update"])):
        world = World(active=False)
        world.lane.on_trades("q-g0a", [quote(number) for number in heard])
        positions = {"bookTicker:BTCUSDT": Position(1, 6, 3, NOW_US)}
        world.lane.writer_at(positions)
        world.lane.take_up({"bookTicker:BTCUSDT": 7}, positions)
        assert [row[0] for row in world.rows()] == kinds
        assert world.lane.held == 0


def test_a_quote_without_an_exact_record_is_a_dead_letter_and_a_break() -> None:
    world = World()
    bad = Quote("BTCUSDT", 6, "1e5", "1.0", "2.0", "1.0")
    world.lane.on_trades("q-g0a", [quote(5), bad, quote(8)])
    batch = world.outbox.take()
    assert batch is not None
    assert [letter.reason for letter in batch.dead_letters] == ["bad_decimal"]
    assert [span[1] for span in batch.spans] == ["update", "break", "update"]


def silence(ticks: int, paused: float = 0.0, *, rate: int = 300, pair: bool = False) -> list[str]:
    """A connection delivers so many quotes a second for a minute, none for a while, and one more."""
    world = World()
    world.lane.opened(Connection("q-g0a"))
    if pair:
        world.lane.opened(Connection("q-g0c", live_at=-1.0))
    number = 0
    for _ in range(60):
        number += rate
        world.now += 1.0
        for name in ("q-g0a", "q-g0c") if pair else ("q-g0a",):
            world.lane.on_trades(name, [quote(one) for one in range(number - rate, number)])
    for _ in range(ticks):
        world.now += TICK_SECONDS
        world.lane.tick()
    world.now += paused
    world.lane.on_trades("q-g0a", [quote(number + 50)])
    return [kind for kind, _, _ in world.rows()][-2:]


@pytest.mark.parametrize(
    ("ticks", "paused", "rate", "pair", "kinds"),
    [
        (20, 0.0, 300, False, ["break", "update"]),
        (5, 0.0, 300, False, ["update", "update"]),
        (20, 0.0, 20, False, ["update", "update"]),
        (1, 9.0, 300, False, ["update", "update"]),
        (20, 0.0, 300, True, ["update", "update"]),
    ],
)
def test_a_silence_in_which_hundreds_were_due_is_a_break(
    ticks: int, paused: float, rate: int, pair: bool, kinds: list[str]
) -> None:
    """Not if it is short, or the market slow, or this process was paused, or the other connection has delivered."""
    assert silence(ticks, paused, rate=rate, pair=pair) == kinds


@pytest.mark.parametrize(("symbol", "kinds"), [(None, ["break", "update"]), ("BTCUSDT", ["break", "update"]),
                                               ("ETHUSDT", ["update", "update"])])  # fmt: skip
def test_a_message_that_cannot_be_read_may_have_been_a_quote(symbol: str | None, kinds: list[str]) -> None:
    world = World()
    world.lane.opened(Connection("q-g0a"))
    world.lane.on_trades("q-g0a", [quote(5)])
    world.lane.on_rejected("q-g0a", b"{", Reject("malformed_json", "cut", symbol=symbol))
    world.lane.on_trades("q-g0a", [quote(9)])
    assert [kind for kind, _, _ in world.rows()][-2:] == kinds


@pytest.mark.parametrize(
    ("bid", "ask", "is_crossed"),
    [
        ("1.00000000", "1.10000000", False), ("9.90000000", "10.00000000", False),
        ("1.10000000", "1.10000000", True), ("10.00000000", "9.90000000", True),
        ("1.10000000", "0.00000000", False), ("0.00000000", "0.00000000", False),
    ],
)  # fmt: skip
def test_a_crossed_quote_is_recorded_and_counted(bid: str, ask: str, is_crossed: bool) -> None:
    world = World()
    one = Quote("BTCUSDT", 5, bid, "1.0", ask, "1.0")
    assert crossed(one) is is_crossed
    world.lane.on_trades("q-g0a", [one])
    assert [kind for kind, _, _ in world.rows()] == ["update"]
    labels = {"stream": "bookTicker", "event": "crossed"}
    assert world.metrics.registry.get_sample_value("ingest_stream_events_total", labels) == is_crossed


def test_quotes_whose_break_had_to_be_dropped_are_declared_anew() -> None:
    world = World()
    world.lane.on_trades("q-g0a", [quote(5)])
    world.lane.stand_by()
    world.lane.on_trades("q-g0a", [quote(9)])
    position = Position(1, 7, 1, NOW_US, unsynced=True)
    world.lane.take_up({"bookTicker:BTCUSDT": 8}, {"bookTicker:BTCUSDT": position})
    assert world.rows() == [("update", 5, 5), ("break", 8, 8), ("update", 9, 9)]


@pytest.mark.parametrize("wild", [2**63 - 1, 5 + 10**9, 5])
def test_one_wrong_id_is_a_dead_letter_and_the_quotes_go_on_behind_a_break(wild: int) -> None:
    world, start = World(), 5 * 10**6
    world.lane.opened(Connection("q-g0a"))
    for number in (start, wild, start + 7, start + 9):
        world.lane.on_trades("q-g0a", [quote(number)])
    batch = world.outbox.take()
    assert batch is not None
    assert [(one.reason, one.source, one.trade_id) for one in batch.dead_letters] == [
        ("out_of_sequence", "q-g0a", wild)
    ]
    assert [(kind, first, last) for _, kind, first, last, _, _ in batch.spans] == [
        ("update", start, start), ("break", start + 1, start + 6), ("update", start + 7, start + 7),
        ("update", start + 9, start + 9),
    ]  # fmt: skip
    assert (world.lane.held, world.lane.memory.total) == (0, 0)


def test_a_wrong_id_costs_no_break_where_another_connection_listened() -> None:
    world, one, other = World(), Connection("q-g0a"), Connection("q-g0b")
    world.lane.opened(one)
    world.lane.opened(other)
    one.last_frame_at = other.last_frame_at = 1.0
    for number in (5, 6):
        world.lane.on_trades("q-g0a", [quote(number)])
        world.lane.on_trades("q-g0b", [quote(number)])
    world.lane.on_trades("q-g0a", [quote(10**9)])
    world.lane.on_trades("q-g0b", [quote(9)])
    assert world.rows() == [("update", number, number) for number in (5, 6, 9)]


def test_a_doubted_quote_of_a_removed_symbol_takes_no_memory() -> None:
    world = World()
    world.lane.on_trades("q-g0a", [quote(5), quote(10**9)])
    assert world.lane.memory.total > 0
    world.lane.remove("BTCUSDT")
    assert (world.lane.held, world.lane.memory.total) == (0, 0)


def test_quotes_below_a_false_position_are_shown_as_halted_within_three() -> None:
    world = World(active=False)
    world.lane.take_up({"bookTicker:BTCUSDT": 2**62}, {"bookTicker:BTCUSDT": Position(1, 2**62 - 1, 1, NOW_US)})
    world.lane.on_trades("q-g0a", [quote(number) for number in (5, 6, 7, 8)])
    world.lane.publish()
    value = world.metrics.registry.get_sample_value
    assert value("ingest_stream_symbols_halted", {"stream": "bookTicker"}) == 1
    assert value("ingest_stream_events_total", {"stream": "bookTicker", "event": "halt"}) == 1
    assert value("ingest_stream_events_total", {"stream": "bookTicker", "event": "rejected"}) == 3
