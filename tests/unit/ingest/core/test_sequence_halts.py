import pytest

from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import RECENT
from ingest.core.trade import Trade, Void
from tests.unit.ingest.core.sequencing import Bench, trade


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
    sequencer = Sequencer(
        accept=lambda one, _symbol, _id: taken.append(one), full=bool, mismatch=taken.append, limit=10
    )
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

    def accept(trade: Trade, _symbol: str, _id: int) -> None:
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
