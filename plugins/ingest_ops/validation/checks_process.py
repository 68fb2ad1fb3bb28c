"""Memory, freshness and restarts: how the processes lived through the day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ingest_ops.common.growth import assess
from ingest_ops.common.report_settings import DAY, MB, Limits
from ingest_ops.common.verdict import together
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Check, Finding, decide, missing
from ingest_ops.validation.checks_rate import ACTIVE, RECEIVED, shards_of
from ingest_ops.validation.day import Array
from ingest_ops.validation.day_view import FUTURE_SECONDS, DayView, Flags, Process
from ingest_ops.validation.evidence import Evidence

RSS = "process_resident_memory_bytes"
COMMIT = "ingest_last_commit_timestamp_seconds"
START = "process_start_time_seconds"

WARM_UP = 3600.0
LEAST_TREND = 21_600.0
"""A process must have lived this long after its warm-up, or its day has no trend."""
BLOCKS = 8
"""Blocks of a day's window whose lowest samples are compared: three hours each."""
ABSENT_SECONDS = 300.0
"""A writer whose samples end for longer has not returned."""


def memory_max(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The highest sample of any process."""
    found = [
        (float(one.v[inside].max()) / MB, one.instance)
        for one in view.series(RSS)
        if (inside := one.t >= view.day.start).any()
    ]
    highest, instance = max(found, default=(None, ""))
    return decide(
        bad=highest is not None and highest >= limits.memory_mb,
        coverage=view.coverage((RSS,)),
        limits=limits,
        value=highest,
        reason=f"highest {highest:.1f} MB ({view.name_of(instance)})" if highest is not None else "",
    )


def memory_samples(view: DayView, process: Process, after: float = WARM_UP) -> tuple[Array, Array]:
    """Times and MB of one process within the day, once it is ``after`` seconds old."""
    for one in view.series(RSS, process.instance):
        keep = (one.t >= max(process.first, process.started + after)) & (one.t <= process.last)
        return one.t[keep], one.v[keep] / MB
    return np.empty(0), np.empty(0)


def load_at(view: DayView, process: Process, t: Array) -> Array | None:
    """Return messages per second that a process received at each time; ``None`` if it does not expose them."""
    for one in view.series(RECEIVED, process.instance):
        keep = (one.t >= process.started) & (one.t <= process.last)
        if keep.sum() < 2 or not len(t):
            return None
        at, total = one.t[keep], np.cumsum(view.increments(one)[keep])
        return np.asarray(np.interp(t, at[1:], np.diff(total) / np.diff(at)), dtype=np.float64)
    return None


def memory_trend(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The steepest of the processes that lived long enough."""
    coverage = view.coverage((RSS, START, RECEIVED))
    limit = limits.memory_growth_mb_per_day
    found = []
    for process in view.processes:
        t, mb = memory_samples(view, process)
        if not len(t) or t[-1] - t[0] < LEAST_TREND:
            continue
        one = assess(t, mb, over=DAY, blocks=BLOCKS, load=load_at(view, process, t))
        if one is not None:
            found.append((*one.verdict(limit), one, process))
    if not found:
        reason = f"no process lived {(LEAST_TREND + WARM_UP) / 3600:g} hours of it" if coverage.samples else ""
        return Finding(None, INCONCLUSIVE, reason or missing(coverage), coverage.samples, coverage.expected)
    verdict = together([one[0] for one in found])
    _, why, worst, process = max((one for one in found if one[0] is verdict), key=lambda one: one[2].high)
    reason = f"{worst} in 24 h ({process.name}){f': {why}' if why else ''}"
    return decide(
        bad=verdict is FAIL,
        coverage=coverage,
        limits=limits,
        value=worst.estimate,
        reason=reason,
        doubt=verdict is INCONCLUSIVE,
    )


def freshness(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """The share of slots in which every shard has a commit younger than the limit. A slot without a sample is bad."""
    fresh, seen = fresh_slots(view, limits, evidence)
    good, stale = int(fresh.sum()), int((seen & ~fresh).sum())
    share = 100.0 * good / view.slots
    allowed = 100.0 - limits.freshness_percent
    reason = (
        f"{good:,} of {view.slots:,} slots fresh, {stale:,} stale, {view.slots - int(seen.sum()):,} without a sample"
    )
    if not seen.any():
        verdict, reason = INCONCLUSIVE, f"no sample of {COMMIT}"
    elif 100.0 * stale / view.slots > allowed:
        # What was seen to be stale is enough for a FAIL; what was not seen is not known.
        verdict = FAIL
    elif share < limits.freshness_percent:
        verdict = INCONCLUSIVE
    elif view.doubled:
        verdict, reason = INCONCLUSIVE, f"series are doubled by {view.doubled}; {reason}"
    else:
        verdict = PASS
    return Finding(share if seen.any() else None, verdict, reason, int(seen.sum()), view.slots)


def fresh_slots(view: DayView, limits: Limits, evidence: Evidence) -> tuple[Flags, Flags]:
    """For each slot whether every shard had a young commit, and whether that is known.

    A slot in which no process of a shard answered its scrape is known: nothing was fresh.
    """
    fresh = np.ones(view.slots, dtype=np.bool_)
    stale = np.zeros(view.slots, dtype=np.bool_)
    for shard in shards_of(view, evidence):
        young, seen = _fresh(view, limits, view.shards.get(shard, ()))
        fresh &= young
        stale |= seen & ~young
    return fresh, fresh | stale


def _fresh(view: DayView, limits: Limits, instances: Sequence[str]) -> tuple[Flags, Flags]:
    young = np.zeros(view.slots, dtype=np.bool_)
    seen = np.zeros(view.slots, dtype=np.bool_)
    down = np.full(view.slots, bool(instances))
    for instance in instances:
        for one in view.series(COMMIT, instance):
            age = view.in_slots(one, one.t - one.v)
            seen |= ~np.isnan(age)
            young |= (age < limits.commit_age_seconds) & (age > -FUTURE_SECONDS)
        ups = view.series("up", instance)
        down &= view.in_slots(ups[0]) == 0 if ups else False
    return young, seen | down


@dataclass(frozen=True)
class Restart:
    """A process that was replaced, or a writer that ended and did not return. Times in seconds since 1970."""

    at: float
    name: str
    away: float
    """Seconds between its last sample and the first of its successor at the address; infinite without one."""
    why: str
    """What explains it; empty if nothing does."""


def restarts_of(view: DayView, evidence: Evidence, limits: Limits) -> list[Restart]:
    """Every restart of the day, and every writer that ended for good."""
    found, unreported = [], 0
    for process in view.processes:
        if process.restarted_from is None:
            continue
        why = ""
        if (deployment := evidence.during(process.restarted_from, process.first)) is not None:
            why = f"deployment {deployment.title}"
        elif process.version_before and process.version and process.version != process.version_before:
            unreported += 1
            if unreported <= limits.unreported_upgrades:
                why = f"version {process.version_before} to {process.version}, without a deployment's report"
        found.append(Restart(process.first, process.name, process.first - process.restarted_from, why))
    return sorted([*found, *_gone(view, evidence)], key=lambda one: one.at)


def _gone(view: DayView, evidence: Evidence) -> Iterator[Restart]:
    """Writers whose samples end, while scraping goes on, in the day in which their absence shows."""
    latest = max((float(one.t[-1]) for one in view.day.series if len(one.t)), default=0.0)
    for instance in view.instances:
        actives = [one for one in view.series(ACTIVE, instance) if len(one.t)]
        if not actives or not actives[0].v[-1]:
            continue
        last = _last_sign(view, instance)
        shown = last + ABSENT_SECONDS
        if view.day.start <= shown <= min(latest, view.day.end):
            deployment = evidence.during(last, shown)
            why = f"deployment {deployment.title}" if deployment is not None else ""
            yield Restart(last, view.name_of(instance), float("inf"), why)


def _last_sign(view: DayView, instance: str) -> float:
    """The last sample of anything that the process exposed itself, or its last answered scrape."""
    times = [one.t[one.v > 0] if one.name == "up" else one.t for one in view.of(instance)]
    return max(float(t[-1]) for t in times if len(t))


def restarts(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Restarts that no deployment explains, and writers that did not come back."""
    found = restarts_of(view, evidence, limits)
    unplanned = [one for one in found if not one.why]
    named = ", ".join(sorted({one.name for one in unplanned}))
    reason = f"{len(unplanned)} unplanned{f' ({named})' if named else ''}, {len(found) - len(unplanned)} by deployments"
    gone = [one.name for one in unplanned if one.away == float("inf")]
    reason += f"; did not return: {', '.join(gone)}" if gone else ""
    coverage = view.coverage((START, ACTIVE))
    return decide(
        bad=len(unplanned) > limits.restarts,
        coverage=coverage,
        limits=limits,
        value=float(len(unplanned)) if coverage.samples else None,
        reason=reason,
    )


CHECKS = (
    Check(
        id="memory.max",
        title="Memory, highest",
        section="Memory",
        unit="MB",
        query=f"max_over_time({RSS}{{$selector}}[1d])",
        criterion=lambda limits: f"below {limits.memory_mb:g} MB at every sample",
        threshold=lambda limits: limits.memory_mb,
        judge=memory_max,
        join="max",
        about="The highest raw sample of the resident memory of any process of the service.",
    ),
    Check(
        id="memory.trend",
        title="Memory, growth in 24 h",
        section="Memory",
        unit="MB",
        query=f"{RSS}{{$selector}}[1d]",
        criterion=lambda limits: f"99 % interval and last level below {limits.memory_growth_mb_per_day:g} MB",
        threshold=lambda limits: limits.memory_growth_mb_per_day,
        judge=memory_trend,
        join="max",
        about=(
            "The increments between the lowest samples of eight blocks, for each process by itself, its first hour "
            "left out; the level of the last hours against those before. What follows the message rate is left out."
        ),
        params=lambda _limits: {"warm_up_seconds": WARM_UP, "blocks": BLOCKS},
    ),
    Check(
        id="freshness",
        title="Freshness",
        section="Freshness",
        unit="%",
        query=f"time() - max({COMMIT}{{$selector}})",
        criterion=lambda limits: (
            f"at least {limits.freshness_percent:g} % of the slots with a commit younger than "
            f"{limits.commit_age_seconds:g} s; a slot without a sample is bad"
        ),
        threshold=lambda limits: limits.freshness_percent,
        judge=freshness,
        join="share",
        about=(
            "The age of the last commit at each scrape, of the process that has the youngest, in every shard. A scrape "
            "that no process of a shard answers is stale."
        ),
        params=lambda limits: {"commit_age_seconds": limits.commit_age_seconds},
    ),
    Check(
        id="restarts",
        title="Restarts, unplanned",
        section="Restarts and deployments",
        unit="",
        query=f"{START}{{$selector}}[1d]",
        criterion=lambda limits: f"at most {limits.restarts} outside of deployments",
        threshold=lambda limits: float(limits.restarts),
        judge=restarts,
        join="sum",
        about=(
            "Another start time at the same address, or a writer whose samples end while scraping goes on. A restart "
            "is planned if a deployment's report covers it; a new version without a report counts as planned once a "
            "day."
        ),
    ),
)  # fmt: skip
