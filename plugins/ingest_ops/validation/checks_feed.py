"""Connections, pongs, message rate and reconnections: how the feed did."""

import math
from dataclasses import dataclass

import numpy as np

from ingest_ops.common.report_settings import Limits
from ingest_ops.validation.check import Check, Finding, decide
from ingest_ops.validation.day import Array
from ingest_ops.validation.day_view import FUTURE_SECONDS, DayView
from ingest_ops.validation.evidence import Evidence

ROTATIONS = "binance_connection_rotations_total"
RECONNECTS = "binance_reconnects_total"
AGE = "binance_connection_age_seconds"
STATUS = "binance_connection_status"
LAST_PONG = "binance_last_pong_timestamp_seconds"
PONGS = "binance_pongs_total"
FORCED = ("stalled", "pong_timeout")
"""Rotations that replace a dead connection: disturbances like a reconnection, not planned ones."""


@dataclass(frozen=True)
class Connected:
    """How long connections were open, in how many unbroken pieces, and how often one ended early."""

    seconds: float
    pieces: int
    beyond_one: int
    """Pieces more than an undisturbed day has."""
    early: int


def connected(view: DayView) -> Connected:
    """Sum up the day's connections."""
    seconds, pieces, parallel = 0.0, 0, 0
    for instance in view.instances:
        open_now = np.zeros(view.slots)
        for one in view.series(STATUS, instance):
            open_now += np.nan_to_num(view.in_slots(one)) > 0
        if not open_now.any():
            continue
        seconds += float(open_now.sum()) * view.step
        usual = max(1, round(float(np.median(open_now[open_now > 0]))))
        lives = sum(1 for process in view.processes if process.instance == instance) or 1
        pieces += usual * lives
        parallel = max(parallel, usual)
    scheduled = view.count(ROTATIONS, reason="scheduled")
    early = view.count(ROTATIONS) - scheduled + view.count(RECONNECTS)
    return Connected(seconds, pieces, pieces - parallel, early)


