"""Which series are one: addresses of one process, by its start, and copies of which only the overlap is dropped."""

import dataclasses

import numpy as np
import pytest

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import Finding
from ingest_ops.validation.counter_increments import clock_of, count
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.identity import aliases, canonical
from ingest_ops.validation.week import judge_day
from tests.harness.production_week import DAY, HOUR, EightDays, Process
from tests.unit.ingest_ops.validation.days import day_of, evidence

START, RSS = "process_start_time_seconds", "process_resident_memory_bytes"
MESSAGES = "ingest_messages_received_total"
A, B, C = "blue:9095", "blue.k2:9095", "10.0.0.7:9095"
Shown = tuple[str, float, float, float]
"""An address, the start of the process that it shows, and the hours of its first and last sample."""


def times(first: float, last: float) -> np.ndarray:
    return np.arange(first * HOUR, last * HOUR + 1.0, 60.0)


def starts(*shown: Shown) -> list[Raw]:
    """The start of the processes, by address."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for address, started, first, last in shown:
        t = times(first, last)
        before, values = found.get(address, (np.empty(0), np.empty(0)))
        found[address] = np.concatenate([before, t]), np.concatenate([values, np.full(len(t), started)])
    return [series(START, address, t, v) for address, (t, v) in found.items()]


def series(name: str, address: str, t: np.ndarray, v: np.ndarray, **labels: str) -> Raw:
    return Raw({"__name__": name, "instance": address, "slot": "blue", "shard": "0", **labels}, t, v)


def gauge(address: str, first: float, last: float, value: float = 1.0, **labels: str) -> Raw:
    t = times(first, last)
    return series(RSS, address, t, np.full(len(t), value), **labels)


def hours(found: tuple[Raw, ...], name: str = RSS) -> dict[str, list[tuple[float, float, float]]]:
    """By address: stretches without a pause, as hours of the first and last sample, and their value."""
    shown: dict[str, list[tuple[float, float, float]]] = {}
    for one in found:
        if one.name != name:
            continue
        assert (np.diff(one.t) > 0).all(), "each sample once, in order"
        cuts = np.flatnonzero((np.diff(one.t) > 61) | (np.diff(one.v) != 0)) + 1
        for part in np.split(np.arange(len(one.t)), cuts):
            row = (round(one.t[part[0]] / HOUR, 1), round(one.t[part[-1]] / HOUR, 1), float(one.v[part[0]]))
            shown.setdefault(one.instance, []).append(row)
    return shown


def test_an_address_that_shows_another_process_later_is_that_one_s() -> None:
    """Both show one process until noon; then B is another one's, which began within the afternoon."""
    known = starts((A, 5.0, 0, 24), (B, 5.0, 0, 12), (B, 12.1 * HOUR, 12.1, 24))
    found = canonical([*known, gauge(A, 0, 24), gauge(B, 0, 12, 2.0), gauge(B, 12.1, 24, 3.0, reason="x")])
    assert hours(found.series) == {A: [(0.0, 24.0, 1.0)], B: [(12.1, 24.0, 3.0)]}
    assert found.doubled == "instance"


def test_of_a_copy_that_goes_on_only_the_overlap_is_dropped() -> None:
    known = starts((A, 5.0, 0, 14), (B, 5.0, 10, 20))
    found = canonical([*known, gauge(A, 0, 14), gauge(B, 10, 20, 2.0)])
    assert hours(found.series) == {A: [(0.0, 14.0, 1.0), (14.0, 20.0, 2.0)]}
    assert found.doubled == "instance"


def test_of_a_replica_that_goes_on_only_the_overlap_is_dropped() -> None:
    found = canonical([gauge(A, 4, 20), gauge(A, 0, 10, 2.0, replica="b"), gauge(A, 19, 24, 3.0, replica="c")])
    assert hours(found.series) == {A: [(0.0, 4.0, 2.0), (4.0, 20.0, 1.0), (20.0, 24.0, 3.0)]}
    assert found.doubled == "replica"


def test_addresses_that_others_connect_are_one() -> None:
    """A and C never show the process at one time; B does with both."""
    known = starts((A, 5.0, 0, 10), (B, 5.0, 8, 16), (C, 5.0, 14, 24))
    assert {address: {one.kept for one in parts} for address, parts in aliases(known).items()} == {A: {C}, B: {C}}
    found = canonical([*known, gauge(A, 0, 10), gauge(B, 8, 16), gauge(C, 14, 24)])
    assert hours(found.series) == {C: [(0.0, 24.0, 1.0)]}


