"""The sequencer against a naive model, and case by case."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.core.symbol_sequence import RECENT
from ingest.core.trade import Void
from tests.unit.ingest.core.sequencing import Bench, trade


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
