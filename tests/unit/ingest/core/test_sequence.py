"""The sequencer against a naive model, and case by case."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.core.errors import Reject
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import RECENT
from ingest.core.trade import Trade, Void


def trade(trade_id: int, symbol: str = "BTCUSDT", price: str = "1.0", *, at: float = 0.0) -> Trade:
    return Trade(
        symbol=symbol,
        trade_id=trade_id,
        price=price,
        quantity="2",
        trade_time_us=1_700_000_000_000_000 + round(at * 1e6),
        buyer_is_maker=True,
    )


class Bench:
    """A sequencer whose accepted trades, refusals and mismatches can be looked at."""

    def __init__(self, *, limit: int = 1000, room: int | None = None, unusable: frozenset[int] = frozenset()) -> None:
        self.out: list[Trade] = []
        self.refused: list[int] = []
        self.mismatched: list[int] = []
        self.halted: list[str] = []
        self.room = room
        self.unusable = unusable
        self.sequencer = Sequencer(
            accept=self._accept,
            full=lambda: self.room is not None and len(self.out) >= self.room,
            mismatch=lambda t: self.mismatched.append(t.trade_id),
            refuse=lambda t, _: self.refused.append(t.trade_id),
            on_halt=lambda one: self.halted.append(one.symbol),
            limit=limit,
            jump_limit=1000,
        )
        self.sequencer.add("BTCUSDT")

    def _accept(self, item: Trade) -> None:
        if item.trade_id in self.unusable:
            raise Reject("bad_decimal", "NaN")
        self.out.append(item)

    def active(self, next_id: int) -> "Bench":
        self.sequencer.activate({"BTCUSDT": next_id}, 0.0)
        return self

    def history(self, *ids: int, now: float = 0.0) -> None:
        self.sequencer.process_history([trade(i) for i in ids], now)

    def offer(self, *ids: int, now: float = 0.0) -> None:
        self.sequencer.process([trade(i) for i in ids], now)

    @property
    def ids(self) -> list[int]:
        return [t.trade_id for t in self.out]


def test_trades_in_order_leave_at_once() -> None:
    bench = Bench().active(10)
    bench.offer(10, 11, 12)
    assert bench.ids == [10, 11, 12]
    assert not bench.sequencer.open_gaps


def test_a_hole_holds_its_symbol_and_only_its_symbol() -> None:
    bench = Bench().active(10)
    bench.sequencer.add("ETHUSDT")
    bench.sequencer.start("ETHUSDT", 5, 0.0)
    bench.offer(10, 12, 13)
    bench.sequencer.process([trade(5, "ETHUSDT")], 0.0)
    assert [(t.symbol, t.trade_id) for t in bench.out] == [("BTCUSDT", 10), ("ETHUSDT", 5)]
    assert list(bench.sequencer.open_gaps) == ["BTCUSDT"]
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 1
    bench.offer(11)
    assert [t.trade_id for t in bench.out if t.symbol == "BTCUSDT"] == [10, 11, 12, 13]
    assert not bench.sequencer.open_gaps
    assert bench.sequencer.counts.gaps_found == bench.sequencer.counts.gaps_filled == 1


def test_a_second_delivery_is_dropped_and_one_with_other_content_is_reported() -> None:
    bench = Bench().active(10)
    bench.offer(10, 11, 10, 13, 13)
    bench.sequencer.process([trade(11, price="1.5"), trade(13, price="1.5")], 0.0)
    assert bench.ids == [10, 11]
    assert bench.sequencer.counts.duplicates == 4
    assert bench.mismatched == [11, 13]


@given(st.data())
def test_a_second_delivery_of_the_same_content_is_never_reported(data: st.DataObject) -> None:
    """Whatever has happened in between: going back, voids, another writer, being away."""
    bench = Bench(limit=10_000).active(0)
    next_id = 0
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(("trades", "void", "back", "away", "ahead"))):
            case "trades":
                count = data.draw(st.integers(1, 2 * RECENT))
                bench.offer(*range(next_id, next_id + count))
                next_id += count
            case "void":
                count = data.draw(st.integers(1, 2 * RECENT))
                bench.sequencer.void(Void("BTCUSDT", next_id, next_id + count - 1, "exchange_hole", {}), 0.0)
                next_id += count
            case "back":
                next_id -= data.draw(st.integers(0, min(next_id, 2 * RECENT)))
                bench.sequencer.rewind("BTCUSDT", next_id, 0.0)
            case "away":
                next_id += data.draw(st.integers(0, 2 * RECENT))
                bench.sequencer.deactivate()
                bench.sequencer.committed("BTCUSDT", next_id - 1)
                bench.offer(*range(max(0, next_id - RECENT), next_id))
                bench.sequencer.activate({"BTCUSDT": next_id}, 0.0)
            case _:
                next_id += data.draw(st.integers(0, 2 * RECENT))
                bench.sequencer.start("BTCUSDT", next_id, 0.0)
        bench.offer(*range(max(0, next_id - 3 * RECENT), next_id))
        assert bench.mismatched == []
        lane = bench.sequencer.sequences["BTCUSDT"]
        assert lane.next_id == next_id


@given(st.integers(0, RECENT + 10))
def test_other_content_is_seen_as_far_back_as_is_promised(back: int) -> None:
    bench = Bench().active(0)
    bench.offer(*range(3 * RECENT))
    bench.sequencer.process([trade(3 * RECENT - 1 - back, price="1.5")], 0.0)
    assert bench.mismatched == ([3 * RECENT - 1 - back] if back < RECENT else [])


def test_a_standby_holds_everything_and_is_trimmed_by_the_writers_commits() -> None:
    bench = Bench()
    bench.offer(7, 8, 9, 10)
    assert bench.ids == []
    bench.sequencer.committed("BTCUSDT", 8)
    assert sorted(bench.sequencer.sequences["BTCUSDT"].pending) == [9, 10]
    bench.active(9)
    assert bench.ids == [9, 10]
    assert bench.sequencer.pending == 0


def test_a_standby_that_overflows_gives_up_the_oldest_and_knows_it() -> None:
    bench = Bench(limit=3)
    bench.offer(1, 2, 3, 4, 5)
    assert sorted(bench.sequencer.sequences["BTCUSDT"].pending) == [3, 4, 5]
    bench.active(1)
    assert bench.ids == []
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 2
    bench.history(1, 2)
    assert bench.ids == [1, 2, 3, 4, 5]


def test_a_full_active_lane_gives_up_the_newest_and_reads_them_again_by_id() -> None:
    bench = Bench(limit=2).active(1)
    bench.offer(2, 3, 4, 5)
    assert sorted(bench.sequencer.sequences["BTCUSDT"].pending) == [2, 3]
    assert bench.sequencer.counts.dropped == 2
    bench.offer(1)
    assert bench.ids == [1, 2, 3]
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 2
    bench.offer(4, 5)
    assert bench.ids == [1, 2, 3], "nothing is left to compare a second delivery with"
    bench.history(4, 5)
    assert bench.ids == [1, 2, 3, 4, 5]
    assert not bench.sequencer.open_gaps


def test_a_full_next_stage_is_no_hole() -> None:
    bench = Bench(room=2).active(1)
    bench.offer(1, 2)
    bench.offer(3, 4)
    assert bench.ids == [1, 2]
    assert not bench.sequencer.open_gaps
    assert list(bench.sequencer.blocked) == ["BTCUSDT"]
    bench.room = 10
    bench.sequencer.resume(1.0)
    assert bench.ids == [1, 2, 3, 4]
    assert not bench.sequencer.blocked
    bench.offer(5)
    assert bench.ids == [1, 2, 3, 4, 5]


def test_a_refused_trade_is_a_hole_until_history_or_a_void_settles_it() -> None:
    bench = Bench(unusable=frozenset({11})).active(10)
    bench.offer(10, 11, 12)
    assert bench.ids == [10]
    assert bench.refused == [11]
    assert bench.sequencer.sequences["BTCUSDT"].refused is not None
    bench.offer(11)
    assert bench.refused == [11, 11]
    bench.sequencer.void(Void("BTCUSDT", 11, 11, "unrepresentable", {}), 1.0)
    assert bench.ids == [10, 12]
    assert not bench.sequencer.open_gaps


def test_a_void_must_begin_where_the_symbol_stands() -> None:
    bench = Bench().active(10)
    bench.offer(14)
    with pytest.raises(ValueError, match="next id 10"):
        bench.sequencer.void(Void("BTCUSDT", 11, 13, "exchange_hole", {}), 0.0)
    bench.sequencer.void(Void("BTCUSDT", 10, 13, "exchange_hole", {}), 0.0)
    assert bench.ids == [14]


@pytest.mark.parametrize(("jump", "reason"), [(5000, "giant_jump"), (1, "id_reset")])
def test_a_jump_or_a_reset_freezes_the_symbol_and_writes_nothing(jump: int, reason: str) -> None:
    bench = Bench().active(2000)
    bench.offer(2000, jump, 2001, jump + 1)
    assert bench.ids == [2000]
    assert bench.sequencer.sequences["BTCUSDT"].halted == reason
    assert [lane.symbol for lane in bench.sequencer.halted()] == ["BTCUSDT"]


def test_history_can_confirm_a_jump() -> None:
    bench = Bench().active(2000)
    bench.offer(2000, 4000)
    bench.sequencer.resume_symbol("BTCUSDT", 1.0)
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 2000
    bench.offer(*range(2001, 4002))
    assert bench.ids == list(range(2000, 4002))


def test_a_rewound_symbol_asks_for_the_same_ids_again() -> None:
    bench = Bench().active(1)
    bench.offer(1, 2, 3)
    bench.sequencer.rewind("BTCUSDT", 2, 1.0)
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 2
    bench.offer(4, 2, 3)
    assert bench.ids == [1, 2, 3, 2, 3, 4]


def test_what_rest_says_exists_becomes_a_hole() -> None:
    bench = Bench().active(1)
    bench.offer(1)
    bench.sequencer.observe_high_watermark("BTCUSDT", 3, 5.0)
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 2
    bench.offer(2, 3)
    assert not bench.sequencer.open_gaps


def test_a_deposed_writer_forgets_where_it_stood() -> None:
    bench = Bench().active(1)
    bench.offer(1, 2)
    bench.sequencer.deactivate()
    bench.offer(3, 4)
    assert bench.ids == [1, 2]
    bench.sequencer.committed("BTCUSDT", 2)
    bench.active(3)
    assert bench.ids == [1, 2, 3, 4]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[int, list[int], int]:
    """A start id, deliveries with losses, duplicates and reordering, and a bound for what may be held."""
    first = draw(st.sampled_from([1, 2**32 - 5, 2**62]))
    ids = draw(st.lists(st.integers(0, 40), max_size=120))
    return first, [first + i for i in ids], draw(st.integers(1, 60))


def contiguous(first: int, seen: set[int]) -> Iterator[int]:
    while first in seen:
        yield first
        first += 1


@given(deliveries())
@settings(max_examples=300)
def test_with_room_it_equals_the_naive_model(case: tuple[int, list[int], int]) -> None:
    first, ids, _ = case
    bench = Bench(limit=10_000).active(first)
    for i in ids:
        bench.offer(i)
    assert bench.ids == list(contiguous(first, set(ids)))
    assert bench.sequencer.pending == len({i for i in ids if i >= first} - set(bench.ids))


@given(deliveries(), st.data())
@settings(max_examples=300)
def test_whatever_is_lost_or_shed_history_brings_it_to_order(
    case: tuple[int, list[int], int], data: st.DataObject
) -> None:
    """Losses, a small memory, a full next stage, a take-over and a rewind: after history, each id once and in order."""
    first, ids, limit = case
    bench = Bench(limit=limit)
    became_active = data.draw(st.integers(0, len(ids)))
    for n, i in enumerate(ids):
        if n == became_active:
            bench.active(first)
        bench.room = len(bench.out) if data.draw(st.booleans()) else None
        bench.offer(i, now=float(n))
        assert bench.sequencer.pending <= limit + 1
    bench.active(first) if not bench.sequencer.active else None
    bench.room = None
    bench.sequencer.resume(1000.0)
    highest = max([i for i in ids if i >= first], default=first - 1)
    for _ in range(100):
        if not bench.sequencer.open_gaps:
            break
        lane = bench.sequencer.open_gaps["BTCUSDT"]
        assert lane.next_id is not None
        bench.history(*range(lane.next_id, lane.next_id + 7))
        highest = max(highest, lane.next_id - 1)
    assert not bench.sequencer.open_gaps
    assert bench.ids == list(range(first, first + len(bench.ids)))
    assert set(bench.ids) >= {i for i in ids if i >= first}
    assert bench.sequencer.pending == 0


def test_what_is_missing_is_counted_up_to_the_lowest_held_one() -> None:
    bench = Bench().active(10)
    lane = bench.sequencer.sequences["BTCUSDT"]
    assert lane.missing == 0
    bench.offer(15, 20)
    assert lane.missing == 5
    bench.sequencer.deactivate()
    assert lane.missing == 0


def test_adding_twice_is_adding_once_and_removing_what_is_not_there_is_nothing() -> None:
    bench = Bench().active(10)
    bench.offer(12)
    lane = bench.sequencer.sequences["BTCUSDT"]
    assert bench.sequencer.add("BTCUSDT") is lane
    bench.sequencer.remove("ETHUSDT")
    assert bench.sequencer.pending == 1
    bench.sequencer.remove("BTCUSDT")
    assert (bench.sequencer.pending, bench.sequencer.open_gaps) == (0, {})
    bench.offer(10)
    assert bench.ids == []


def test_a_full_house_of_other_symbols_sheds_a_standbys_first_trade_of_a_symbol() -> None:
    bench = Bench(limit=2)
    bench.sequencer.add("ETHUSDT")
    bench.offer(1, 2)
    bench.sequencer.process([trade(7, "ETHUSDT")], 0.0)
    assert bench.sequencer.pending == 2
    assert bench.sequencer.counts.dropped == 1
    bench.sequencer.process([trade(8, "NOBODY")], 0.0)
    assert bench.sequencer.pending == 2


def test_a_symbol_that_has_begun_goes_on_when_active_again_without_a_position() -> None:
    bench = Bench()
    bench.sequencer._active = True
    bench.sequencer.start("BTCUSDT", 5, 0.0)
    bench.sequencer._active = False
    bench.offer(5, 6)
    assert bench.ids == []
    bench.sequencer.activate({}, 1.0)
    assert bench.ids == [5, 6]


def test_a_symbol_without_a_start_is_rewound_to_where_kafka_is() -> None:
    bench = Bench()
    bench.sequencer._active = True
    bench.sequencer.rewind("BTCUSDT", 4, 0.0)
    bench.offer(4)
    assert bench.ids == [4]
    bench.sequencer.committed("BTCUSDT", 9)  # the writer itself knows better
    assert bench.sequencer.sequences["BTCUSDT"].next_id == 5


def test_next_ids_of_a_standby_are_what_it_has_seen() -> None:
    bench = Bench()
    bench.sequencer.add("QUIET")
    bench.offer(7, 9)
    assert bench.sequencer.next_ids() == {"BTCUSDT": 10}
    bench.active(10)
    assert bench.sequencer.next_ids() == {"BTCUSDT": 10}
    assert list(bench.sequencer.halted()) == []


def test_a_hole_has_an_age_and_a_void_a_size() -> None:
    bench = Bench().active(10)
    lane = bench.sequencer.sequences["BTCUSDT"]
    assert lane.gap_age(5.0) == 0.0
    bench.offer(12, now=5.0)
    assert lane.gap_age(7.5) == 2.5
    void = Void("BTCUSDT", 10, 11, "exchange_hole", {})
    assert void.count == 2
    bench.sequencer.void(void, 8.0)
    assert bench.ids == [12]


def test_a_symbol_nobody_records_is_of_no_interest() -> None:
    bench = Bench().active(10)
    bench.sequencer.observe_high_watermark("NOBODY", 99, 0.0)
    bench.sequencer.committed("NOBODY", 99)
    assert bench.sequencer.open_gaps == {}


def timed(bench: Bench, *trades: tuple[int, float], now: float = 0.0) -> None:
    """Deliver trades of (id, seconds of the exchange's clock)."""
    bench.sequencer.process([trade(trade_id, at=at) for trade_id, at in trades], now)


@pytest.mark.parametrize("back", [1, 2, RECENT, RECENT + 1, 500, 999, 1000, 1001])
def test_a_lower_id_with_a_newer_time_halts_the_symbol_whatever_the_distance(back: int) -> None:
    bench = Bench().active(5000)
    timed(bench, *((5000 + n, n / 10) for n in range(100)))
    timed(bench, (5100 - back, 50.0), (5101 - back, 50.1))
    sequence = bench.sequencer.sequences["BTCUSDT"]
    assert sequence.halted == "id_reset"
    assert sequence.halted_by == trade(5100 - back, at=50.0)
    assert bench.halted == ["BTCUSDT"]
    assert sequence.withheld == 2 - (back == 1)
    assert bench.ids == list(range(5000, 5100))
    assert bench.sequencer.counts.duplicates == 0


def test_legal_second_deliveries_never_halt() -> None:
    """A second connection that is far behind, a replay, and times that go back by less than its distance."""
    bench = Bench().active(5000)
    timed(bench, *((5000 + n, n / 100) for n in range(900)))
    timed(bench, *((5000 + n, n / 100) for n in range(900)), now=1.0)
    timed(bench, *((5850 + n, 8.5 + n / 100) for n in range(50)), now=2.0)
    assert bench.sequencer.halted() == []
    assert bench.sequencer.counts.duplicates == 950
    timed(bench, (5900, 1.0), (5900, 1.0), (5901, 9.5), (5900, 1.0))
    assert bench.sequencer.halted() == []
    assert bench.ids == list(range(5000, 5902))


def test_the_stored_time_tells_a_reset_that_happened_while_nothing_was_written() -> None:
    bench = Bench()
    bench.sequencer.activate({"BTCUSDT": 5000}, 0.0, {"BTCUSDT": trade(0, at=100.0).trade_time_us})
    timed(bench, (4990, 99.0), (4999, 100.0))
    assert bench.sequencer.halted() == []
    timed(bench, (4200, 100.1))
    assert [one.halted for one in bench.sequencer.halted()] == ["id_reset"]


def test_a_stored_time_is_not_older_than_what_memory_has_released() -> None:
    """Trades that were queued when another writer took over are not newer than themselves."""
    bench = Bench().active(10)
    timed(bench, (10, 1.0), (11, 2.0))
    bench.sequencer.deactivate()
    bench.sequencer.committed("BTCUSDT", 10, trade(10, at=1.0).trade_time_us)
    bench.sequencer.activate({"BTCUSDT": 12}, 1.0, {"BTCUSDT": trade(10, at=1.0).trade_time_us})
    timed(bench, (11, 2.0))
    assert bench.sequencer.halted() == []


def test_a_run_of_differing_second_deliveries_halts_and_single_ones_do_not() -> None:
    bench = Bench().active(0)
    bench.offer(*range(100))
    for n in range(7):
        bench.sequencer.process([trade(90 + n, price="9")], 0.0)
    assert bench.sequencer.halted() == []
    bench.offer(100)
    for n in range(7):
        bench.sequencer.process([trade(90 + n, price="9")], 0.0)
    assert bench.sequencer.halted() == [], "a trade was released in between"
    bench.sequencer.process([trade(98, price="9")], 0.0)
    assert [one.halted for one in bench.sequencer.halted()] == ["content"]


@pytest.mark.parametrize(
    ("count", "seconds", "halts"), [(999, 0.0, False), (1000, 0.0, True), (19, 9.0, False), (20, 9.0, True)]
)
def test_a_run_of_lower_ids_halts_although_nothing_can_be_compared(count: int, seconds: float, halts: bool) -> None:
    bench = Bench(limit=10_000).active(5000)
    bench.sequencer._jump_limit = 10**6
    for n in range(count):
        bench.offer(1000 + n, now=seconds * n / max(1, count - 1))
    assert bool(bench.sequencer.halted()) is halts


def test_a_lagging_connection_beside_one_that_goes_on_is_no_run() -> None:
    bench = Bench(limit=10_000).active(5000)
    bench.sequencer._jump_limit = 10**6
    for n in range(3000):
        bench.offer(3000 + n % 1900, 5000 + n, now=float(n))
    assert bench.sequencer.halted() == []


def test_a_halted_symbol_keeps_what_goes_on_and_releases_it_when_resumed() -> None:
    bench = Bench(limit=80).active(10)
    timed(bench, (10, 1.0), (3, 2.0), *((11 + n, 2.0 + n) for n in range(15)))
    sequence = bench.sequencer.sequences["BTCUSDT"]
    assert bench.ids == [10]
    assert len(sequence.pending) == 10, "one symbol does not fill the memory of all"
    assert sequence.lag(10) == 15
    bench.sequencer.resume_symbol("BTCUSDT", 1.0)
    assert bench.ids == list(range(10, 21))
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 5
    bench.history(*range(21, 27))
    assert bench.ids == list(range(10, 27))


def test_live_trades_that_are_newer_than_a_jump_and_lower_end_its_halt() -> None:
    bench = Bench().active(10)
    timed(bench, (10, 1.0), (10**12, 2.0), (11, 2.5))
    assert [one.halted for one in bench.sequencer.halted()] == ["giant_jump"]
    timed(bench, (12, 3.0), (13, 3.5))
    assert bench.sequencer.halted() == []
    assert bench.ids == [10, 11, 12, 13]
    assert bench.sequencer.open_gaps == {}, "the id of the false message is not waited for"


def test_a_late_second_delivery_does_not_contradict_a_jump() -> None:
    bench = Bench().active(10)
    timed(bench, (10, 1.0), (10**12, 2.0), (12, 1.5), (11, 1.2), (10**12 + 1, 3.0))
    assert [one.halted for one in bench.sequencer.halted()] == ["giant_jump"]
    assert bench.sequencer.sequences["BTCUSDT"].jumped_to == 10**12 + 1


def test_a_pending_trade_that_is_older_than_released_ones_below_it_is_withdrawn() -> None:
    bench = Bench().active(10)
    timed(bench, (10, 1.0), (500, 1.5), *((11 + n, 2.0 + n) for n in range(3)))
    assert bench.ids == [10, 11, 12, 13]
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 486
    assert bench.sequencer.withdraw_contradicted("BTCUSDT", 5.0) == [trade(500, at=1.5)]
    assert bench.sequencer.open_gaps == {}
    timed(bench, (14, 6.0))
    assert bench.ids == [10, 11, 12, 13, 14]


def test_what_waits_for_a_real_gap_is_not_withdrawn() -> None:
    bench = Bench().active(10)
    timed(bench, (10, 1.0), (12, 3.0), (13, 9.0), (40, 9.5))
    assert bench.sequencer.withdraw_contradicted("BTCUSDT", 5.0) == []
    assert bench.sequencer.withdraw_claim("BTCUSDT", 5.0) == 0
    assert bench.sequencer.pending == 3


def test_an_id_that_only_a_message_named_is_given_up_where_later_trades_have_lower_ids() -> None:
    bench = Bench().active(10)
    timed(bench, (10, 1.0))
    bench.sequencer.observe_high_watermark("BTCUSDT", 900, 0.0, from_message=True)
    timed(bench, (11, 2.0))
    assert bench.sequencer.withdraw_contradicted("BTCUSDT", 5.0) == []
    assert list(bench.sequencer.open_gaps) == ["BTCUSDT"]
    timed(bench, (12, 4.0))
    bench.sequencer.withdraw_contradicted("BTCUSDT", 5.0)
    assert bench.sequencer.open_gaps == {}
    bench.sequencer.observe_high_watermark("BTCUSDT", 900, 0.0)
    timed(bench, (13, 400.0))
    bench.sequencer.withdraw_contradicted("BTCUSDT", 5.0)
    assert list(bench.sequencer.open_gaps) == ["BTCUSDT"], "what REST names is not contradicted by times"
    assert bench.sequencer.withdraw_claim("BTCUSDT", 5.0) == 887
    assert bench.sequencer.open_gaps == {}


def test_two_deliveries_of_a_pending_trade_that_differ_leave_the_decision_to_history() -> None:
    bench = Bench().active(10)
    bench.offer(12)
    bench.sequencer.process([trade(12, price="9")], 0.0)
    assert bench.mismatched == [12]
    assert bench.sequencer.pending == 0
    bench.offer(10, 11)
    assert bench.ids == [10, 11]
    assert bench.sequencer.open_gaps["BTCUSDT"].missing == 1


def test_history_replaces_a_pending_trade_that_differs() -> None:
    bench = Bench().active(10)
    bench.sequencer.process([trade(12, price="9"), trade(13)], 0.0)
    page = [trade(number) for number in range(10, 14)]
    assert bench.sequencer.withdraw_differing(page) == [trade(12, price="9")]
    bench.sequencer.process(page, 0.0)
    assert bench.out == page


def test_a_void_never_covers_a_trade_in_memory() -> None:
    bench = Bench().active(10)
    bench.offer(14)
    with pytest.raises(ValueError, match="covers trade 14"):
        bench.sequencer.void(Void("BTCUSDT", 10, 14, "exchange_hole", {}), 0.0)
    assert bench.sequencer.pending == 1


def test_what_was_counted_is_taken_once() -> None:
    bench = Bench().active(10)
    bench.offer(10, 10, 12)
    taken = bench.sequencer.counts.take()
    assert (taken.duplicates, taken.gaps_found) == (1, 1)
    again = bench.sequencer.counts.take()
    assert (again.duplicates, again.gaps_found) == (0, 0)


def test_a_trade_that_was_void_for_want_of_an_exact_record_may_arrive_again() -> None:
    bench = Bench(unusable=frozenset({11})).active(10)
    timed(bench, (10, 1.0), (11, 2.0))
    bench.sequencer.void(Void("BTCUSDT", 11, 11, "unrepresentable", {}), 1.0)
    timed(bench, (11, 2.0), (12, 3.0), (11, 2.0))
    assert bench.sequencer.halted() == []
    assert bench.ids == [10, 12]
    timed(bench, (11, 3.1))
    assert [one.halted for one in bench.sequencer.halted()] == ["id_reset"]


def test_a_symbol_that_has_not_started_is_not_judged_by_the_distance_of_ids() -> None:
    bench = Bench()
    bench.offer(3, 10**9, 10**9 + 1)
    assert bench.sequencer.halted() == []
    assert bench.sequencer.discard("BTCUSDT", 3) == [trade(3)]
    assert bench.sequencer.discard("BTCUSDT", 3) == []
    bench.active(10**9)
    assert bench.ids == [10**9, 10**9 + 1]


def test_what_was_received_and_not_kept_is_known_until_the_gap_is_closed() -> None:
    bench = Bench(limit=2).active(10)
    bench.offer(12, 13, 14, 15, 17)
    sequence = bench.sequencer.sequences["BTCUSDT"]
    assert sequence.first_received == 12
    bench.offer(10, 11)
    assert sequence.next_id == 14
    assert sequence.first_received == 14
    bench.history(14, 15)
    assert sequence.first_received == 17
    bench.history(16, 17)
    assert sequence.first_received is None


def test_a_third_delivery_does_not_decide_a_dispute() -> None:
    bench = Bench().active(10)
    bench.offer(12)
    bench.sequencer.process([trade(12, price="9"), trade(12, price="9"), trade(12)], 0.0)
    bench.offer(10, 11, 13)
    assert bench.ids == [10, 11]
    page = [trade(12), trade(13)]
    bench.sequencer.withdraw_differing(page)
    bench.sequencer.process_history(page, 0.0)
    assert bench.out[2:] == page


def test_a_second_delivery_that_was_sent_at_another_time_is_a_duplicate() -> None:
    taken: list[Trade] = []
    sequencer = Sequencer(accept=taken.append, full=bool, mismatch=taken.append, limit=10)
    sequencer.add("BTCUSDT")
    sequencer.activate({"BTCUSDT": 1}, 0.0)
    first, other, kept = (Trade("BTCUSDT", 1, "1", "1", 5, True, event_time_us=sent) for sent in (7, 9, 0))
    sequencer.process([first, other, kept], 0.0)
    assert taken == [first]
    assert (sequencer.counts.duplicates, sequencer.counts.mismatches) == (2, 0)
    sequencer.process([Trade("BTCUSDT", 1, "2", "1", 5, True, event_time_us=7)], 0.0)
    assert sequencer.counts.mismatches == 1


def test_a_trade_that_waited_is_accepted_with_the_time_at_which_it_was_read() -> None:
    now = [0]
    read: list[tuple[int, int]] = []

    def accept(trade: Trade) -> None:
        read.append((trade.trade_id, now[0]))
        assert trade.receive_time_us == 0

    sequencer = Sequencer(
        accept=accept, full=bool, mismatch=lambda _: None, received=lambda us: now.__setitem__(0, us), limit=10
    )
    sequencer.add("BTCUSDT")
    sequencer.activate({"BTCUSDT": 1}, 0.0)
    for number, at in ((2, 100), (3, 200), (1, 300), (4, 400)):
        now[0] = sequencer.received_us = at
        sequencer.process([Trade("BTCUSDT", number, "1", "1", number, True)], 0.0)
    assert read == [(1, 300), (2, 100), (3, 200), (4, 400)]