def test_an_address_that_is_given_to_another_process_meanwhile_keeps_both_apart() -> None:
    """A shows another process from 14 on, B the first one until 20."""
    known = starts((A, 5.0, 0, 14), (A, 14.1 * HOUR, 14.1, 24), (B, 5.0, 8, 20))
    found = canonical([*known, gauge(A, 0, 14), gauge(A, 14.1, 24, 3.0, reason="x"), gauge(B, 8, 20, 2.0)])
    memory = hours(found.series)
    assert [(first, last) for first, last, value in memory[A] if value == 3.0] == [(14.1, 24.0)]
    assert memory[B][-1] == (14.1, 20.0, 2.0)
    assert hours(found.series, START)[B] == [(14.1, 20.0, 5.0)]


def test_processes_of_two_slots_or_of_two_starts_are_two() -> None:
    other = [Raw({**one.labels, "slot": "green"}, one.t, one.v) for one in starts((B, 5.0, 0, 24))]
    assert aliases([*starts((A, 5.0, 0, 24)), *other]) == {}
    assert aliases(starts((A, 5.0, 0, 24), (B, 5.01, 0, 24))) == {}
    assert aliases(starts((A, 5.0, 0, 10), (B, 5.0, 10.5, 24))) == {}, "renamed: never shown at one time"


@pytest.mark.parametrize("began", [-10.0, 2.0])
def test_a_counter_that_goes_on_at_the_other_address_is_counted_once(began: float) -> None:
    def counter(address: str, first: float, last: float) -> Raw:
        t = times(first, last)
        return series(MESSAGES, address, t, t - began * HOUR)

    known = starts((A, began * HOUR, 2, 14), (B, began * HOUR, 10, 20))
    found = canonical([*known, counter(A, 2, 14), counter(B, 10, 20)]).series
    total = sum(count(one, clock_of(found, one.instance), 0.0, 0.0, DAY) for one in found if one.name == MESSAGES)
    assert total == 18 * HOUR if began > 0 else 18 * HOUR - 60


STEP = 60.0
NOON = DAY + 12 * HOUR
BEGIN, END = -10 * HOUR, 9 * DAY


def judged(day: Day, check: str) -> Finding:
    return judge_day(day, Limits(), evidence(), only=(check,))[check]


def second_address(day: Day, until: float = np.inf, later: float = 0.5) -> Day:
    """The slot blue is also scraped under another name, so many seconds later, until so many seconds of the day."""
    copies = []
    for one in day.series:
        keep = one.t < day.start + until
        if one.instance == A and keep.any():
            copies.append(Raw({**one.labels, "instance": B}, one.t[keep] + later, one.v[keep]))
    return dataclasses.replace(day, series=(*day.series, *copies))


def moved(day: Day, since: float) -> Day:
    """From so many seconds of the day on, all of the first address is seen at the second one alone."""
    series_ = []
    for one in day.series:
        late = one.t >= day.start + since
        if one.instance != A or not late.any():
            series_.append(one)
            continue
        series_.append(Raw({**one.labels, "instance": B}, one.t[late], one.v[late]))
        if not late.all():
            series_.append(one.with_samples(one.t[~late], one.v[~late]))
    return dataclasses.replace(day, series=tuple(series_))


def test_memory_of_a_process_that_only_the_second_address_shows_is_judged() -> None:
    """Both addresses show the first process in the morning; the one of the afternoon, too big, is at the second."""
    lives = [
        Process(A, "blue", BEGIN, NOON, "v1", writes=[(BEGIN + 2, NOON)]),
        Process(A, "blue", NOON + 5, END, "v1", writes=[(NOON + 6, END)], rss=450.0),
    ]
    day = day_of(EightDays(lives, step=STEP), 1)
    assert judged(day, "memory.max").verdict is Verdict.FAIL
    twice = second_address(day, until=12 * HOUR)
    split = moved(twice, since=12 * HOUR)
    found = judged(split, "memory.max")
    assert (found.verdict, found.value) == (Verdict.FAIL, judged(day, "memory.max").value)


@pytest.mark.parametrize("later", [-25.0, -0.5, 0.0, 0.5, 25.0])
def test_a_restart_at_an_address_whose_process_is_kept_as_another_s_is_counted(later: float) -> None:
    lives = [
        Process(A, "blue", BEGIN, NOON, "v1", writes=[(BEGIN + 2, NOON)]),
        Process(A, "blue", NOON + 5, END, "v1", writes=[(NOON + 6, END)]),
    ]
    day = day_of(EightDays(lives, step=STEP), 1)
    assert judged(day, "restarts").value == 1
    assert judged(second_address(day, later=later), "restarts").value == 1, "once, though two addresses show it"
    standby = [dataclasses.replace(one, writes=[]) for one in lives]
    writer = Process("green:9095", "green", BEGIN, END, "v1", writes=[(BEGIN + 2, END)])
    day = day_of(EightDays([writer, *standby], step=STEP), 1)
    split = moved(second_address(day, until=12 * HOUR - 30, later=later), since=12 * HOUR)
    found = judged(split, "restarts")
    assert (found.verdict, found.value) == (Verdict.FAIL, 1), found
