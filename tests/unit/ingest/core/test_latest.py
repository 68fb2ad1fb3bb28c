"""Quotes against a naive model: each id at most once and rising, and every time without a listener is declared."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.latest import Latest
from ingest.core.market_events import Quote

LIMIT = 1000


def quote(number: int) -> Quote:
    return Quote("BTCUSDT", number, "1.0", "1.0", "2.0", "1.0")


class Written:
    def __init__(self) -> None:
        self.rows: list[tuple[str, int, int]] = []
        self.room = True
        self.given_up: list[tuple[int, str]] = []
        self.latest = Latest("BTCUSDT", release=self.release, contradicted=self.contradicted, jump_limit=LIMIT)

    def contradicted(self, latest: Latest, quote: Quote, source: str) -> None:
        self.given_up.append((quote.trade_id, source))
        latest.lost(None, "unrepresentable")

    def release(self, latest: Latest, quote: Quote, broken: bool) -> bool:
        if self.room:
            if broken:
                self.rows.append(("break", latest.last_id or 0, quote.trade_id))
            self.rows.append(("quote", quote.trade_id, quote.trade_id))
        return self.room

    def numbers(self) -> list[int]:
        return [first for kind, first, _ in self.rows if kind == "quote"]


steps = st.lists(st.one_of(st.integers(1, 4), st.just("deaf")), max_size=40)


@given(steps=steps, doubled=st.integers(0, 3))
def test_every_time_without_a_listener_is_declared_once(steps: list[int | str], doubled: int) -> None:
    """The exchange sends rising ids; while the world is deaf one of them is missed."""
    written, sent, expected = Written(), 100, []
    written.latest.activate(None, None)
    deaf, last = False, None
    for number, step in enumerate(steps):
        if isinstance(step, str):
            written.latest.lost(5, "connection")
            sent += 3  # missed
            deaf = True
            continue
        sent += step
        if deaf and last is not None and sent > last + 1:
            expected.append(("break", last, sent))
        expected.append(("quote", sent, sent))
        deaf, last = False, sent
        written.latest.take(quote(sent))
        if number % 4 < doubled:
            written.latest.take(quote(sent))
    assert written.rows == expected
    numbers = written.numbers()
    assert numbers == sorted(set(numbers))


@given(ids=st.lists(st.integers(1, 50), unique=True).map(sorted), written_to=st.integers(0, 60))
def test_a_standby_that_heard_what_the_writer_wrote_declares_nothing(ids: list[int], written_to: int) -> None:
    written = Written()
    for number in ids:
        written.latest.take(quote(number))
    written.latest.committed(written_to)
    held = len(written.latest.waiting)
    assert written.latest.activate(written_to, 7) == held
    later = [number for number in ids if number > written_to]
    assert written.numbers() == later
    heard = bool(ids) and ids[0] <= written_to
    breaks = [row for row in written.rows if row[0] == "break"]
    if heard or not later or later[0] == written_to + 1:
        assert breaks == []
    else:
        assert breaks == [("break", written_to, later[0])]


def test_a_crash_is_declared_with_the_time_of_the_last_quote() -> None:
    written = Written()
    written.latest.activate(10, 1234)
    written.latest.take(quote(15))
    assert written.rows == [("break", 10, 15), ("quote", 15, 15)]
    assert (written.latest.since_us, written.latest.reason) == (1234, "restart")


def test_what_had_no_room_is_declared_before_the_next_that_has() -> None:
    written = Written()
    written.latest.activate(None, None)
    written.latest.take(quote(1))
    written.room = False
    written.latest.take(quote(3))
    written.latest.take(quote(5))
    written.room = True
    written.latest.take(quote(8))
    assert written.rows == [("quote", 1, 1), ("break", 1, 8), ("quote", 8, 8)]
    assert written.latest.reason == "shed"


def test_what_is_dropped_for_memory_was_not_heard() -> None:
    written = Written()
    for number in (5, 7, 9):
        written.latest.take(quote(number))
    assert written.latest.drop_oldest()
    assert written.latest.drop_oldest()
    written.latest.activate(6, None)
    assert written.rows == [("break", 6, 9), ("quote", 9, 9)]


@pytest.mark.parametrize(
    ("numbers", "seconds", "halts"),
    [
        (range(9_500, 9_520), 5.0, True),
        (range(9_500, 9_520), 4.9, False),
        (range(9_500, 9_519), 60.0, False),
        ([9_500] * 999, 60.0, False),
        ([9_500] * 1000, 0.0, True),
        ((5, 6, 8), 0.1, True),
        ((5, 6), 60.0, False),
        ((5, 5, 5, 4, 3), 60.0, False),
    ],
)
def test_ids_that_went_back_are_noticed(numbers: Sequence[int], seconds: float, halts: bool) -> None:
    """After a restart, too: the position alone is known. A second delivery on another connection does not count."""
    written = Written()
    written.latest.activate(10_000, None)
    for place, number in enumerate(numbers):
        assert not written.latest.halted
        written.latest.take(quote(number), 100.0 + seconds * place / (len(numbers) - 1))
    assert written.latest.halted == halts
    assert written.rows == []
    written.latest.take(quote(10_001), 200.0)
    assert not written.latest.halted


def test_one_quote_far_ahead_is_given_up_and_declared_and_the_others_go_on() -> None:
    for wild in (106 + LIMIT, 2**63 - 1):
        written = Written()
        written.latest.activate(100, None)
        written.latest.take(quote(100))
        for number in (101, 105, wild, wild, 106, 109):
            written.latest.take(quote(number), source="g0a")
        assert written.given_up == [(wild, "g0a")]
        assert written.rows == [("quote", number, number) for number in (101, 105, 106, 109)]


def test_what_a_quote_with_a_wrong_id_stood_for_is_declared() -> None:
    written = Written()
    written.latest.activate(None, None)
    for number in (100, 10**9, 109):
        written.latest.take(quote(number))
    assert written.rows == [("quote", 100, 100), ("break", 100, 109), ("quote", 109, 109)]


def test_a_jump_on_which_two_quotes_agree_is_true_whichever_comes_first() -> None:
    for jump in ((10**9, 10**9 + 5), (10**9 + 5, 10**9)):
        written = Written()
        written.latest.activate(None, None)
        for number in (100, *jump, 10**9 + 7):
            written.latest.take(quote(number))
        assert written.numbers() == [100, 10**9, 10**9 + 5, 10**9 + 7]
        assert written.given_up == []


def test_of_two_different_jumps_the_last_is_doubted() -> None:
    written = Written()
    written.latest.activate(None, None)
    for number in (100, 10**9, 10**6, 10**6 + 1):
        written.latest.take(quote(number))
    assert written.numbers() == [100, 10**6, 10**6 + 1]
    assert written.given_up == [(10**9, "")]


def test_a_standby_does_not_let_one_quote_far_ahead_hide_a_loss() -> None:
    written = Written()
    written.latest.committed(4)
    written.latest.take(quote(5))
    written.latest.lost(7, "connection")
    for number in (10**9, 9, 11):
        written.latest.take(quote(number))
    written.latest.activate(5, None)
    assert written.rows == [("break", 5, 9), ("quote", 9, 9), ("quote", 11, 11)]
    assert written.given_up == [(10**9, "")]


def test_a_quote_far_below_does_not_hide_a_loss() -> None:
    written = Written()
    written.latest.activate(10_000, None)
    written.latest.take(quote(10_000))
    written.latest.lost(7, "connection")
    written.latest.take(quote(5))
    written.latest.take(quote(10_009))
    assert written.rows == [("break", 10_000, 10_009), ("quote", 10_009, 10_009)]
    assert written.given_up == [(5, "")]


def test_what_a_quote_far_below_stood_for_is_declared() -> None:
    written = Written()
    written.latest.activate(None, None)
    for number in (10_000, 5, 10_009):
        written.latest.take(quote(number))
    assert written.rows == [("quote", 10_000, 10_000), ("break", 10_000, 10_009), ("quote", 10_009, 10_009)]


def test_a_doubted_quote_is_held_by_a_standby_and_judged_again() -> None:
    written = Written()
    written.latest.activate(100, None)
    written.latest.take(quote(100))
    written.latest.take(quote(10**9))
    written.latest.deactivate()
    assert not written.latest.waiting
    written.latest.take(quote(10**9 + 1))
    assert list(written.latest.waiting) == [10**9, 10**9 + 1]
    written.latest.activate(100, None)
    assert written.numbers() == [10**9, 10**9 + 1]


def test_what_a_standby_lost_between_two_stretches_of_listening_is_declared_where_it_was_lost() -> None:
    for position, rows in (
        (None, [("quote", 5, 5), ("break", 5, 9), ("quote", 9, 9)]),
        (3, [("break", 3, 5), ("quote", 5, 5), ("break", 5, 9), ("quote", 9, 9)]),
        (5, [("break", 5, 9), ("quote", 9, 9)]),
        (9, []),
    ):
        written = Written()
        written.latest.take(quote(5))
        written.latest.lost(7, "connection")
        written.latest.take(quote(9))
        written.latest.activate(position, None)
        assert written.rows == rows, position


def test_a_loss_after_which_a_standby_heard_nothing_is_declared_by_the_next_quote() -> None:
    written = Written()
    written.latest.take(quote(5))
    written.latest.committed(8)
    written.latest.lost(7, "connection")
    written.latest.activate(8, None)
    written.latest.take(quote(12))
    assert written.rows == [("break", 8, 12), ("quote", 12, 12)]


def test_to_stand_by_twice_forgets_nothing_that_was_heard() -> None:
    written = Written()
    written.latest.activate(1, None)
    written.latest.deactivate()
    written.latest.take(quote(3))
    written.latest.deactivate()
    written.latest.take(quote(5))
    written.latest.activate(3, None)
    assert written.rows == [("quote", 5, 5)]
