"""Memory, freshness and restarts: how the processes lived through the day."""

from dataclasses import dataclass

import numpy as np

from ingest_ops.common.report_settings import DAY, MB, Limits
from ingest_ops.common.trend import minima, trend
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Check, Finding, decide, missing, together
from ingest_ops.validation.day import Array
from ingest_ops.validation.day_view import DayView, Process
from ingest_ops.validation.evidence import Evidence

RSS = "process_resident_memory_bytes"
COMMIT = "ingest_last_commit_timestamp_seconds"
START = "process_start_time_seconds"

WARM_UP = 3600.0
LEAST_TREND = 21_600.0
"""A process must have lived this long after its warm-up, or its day has no trend."""
MINIMA = 900.0
BLOCK = 16
"""Minima to a block of the bootstrap: four hours."""


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


@dataclass(frozen=True)
class Growth:
    """MB over a stretch of time: the estimate and the ends of its 90 % interval."""

    middle: float
    low: float
    high: float

    def verdict(self, limit: float) -> Verdict:
        """PASS where the interval lies below the limit, FAIL where at or above it, else INCONCLUSIVE."""
        return PASS if self.high < limit else FAIL if self.low >= limit else INCONCLUSIVE

    def __str__(self) -> str:
        return f"{self.middle:+.1f} MB (90 % interval {self.low:+.1f} to {self.high:+.1f})"


def growth(t: Array, mb: Array, over: float, *, width: float = MINIMA, block: int = BLOCK) -> Growth | None:
    """The trend of the minima of slots of ``width`` seconds, over ``over`` seconds; ``None`` for too few of them."""
    if len(t) < 2:
        return None
    at, lowest = minima((t - t[0]).tolist(), mb.tolist(), width)
    found = trend(at, lowest, block=block)
    return Growth(*found.times(over)) if found is not None else None


def memory_trend(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The steepest of the processes that lived long enough."""
    coverage = view.coverage((RSS, START))
    limit = limits.memory_growth_mb_per_day
    found = []
    for process in view.processes:
        t, mb = memory_samples(view, process)
        if len(t) and t[-1] - t[0] >= LEAST_TREND and (one := growth(t, mb, DAY)) is not None:
            found.append((one, process))
    if not found:
        reason = f"no process lived {(LEAST_TREND + WARM_UP) / 3600:g} hours of it" if coverage.samples else ""
        return Finding(None, INCONCLUSIVE, reason or missing(coverage), coverage.samples, coverage.expected)
    verdict = together([one.verdict(limit) for one, _ in found])
    worst, process = max((pair for pair in found if pair[0].verdict(limit) is verdict), key=lambda pair: pair[0].high)
    reason = f"{worst} in 24 h ({process.name})"
    if verdict is PASS and coverage.share < limits.least_coverage:
        verdict, reason = INCONCLUSIVE, f"{missing(coverage)}; {reason}"
    return Finding(worst.middle, verdict, reason, coverage.samples, coverage.expected)


def freshness(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The share of slots with a commit younger than the limit. A slot without a sample is bad."""
    fresh, seen = fresh_slots(view, limits)
    good, stale = int(fresh.sum()), int((seen & ~fresh).sum())
    share = 100.0 * good / view.slots
    allowed = 100.0 - limits.freshness_percent
    reason = (
        f"{good:,} of {view.slots:,} slots fresh, {stale:,} stale, {view.slots - int(seen.sum()):,} without a sample"
    )
    if not seen.any():
        verdict, reason = INCONCLUSIVE, f"no sample of {COMMIT}"
    elif share >= limits.freshness_percent:
        verdict = PASS
    else:
        # What was seen to be stale is enough for a FAIL; what was not seen is not known.
        verdict = FAIL if 100.0 * stale / view.slots > allowed else INCONCLUSIVE
    return Finding(share if seen.any() else None, verdict, reason, int(seen.sum()), view.slots)


def fresh_slots(view: DayView, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """For each slot whether some process had a young commit, and whether anything was seen at all."""
    fresh = np.zeros(view.slots, dtype=np.bool_)
    seen = np.zeros(view.slots, dtype=np.bool_)
    for one in view.series(COMMIT):
        age = view.in_slots(one, one.t - one.v)
        seen |= ~np.isnan(age)
        fresh |= age < limits.commit_age_seconds
    return fresh, seen


@dataclass(frozen=True)
class Restart:
    """A process that took the place of an earlier one at the same address."""

    at: float
    name: str
    away: float
    """Seconds between the last sample of the one and the first of the other."""
    why: str
    """What explains it; empty for a restart that nothing explains."""


def restarts_of(view: DayView, evidence: Evidence) -> list[Restart]:
    """Every restart of the day."""
    found = []
    for process in view.processes:
        if process.restarted_from is None:
            continue
        why = ""
        if process.version_before and process.version and process.version != process.version_before:
            why = f"version {process.version_before} to {process.version}"
        elif (deployment := evidence.during(process.restarted_from, process.first)) is not None:
            why = f"deployment {deployment.title}"
        found.append(Restart(process.first, process.name, process.first - process.restarted_from, why))
    return found


def restarts(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Restarts that no deployment explains."""
    found = restarts_of(view, evidence)
    unplanned = [one for one in found if not one.why]
    named = ", ".join(sorted({one.name for one in unplanned}))
    reason = f"{len(unplanned)} unplanned{f' ({named})' if named else ''}, {len(found) - len(unplanned)} by deployments"
    coverage = view.coverage((START,))
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
        criterion=lambda limits: f"90 % interval below {limits.memory_growth_mb_per_day:g} MB",
        threshold=lambda limits: limits.memory_growth_mb_per_day,
        judge=memory_trend,
        join="max",
        about=(
            "Theil-Sen slope of the lowest sample of each quarter of an hour, for each process by itself, its first "
            "hour left out; the interval by a block bootstrap."
        ),
        params=lambda _limits: {"minima_seconds": MINIMA, "warm_up_seconds": WARM_UP, "block_minima": BLOCK},
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
        about="The age of the last commit at each scrape, of the process that has the youngest.",
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
            "Another start time at the same address. A restart is planned if the version changed with it, or if a "
            "deployment's report covers it."
        ),
    ),
)  # fmt: skip
