"""Inputs by construction: each input of each check is altered in every way, on good days and on bad ones.

On a good day no check passes without an input that it declares. On a bad one (each planted fault of the self-check)
nothing turns into a PASS by what is taken away, added or moved in time.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import Finding
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.evidence import Evidence
from ingest_ops.validation.self_check import MUTANTS, Mutant
from ingest_ops.validation.week import CHECKS, judge_day
from tests.harness.production_week import DAY, HOUR, calm
from tests.unit.ingest_ops.validation.days import day_of, evidence

STEP = 60.0
PASS = Verdict.PASS
NOON = 12 * HOUR
Edit = Callable[[Raw, Day, np.random.Generator], Raw | None]
Loss = Callable[[Day, str, np.random.Generator], Day]


def each(edit: Edit) -> Loss:
    """Edit every series of a metric."""

    def loss(day: Day, name: str, random: np.random.Generator) -> Day:
        rows = [edit(one, day, random) if one.name == name else one for one in day.series]
        return dataclasses.replace(day, series=tuple(one for one in rows if one is not None and len(one.t)))

    return loss


def thin(one: Raw, _day: Day, random: np.random.Generator) -> Raw:
    keep = random.random(len(one.t)) < 0.5
    return one.with_samples(one.t[keep], one.v[keep])


def three_left(one: Raw, _day: Day, random: np.random.Generator) -> Raw:
    keep = np.sort(random.choice(len(one.t), size=min(3, len(one.t)), replace=False))
    return one.with_samples(one.t[keep], one.v[keep])


def rename(one: Raw, _day: Day, _random: np.random.Generator) -> Raw:
    return Raw({**one.labels, "__name__": f"x_{one.name}"}, one.t, one.v)


def move(seconds: float) -> Edit:
    """The same values at other times, as from a clock that is wrong; a day ends where it ended."""

    def edit(one: Raw, day: Day, _random: np.random.Generator) -> Raw:
        t = one.t + seconds
        keep = (t >= day.start - HOUR) & (t < day.end)
        return one.with_samples(t[keep], one.v[keep])

    return edit


def doubled(day: Day, name: str, _random: np.random.Generator) -> Day:
    """A second replica of Prometheus has it, too."""
    copies = tuple(Raw({**one.labels, "replica": "b"}, one.t + 0.5, one.v) for one in day.series if one.name == name)
    return dataclasses.replace(day, series=(*day.series, *copies))


def one_child_gone(day: Day, name: str, random: np.random.Generator) -> Day:
    """The first half of the afternoon of one child is gone."""
    mine = [one for one in day.series if one.name == name]
    if not mine:
        return day
    lost = mine[int(random.integers(len(mine)))]
    keep = (lost.t < day.start + NOON) | (lost.t >= day.start + DAY)
    left = lost.with_samples(lost.t[keep], lost.v[keep])
    return dataclasses.replace(day, series=tuple(left if one is lost else one for one in day.series))


LOSSES: dict[str, Loss] = {
    "removed": each(lambda one, day, random: None),
    "thinned": each(thin),
    "three left": each(three_left),
    "renamed": each(rename),
    "doubled": doubled,
    "one child gone": one_child_gone,
    "six hours later": each(move(6 * HOUR)),
    "six hours earlier": each(move(-6 * HOUR)),
}
SHIFTS: dict[str, Loss] = {
    f"{seconds:+.0f} s": each(move(float(seconds))) for seconds in (*range(-840, 841, 120), -1800, 1800, -3600, 3600)
}
"""The day is complete or nearly so after them: they may change nothing, but must not make anything better."""

INPUTS = {
    "memory.max": ("process_resident_memory_bytes",),
    "memory.trend": ("process_resident_memory_bytes", "process_start_time_seconds", "ingest_messages_received_total"),
    "rotations": ("binance_connection_rotations_total", "binance_connection_status"),
    "connection.age": ("binance_connection_age_seconds",),
    "pongs": ("binance_pongs_total", "binance_connection_status"),
    "pong.age": (
        "binance_last_pong_timestamp_seconds", "binance_connection_status", "binance_connection_age_seconds",
    ),
    "rate.mean": ("ingest_messages_received_total", "ingest_writer_active"),
    "rate.worst": ("ingest_messages_received_total", "ingest_writer_active"),
    "reconnects": ("binance_reconnects_total", "binance_connection_rotations_total"),
    "freshness": ("ingest_last_commit_timestamp_seconds",),
    "restarts": ("process_start_time_seconds", "ingest_writer_active"),
}  # fmt: skip
NOT_SAMPLES = {"symbols", "alerts", "audit.lost", "audit.duplicated", "audit.faults"}
"""Checks of other inputs: counts by symbol (``test_symbol_counts.py``), rules and audits (``test_checks.py``)."""
PLANTED = [one for one in MUTANTS if one.check in INPUTS and one.id != "day-dropped"]


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=STEP), 1)


def judged(day: Day | None, check: str, known: Evidence) -> Finding:
    return judge_day(day, Limits(), known, only=(check,))[check]


def test_every_check_that_reads_samples_is_tried() -> None:
    assert {check.id for check in CHECKS} - set(INPUTS) == NOT_SAMPLES
    assert {one.check for one in PLANTED} == set(INPUTS)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("check", INPUTS)
def test_no_check_passes_on_an_input_that_is_not_as_declared(quiet: Day, check: str, loss: str) -> None:
    for name in INPUTS[check]:
        after = judged(LOSSES[loss](quiet, name, np.random.default_rng(5)), check, evidence())
        assert after.verdict is not PASS, (name, after)


@pytest.mark.parametrize("mutant", PLANTED, ids=lambda one: one.id)
def test_nothing_turns_into_a_pass(quiet: Day, mutant: Mutant) -> None:
    """A planted fault that fails its check does not pass it with any input altered."""
    day, known = mutant.change(quiet, evidence(), Limits())
    assert day is not None
    before = judged(day, mutant.check, known)
    assert before.verdict is not PASS, before
    for way, change in (LOSSES | SHIFTS).items():
        for name in INPUTS[mutant.check]:
            after = judged(change(day, name, np.random.default_rng(1)), mutant.check, known)
            assert after.verdict is not PASS, (way, name, after)


def at_two_addresses(day: Day, seconds: float = 0.5) -> Day:
    """The target is also scraped under its other name, with the same labels of the slot."""
    copies = tuple(
        Raw({**one.labels, "instance": one.instance.replace(":", ".k2:")}, one.t + seconds, one.v) for one in day.series
    )
    return dataclasses.replace(day, series=(*day.series, *copies))


def slow(day: Day) -> Day:
    """Seven messages a second: below the limit, and above it if they are counted twice."""

    def edit(one: Raw, day: Day, _random: np.random.Generator) -> Raw:
        return one.with_samples(one.t, np.floor((one.t - day.start + 2 * HOUR) * 7))

    return each(edit)(day, "ingest_messages_received_total", np.random.default_rng(1))


@pytest.mark.parametrize("seconds", [0.0, 0.5, 31.0])
@pytest.mark.parametrize("check", ["rate.mean", "rate.worst"])
def test_a_target_that_is_scraped_at_two_addresses_is_one_process(quiet: Day, check: str, seconds: float) -> None:
    twice = judged(at_two_addresses(slow(quiet), seconds), check, evidence())
    assert twice.verdict is Verdict.FAIL, twice
    assert twice.value == judged(slow(quiet), check, evidence()).value
    good = judged(at_two_addresses(quiet, seconds), check, evidence())
    assert good.verdict is Verdict.INCONCLUSIVE
    assert "doubled by instance" in good.reason


def bad() -> Day:
    """A day that fails in many ways."""
    world = calm(step=STEP)
    process = world.processes[0]
    process.rss, process.leak = 380.0, 100.0
    process.reconnects = [(DAY + 6 * HOUR, "dns")]
    process.quiet = [(DAY + 7 * HOUR, DAY + 8 * HOUR)]
    process.stalled = [(DAY + 9 * HOUR, DAY + 10 * HOUR)]
    return day_of(world, 1)


def test_no_other_check_turns_into_a_pass() -> None:
    day = bad()
    before = judge_day(day, Limits(), evidence())
    assert sum(one.verdict is Verdict.FAIL for one in before.values()) >= 5
    for loss, change in LOSSES.items():
        for name in sorted({name for names in INPUTS.values() for name in names}):
            after = judge_day(change(day, name, np.random.default_rng(1)), Limits(), evidence())
            better = [
                check for check, one in after.items() if one.verdict is PASS and before[check].verdict is not PASS
            ]
            assert better == [], (loss, name)
