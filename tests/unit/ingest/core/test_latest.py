"""Quotes against a naive model: each id at most once and rising, and every time without a listener is declared."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.core.latest import STRAYS, Latest
from ingest.core.market_events import Quote


def quote(number: int) -> Quote:
    return Quote("BTCUSDT", number, "1.0", "1.0", "2.0", "1.0")


class Written:
    def __init__(self) -> None:
        self.rows: list[tuple[str, int, int]] = []
        self.room = True
        self.latest = Latest("BTCUSDT", release=self.release)

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


def test_ids_that_went_back_are_noticed() -> None:
    written = Written()
    written.latest.activate(10**6, None)
    for _ in range(STRAYS):
        assert not written.latest.halted
        written.latest.take(quote(5))
    assert written.latest.halted
    written.latest.take(quote(10**6 + 1))
    assert not written.latest.halted


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
