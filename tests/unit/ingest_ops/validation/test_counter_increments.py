"""Whole numbers from raw samples."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_ops.validation.counter_increments import Clock, count, events, increments
from ingest_ops.validation.day import Raw
from tests.unit.ingest_ops.validation.days import raw

EARLY = -1e9


def clock(*starts: tuple[float, float], first: float = 0.0) -> Clock:
    t, started = zip(*starts, strict=True) if starts else ((), ())
    return Clock(np.asarray(t, dtype=np.float64), np.asarray(started, dtype=np.float64), first)


def total(one: Raw, known: Clock, window: float = 0.0) -> int:
    return count(one, known, window, 0.0, 1000.0)


def test_plain_increments_add_up() -> None:
    one = raw("c", [0, 15, 30, 45], [3, 3, 4, 7])
    assert total(one, clock((0, EARLY))) == 4


def test_a_fall_is_a_reset_and_what_follows_counts_from_zero() -> None:
    one = raw("c", [0, 15, 30], [5, 2, 3])
    assert total(one, clock((0, EARLY))) == 3


def test_a_replaced_process_that_comes_back_at_the_old_value_has_counted() -> None:
    one = raw("c", [0, 15, 30, 45], [1, 1, 1, 1])
    assert total(one, clock((0, EARLY), (15, EARLY), (30, 20.0), (45, 20.0))) == 1


def test_a_replaced_process_that_comes_back_higher_counts_the_whole_value() -> None:
    one = raw("c", [0, 15, 30], [1, 1, 5])
    assert total(one, clock((0, EARLY), (15, EARLY), (30, 20.0))) == 5


def test_a_child_born_at_one_counts() -> None:
    """What increase() does not see."""
    one = raw("c", [30, 45], [1, 1])
    assert total(one, clock((0, EARLY), first=0.0)) == 1


def test_a_series_that_was_there_when_we_began_to_look_has_an_unknown_past() -> None:
    one = raw("c", [0, 15], [7, 8])
    assert total(one, clock((0, EARLY), first=0.0)) == 1


def test_a_process_that_began_after_we_began_to_look_counts_from_zero() -> None:
    one = raw("c", [100, 115], [2, 2])
    assert total(one, clock((100, 95.0), first=100.0), window=0.0) == 2


def test_an_increment_belongs_to_where_it_was_first_seen() -> None:
    one = raw("c", [-10, 5, 20], [1, 2, 2])
    known = clock((-10, EARLY), first=-10.0)
    assert count(one, known, -100.0, 0.0, 10.0) == 1
    assert count(one, known, -100.0, -100.0, 0.0) == 0


def test_without_start_times_a_fall_alone_tells_of_a_restart() -> None:
    assert total(raw("c", [0, 15, 30], [5, 1, 2]), clock(first=0.0)) == 2


def test_nothing_counts_nothing() -> None:
    assert total(raw("c", [], []), clock()) == 0
    assert increments(raw("c", [], []), clock(), 0.0).shape == (0,)


def test_events_say_when_and_how_much() -> None:
    one = raw("c", [0, 15, 30, 45], [0, 2, 2, 3])
    assert events(one, clock((0, EARLY)), 0.0, 0.0, 1000.0) == [(15.0, 2), (45.0, 1)]


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[float, list[float]]], list[float]]:
    """Processes one after the other with their moments of counting; and the borders of days."""
    begin, found = 1.0, []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(40, 400))
        moments = draw(st.lists(st.integers(1, length - 1).map(float), max_size=8))
        found.append((begin, sorted(begin + at for at in moments)))
        begin += length
    return found, [0.0, *sorted(draw(st.lists(st.floats(1, begin), max_size=4))), begin + 100]


@settings(deadline=None)
@given(lives(), st.integers(5, 30))
def test_days_add_up_to_what_scrapes_could_see(
    made: tuple[list[tuple[float, list[float]]], list[float]], step: int
) -> None:
    processes, borders = made
    t, v, started, visible = [], [], [], 0
    for at, (begin, moments) in enumerate(processes):
        end = processes[at + 1][0] if at + 1 < len(processes) else borders[-1] - 100
        scrapes = [s for s in np.arange(0.5, end, step) if begin <= s < end]
        if scrapes:
            visible += sum(moment <= scrapes[-1] for moment in moments)
        t += scrapes
        v += [float(sum(moment <= s for moment in moments)) for s in scrapes]
        started += [begin] * len(scrapes)
    if not t:
        return
    known = Clock(np.asarray(t), np.asarray(started), t[0])
    one = raw("c", t, v)
    days = [count(one, known, 0.0, a, b) for a, b in pairwise(borders)]
    assert sum(days) == visible


@pytest.mark.parametrize("jump", [0.5, -0.5])
def test_a_start_time_that_trembles_is_no_restart(jump: float) -> None:
    """Psutil and the kernel round it differently from scrape to scrape."""
    assert total(raw("c", [0, 15], [3, 3]), clock((0, EARLY), (15, EARLY + jump))) == 0