def rotations(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The count, against what the connected time gives room for."""
    coverage = view.coverage((ROTATIONS, STATUS))
    by_reason = view.count_by(ROTATIONS, "reason")
    total = sum(by_reason.values())
    time = connected(view)
    life = limits.connection_lifetime_seconds
    slack = max(1, time.pieces) + time.early
    low = max(0, math.floor(time.seconds / life) - slack)
    high = math.floor(time.seconds / (life * (1 - limits.connection_lifetime_jitter))) + slack
    reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason.items() if count) or "none"
    reason = f"{reasons}; {low} to {high} fit {time.seconds / 3600:.1f} connected hours"
    # Rotations that a hole in the data hides must not look like rotations that did not happen.
    known = coverage.share >= limits.least_coverage
    return decide(
        bad=total > high or (known and total < low),
        coverage=coverage,
        limits=limits,
        value=float(total) if coverage.samples else None,
        reason=reason,
    )


def connection_age(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The oldest that any connection was at any scrape."""
    ages = [float(one.v[keep].max()) for one in view.series(AGE) if (keep := one.t >= view.day.start).any()]
    oldest = max(ages, default=None)
    return decide(
        bad=oldest is not None and oldest > limits.connection_age_seconds,
        coverage=view.coverage((AGE,)),
        limits=limits,
        value=oldest,
        reason=f"oldest {oldest:,.0f} s" if oldest is not None else "",
    )


def pongs(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """Pongs to our pings, against what the connected time gives room for."""
    coverage = view.coverage((PONGS, STATUS))
    total = view.count(PONGS)
    time = connected(view)
    room = time.seconds / limits.ping_interval_seconds
    least = max(0, math.floor(room * limits.pongs_of_480 / 480) - time.early - time.beyond_one)
    reason = f"{total:,} pongs, at least {least:,} of the {room:,.0f} that fit"
    known = coverage.share >= limits.least_coverage
    return decide(
        bad=known and total < least,
        coverage=coverage,
        limits=limits,
        value=float(total) if coverage.samples else None,
        reason=reason,
    )


def pong_age(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """How old the last pong of an open connection was at worst; a new connection's clock begins with it."""
    oldest = pong_ages(view)
    known = oldest[~np.isnan(oldest)]
    worst = float(known.max()) if len(known) else None
    ahead = pongs_ahead(view)
    reason = f"oldest {worst:.0f} s" if worst is not None else ""
    if ahead > FUTURE_SECONDS:
        reason = f"a pong lies {ahead:.0f} s after its sample: the clocks differ; {reason}"
    return decide(
        bad=worst is not None and worst > limits.pong_age_seconds,
        coverage=view.coverage((LAST_PONG, STATUS, AGE)),
        limits=limits,
        value=worst,
        reason=reason,
        doubt=ahead > FUTURE_SECONDS,
    )


def pongs_ahead(view: DayView) -> float:
    """How far, in seconds, the last pong lies after the sample that shows it, at worst; 0 where none does."""
    ahead = [float((one.v - one.t)[one.t >= view.day.start].max(initial=0.0)) for one in view.series(LAST_PONG)]
    return max(ahead, default=0.0)


def pong_ages(view: DayView) -> Array:
    """Slot by slot the oldest last pong of any open connection; not a number where none is known."""
    oldest = np.full(view.slots, np.nan)
    for last in view.series(LAST_PONG):
        name = last.labels.get("connection")
        status, age = (
            next((one for one in view.series(metric, last.instance) if one.labels.get("connection") == name), None)
            for metric in (STATUS, AGE)
        )
        if status is None or age is None:
            continue
        now = view.in_slots(last, last.t)
        since = np.fmax(view.in_slots(last), now - view.in_slots(age))
        waited = np.where(view.in_slots(status) > 0, now - since, np.nan)
        oldest = np.fmax(oldest, waited)
    return oldest


def reconnects(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """Connections that ended unasked, did not open, or had to be replaced because they were dead."""
    coverage = view.coverage((RECONNECTS, ROTATIONS))
    by_reason = {reason: count for reason, count in view.count_by(RECONNECTS, "reason").items() if count}
    forced = view.count_by(ROTATIONS, "reason")
    by_reason |= {f"replaced: {reason}": forced[reason] for reason in FORCED if forced.get(reason)}
    total = sum(by_reason.values())
    return decide(
        bad=total > limits.reconnects,
        coverage=coverage,
        limits=limits,
        value=float(total) if coverage.samples else None,
        reason=", ".join(f"{count} {reason}" for reason, count in by_reason.items()) or "none",
    )


CHECKS = (
    Check(
        id="rotations",
        title="Rotations",
        section="Rotations",
        unit="",
        query=f"{ROTATIONS}{{$selector}}[1d]",
        criterion=lambda limits: (
            f"what the connected time gives room for, by one more or less for each process: "
            f"{86_400 / limits.connection_lifetime_seconds:g} a day for one undisturbed connection"
        ),
        threshold=lambda limits: 86_400 / limits.connection_lifetime_seconds,
        judge=rotations,
        join="sum",
        about=(
            "Six a day is what one undisturbed connection does; reconnections, deployments and the jitter of the "
            "lifetime move it. The connection's age is the hard check."
        ),
        params=lambda limits: {
            "connection_lifetime_seconds": limits.connection_lifetime_seconds,
            "connection_lifetime_jitter": limits.connection_lifetime_jitter,
        },
    ),
    Check(
        id="connection.age",
        title="Connection age, highest",
        section="Rotations",
        unit="s",
        query=f"max_over_time({AGE}{{$selector}}[1d])",
        criterion=lambda limits: f"at most {limits.connection_age_seconds:,.0f} s",
        threshold=lambda limits: limits.connection_age_seconds,
        judge=connection_age,
        join="max",
        about="The age of the oldest connection at any scrape.",
    ),
    Check(
        id="pongs",
        title="Pongs",
        section="Ping and pong",
        unit="",
        query=f"{PONGS}{{$selector}}[1d]",
        criterion=lambda limits: (
            f"at least {limits.pongs_of_480:g} for each 480 intervals of {limits.ping_interval_seconds:g} s connected"
        ),
        threshold=lambda limits: limits.pongs_of_480,
        judge=pongs,
        join="sum",
        about="480 a day is what one connection does without a rotation; each rotation costs up to one.",
        params=lambda limits: {"ping_interval_seconds": limits.ping_interval_seconds},
    ),
    Check(
        id="pong.age",
        title="Pong age, highest",
        section="Ping and pong",
        unit="s",
        query=f"time() - {LAST_PONG}{{$selector}} and {STATUS}{{$selector}} == 1",
        criterion=lambda limits: f"at most {limits.pong_age_seconds:g} s",
        threshold=lambda limits: limits.pong_age_seconds,
        judge=pong_age,
        join="max",
        about="The age of the last pong of an open connection at any scrape; a new connection's age until its first.",
    ),
    Check(
        id="reconnects",
        title="Reconnections, unscheduled",
        section="Reconnections",
        unit="",
        query=f"{RECONNECTS}{{$selector}}[1d]",
        criterion=lambda limits: f"at most {limits.reconnects}",
        threshold=lambda limits: float(limits.reconnects),
        judge=reconnects,
        join="sum",
        about=(
            "Connections that ended unasked, could not be opened, or were replaced because they had stalled or did not "
            "answer a ping; counted from raw samples of each process."
        ),
    ),
)  # fmt: skip
