from collections.abc import Callable
from datetime import date

import pytest

from ingest_ops.archive.certificate import SymbolEntry
from ingest_ops.archive.ends import Earlier, Known, end_of, start_of
from ingest_ops.archive.positions import Position
from ingest_ops.archive.tally import SymbolDay, day_bounds

DAY = date(2026, 1, 15)
START, END = day_bounds(DAY)
GRACE = 600_000_000
AGREES: Known = ("position, and the exchange's history", "")


def nothing(_: int) -> Earlier | None:
    return None


def entry(last_id: int | None, previous: int | None = None) -> SymbolEntry:
    return SymbolEntry(
        symbol="A", exchange="BINANCE", base_asset="A", quote_asset="B", first_id=None, last_id=last_id, trades=0,
        quantity="0", quote_quantity="0", root="", previous_last_id=previous,
    )  # fmt: skip


def position(first: int = 5, last: int = 20, time_us: int | None = END - 1) -> Position:
    return Position(first, last, time_us, 0)


def at(number: int, time_us: int) -> Callable[[int], Earlier | None]:
    return lambda _: (number, time_us)


def test_how_the_start_is_shown() -> None:
    whole = SymbolDay(first_id=10, last_id=20, trades=11)
    assert start_of(DAY, SymbolDay(first_id=10, before_id=9), position(), None, nothing) == ("earlier record", "")
    assert start_of(DAY, whole, position(), entry(9), nothing) == ("day before", "")
    assert start_of(DAY, whole, position(), entry(None, 9), nothing) == ("day before", "")
    assert start_of(DAY, SymbolDay(first_id=0), position(0), None, nothing) == ("first trade of the symbol", "")
    assert start_of(DAY, SymbolDay(), position(), None, nothing) == ("position", "")
    assert start_of(DAY, whole, position(10), entry(7), at(7, START - 1)) == ("day before", "")
    assert whole.gaps == []
    assert start_of(DAY, whole, position(), None, at(7, START - 1)) == ("earlier record", "")
    assert (whole.before_id, whole.gaps) == (7, [(8, 9)])


def test_what_does_not_show_the_start() -> None:
    whole = SymbolDay(first_id=10, last_id=20, trades=11)
    assert "began in this day" in start_of(DAY, whole, position(10), None, nothing)[1]
    assert "ids from 5 to 9 were recorded and are gone" in start_of(DAY, whole, position(), None, nothing)[1]
    assert start_of(DAY, whole, position(), entry(None), nothing)[0] == ""


@pytest.mark.parametrize("before", [None, entry(5)])
def test_records_of_the_day_that_were_written_with_a_clock_behind(before: SymbolEntry | None) -> None:
    whole = SymbolDay(first_id=10, last_id=20, trades=11)
    shown, why_not = start_of(DAY, whole, position(), before, at(9, START))
    assert (shown, whole.before_id, whole.gaps) == ("", None, [])
    assert "id 9 is of this day and was not read" in why_not


@pytest.mark.parametrize(
    ("facts", "where", "committed", "answer", "shown"),
    [
        (SymbolDay(last_id=20, after_id=21), None, 0, ("", "x"), True),
        (SymbolDay(last_id=20), position(), END + GRACE, AGREES, True),
        (SymbolDay(last_id=20), position(), END + GRACE - 1, AGREES, False),
        (SymbolDay(last_id=19), position(), END + GRACE, AGREES, False),
        (SymbolDay(last_id=20), position(), END + GRACE, ("", "the exchange has id 21"), False),
        (SymbolDay(last_id=20), None, END + GRACE, AGREES, False),
        (SymbolDay(), position(time_us=START - 1), END + GRACE, AGREES, True),
        (SymbolDay(), position(time_us=START), END + GRACE, AGREES, False),
        (SymbolDay(), position(time_us=None), END + GRACE, AGREES, False),
    ],
)
def test_the_end(facts: SymbolDay, where: Position | None, committed: int, answer: Known, shown: bool) -> None:
    found, why_not = end_of(DAY, facts, where, committed, GRACE, -1, lambda _: answer)
    assert (bool(found), bool(why_not)) == (shown, not shown)


def test_a_void_may_end_the_day() -> None:
    facts = SymbolDay(last_id=18, trades=1)
    assert end_of(DAY, facts, position(), END + GRACE, GRACE, 20, lambda _: AGREES)[0]
    assert not end_of(DAY, facts, position(), END + GRACE, GRACE, 19, lambda _: AGREES)[0]
