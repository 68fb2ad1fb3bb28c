"""Connections, pongs, message rate and reconnections: how the feed did."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ingest_ops.common.report_settings import Limits
from ingest_ops.validation.check import Check, Finding, decide
from ingest_ops.validation.day import Array, Raw
from ingest_ops.validation.day_view import DayView
from ingest_ops.validation.evidence import Evidence

ROTATIONS = "binance_connection_rotations_total"
RECONNECTS = "binance_reconnects_total"
AGE = "binance_connection_age_seconds"
STATUS = "binance_connection_status"
LAST_PONG = "binance_last_pong_timestamp_seconds"
PONGS = "binance_pongs_total"
RECEIVED = "ingest_messages_received_total"
ACTIVE = "ingest_writer_active"


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
    high = math.ceil(time.seconds / (life * (1 - limits.connection_lifetime_jitter))) + slack
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
    return decide(
        bad=worst is not None and worst > limits.pong_age_seconds,
        coverage=view.coverage((LAST_PONG, STATUS, AGE)),
        limits=limits,
        value=worst,
        reason=f"oldest {worst:.0f} s" if worst is not None else "",
    )


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


def received_by_slot(view: DayView, limits: Limits) -> Array:
    """Messages that arrived at writing processes, slot by slot; not a number where it is unknown.

    What arrived over a hole in the scrapes is spread over it, if the hole is no longer than the window of the rate;
    over a longer one nobody knows when it arrived, and it is left out.
    """
    return view.once(("received", limits.rate_window_seconds), lambda: _received(view, limits))


def _received(view: DayView, limits: Limits) -> Array:
    total = np.full(view.slots, np.nan)
    for one in view.series(RECEIVED):
        actives = view.series(ACTIVE, one.instance)
        if not actives or not len(one.t):
            continue
        active = view.in_slots(actives[0])
        gained, at = view.increments(one), view.slot_of(one.t, one.instance)
        since = _since(view, one)
        for index in range(len(at)):
            slot = int(at[index])
            if not 0 <= slot < view.slots or math.isnan(active[slot]) or since[index] > limits.rate_window_seconds:
                continue
            first = slot
            if index and slot - at[index - 1] > 1:
                first = max(0, int(at[index - 1]) + 1)
            share = float(gained[index]) / (slot - first + 1) if active[slot] > 0 else 0.0
            part = total[first : slot + 1]
            total[first : slot + 1] = np.where(np.isnan(part), share, part + share)
    return total


def _since(view: DayView, one: Raw) -> Array:
    """Over how many seconds each sample's increment was gained: since the sample before, or since its process began."""
    before = np.diff(one.t, prepend=one.t[0] - np.inf)
    alive = one.t - view.clock(one.instance).at(one.t)
    return np.fmin(before, alive)


def rate_mean(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """Over all slots that are known."""
    counts = received_by_slot(view, limits)
    known = counts[~np.isnan(counts)]
    mean = float(known.sum()) / (len(known) * view.step) if len(known) else None
    return _rate(view, limits, mean, f"{mean:,.1f}/s on average" if mean is not None else "")


def rate_worst(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The lowest of all windows, moved on by one slot at a time."""
    rates = window_rates(view, limits)
    known = rates.dropna()
    worst = float(known.min()) if len(known) else None
    if worst is None:
        return _rate(view, limits, None, "")
    below = int((known <= limits.rate_per_second).sum())
    last = int(np.nanargmin(rates.to_numpy()))
    end = pd.Timestamp(view.day.start + (last + 1) * view.step, unit="s")
    reason = f"{worst:,.1f}/s in the {limits.rate_window_seconds / 60:g} minutes to {end:%H:%M:%S}"
    return _rate(view, limits, worst, reason + (f"; {below:,} windows at or below" if below else ""))


def window_rates(view: DayView, limits: Limits) -> pd.Series:
    """The rate of the window that ends with each slot; not a number where a part of it is unknown."""
    width = max(1, round(limits.rate_window_seconds / view.step))
    sums: pd.Series = pd.Series(received_by_slot(view, limits)).rolling(width, min_periods=width).sum()
    return sums / (width * view.step)


def _rate(view: DayView, limits: Limits, value: float | None, reason: str) -> Finding:
    return decide(
        bad=value is not None and value <= limits.rate_per_second,
        coverage=view.coverage((RECEIVED, ACTIVE)),
        limits=limits,
        value=value,
        reason=reason,
    )


def reconnects(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """Connections that ended unasked or did not open."""
    coverage = view.coverage((RECONNECTS,))
    by_reason = {reason: count for reason, count in view.count_by(RECONNECTS, "reason").items() if count}
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
        id="rate.mean",
        title="Message rate, mean",
        section="Message rate",
        unit="1/s",
        query=f"{RECEIVED}{{$selector}}[1d]",
        criterion=lambda limits: f"more than {limits.rate_per_second:g}/s",
        threshold=lambda limits: limits.rate_per_second,
        judge=rate_mean,
        join="mean",
        about="Messages received by the process that writes, over the whole day.",
    ),
    Check(
        id="rate.worst",
        title="Message rate, sustained",
        section="Message rate",
        unit="1/s",
        query=f"min_over_time(sum(rate({RECEIVED}{{$selector}}[5m]))[1d:15s])",
        criterion=lambda limits: (
            f"more than {limits.rate_per_second:g}/s in each window of {limits.rate_window_seconds / 60:g} minutes"
        ),
        threshold=lambda limits: limits.rate_per_second,
        judge=rate_worst,
        join="min",
        about="The lowest rate of any window, counted from the raw samples: an average hides a quiet hour.",
        params=lambda limits: {"rate_window_seconds": limits.rate_window_seconds},
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
        about="Connections that ended unasked or could not be opened, counted from raw samples of each process.",
    ),
)  # fmt: skip
