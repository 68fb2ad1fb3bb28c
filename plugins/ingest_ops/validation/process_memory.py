"""The memory of each process: its highest sample, and its growth over a day of its own, whatever midnight cuts."""

from dataclasses import dataclass, replace

import numpy as np

from ingest_ops.common.growth import MOST_SLACKENING, Growth, assess
from ingest_ops.common.report_settings import DAY, MB, Limits
from ingest_ops.common.verdict import Verdict, together
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Finding, decide, missing
from ingest_ops.validation.checks_rate import RECEIVED
from ingest_ops.validation.day import Array
from ingest_ops.validation.day_view import DayView, Process
from ingest_ops.validation.evidence import Evidence
from ingest_ops.validation.process_runs import START

RSS = "process_resident_memory_bytes"

WARM_UP = 3600.0
LEAST_TREND = 21_600.0
"""Seconds of samples after the warm-up from which the growth of a day is concluded; with fewer, see ``_young``."""
BLOCKS = 8
"""Blocks of a day's window whose lowest samples are compared: three hours each."""
NEARLY_A_DAY = 0.95 * (DAY - WARM_UP)


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


@dataclass(frozen=True)
class Memory:
    """Samples of one process once it is warm: seconds since 1970, MB, and messages per second at each."""

    t: Array
    mb: Array
    load: Array | None

    @property
    def span(self) -> float:
        """Seconds from the first sample to the last."""
        return float(self.t[-1] - self.t[0]) if len(self.t) else 0.0

    def within(self, start: float, end: float) -> "Memory":
        """Only the samples of a time."""
        keep = (self.t >= start) & (self.t <= end)
        return Memory(self.t[keep], self.mb[keep], None if self.load is None else self.load[keep])


def memory_samples(view: DayView, process: Process, after: float = WARM_UP) -> tuple[Array, Array]:
    """Times and MB of one process within the day, once it is ``after`` seconds old."""
    for one in view.series(RSS, process.instance):
        keep = (one.t >= max(process.first, process.started + after)) & (one.t <= process.last)
        return one.t[keep], one.v[keep] / MB
    return np.empty(0), np.empty(0)


def load_at(view: DayView, process: Process, t: Array) -> Array | None:
    """Messages per second that a process received at each time; ``None`` if it does not show them."""
    for one in view.series(RECEIVED, process.instance):
        keep = (one.t >= process.started) & (one.t <= process.last)
        if keep.sum() < 2 or not len(t):
            return None
        at, total = one.t[keep], np.cumsum(view.increments(one)[keep])
        return np.asarray(np.interp(t, at[1:], np.diff(total) / np.diff(at)), dtype=np.float64)
    return None


def _memory(view: DayView, process: Process) -> Memory:
    t, mb = memory_samples(view, process)
    return Memory(t, mb, load_at(view, process, t))


def _joined(parts: list[Memory]) -> Memory:
    loads = [one.load for one in parts if one.load is not None]
    load = np.concatenate(loads) if len(loads) == len(parts) else None
    return Memory(np.concatenate([one.t for one in parts]), np.concatenate([one.mb for one in parts]), load)


def around(view: DayView, process: Process) -> Memory:
    """A day of the process's life: where midnight or its start cuts it short, that of the day beside is added.

    A process that began at noon is judged over the 24 hours from then on, one that ended at noon over those before.
    """
    mine = _memory(view, process)
    if not len(mine.t) or mine.span >= NEARLY_A_DAY:
        return mine
    later, earlier = _beside(view.after, process), _beside(view.before, process)
    if later and (whole := _joined([mine, *later])).span > mine.span:
        mine = whole.within(mine.t[0], mine.t[0] + DAY)
    if earlier and mine.span < NEARLY_A_DAY:
        whole = _joined([*earlier, mine])
        mine = whole.within(mine.t[-1] - DAY, mine.t[-1])
    return mine


def _beside(view: DayView | None, process: Process) -> list[Memory]:
    """What another day has of the same process."""
    if view is None:
        return []
    return [_memory(view, one) for one in view.processes if one.continues(process) or process.continues(one)]


def memory_trend(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """The steepest of all processes; one of them that cannot be judged for hours is not passed for by the others."""
    coverage = view.coverage((RSS, START, RECEIVED))
    limit = limits.memory_growth_mb_per_day
    found: list[tuple[Verdict, str, Growth, Process]] = []
    unjudged: dict[str, float] = {}
    for process in view.processes:
        judged = _judged(view, process, around(view, process), limit)
        if judged is None:
            unjudged[process.instance] = unjudged.get(process.instance, 0.0) + process.last - process.first
        else:
            found.append((*judged, process))
    if not found:
        reason = f"no process lived {(LEAST_TREND + WARM_UP) / 3600:g} hours of it" if coverage.samples else ""
        return Finding(None, INCONCLUSIVE, reason or missing(coverage), coverage.samples, coverage.expected)
    verdict = together([one[0] for one in found])
    _, why, worst, process = max((one for one in found if one[0] is verdict), key=lambda one: one[2].high)
    reason = f"{worst} in 24 h ({process.name}){f': {why}' if why else ''}"
    blind = [view.name_of(instance) for instance, seconds in unjudged.items() if seconds > LEAST_TREND]
    if blind:
        reason = f"too young to be judged for more than {LEAST_TREND / 3600:g} h: {', '.join(blind)}; {reason}"
    return decide(
        bad=verdict is FAIL,
        coverage=coverage,
        limits=limits,
        value=worst.estimate,
        reason=reason,
        doubt=verdict is INCONCLUSIVE or bool(blind),
    )


def _judged(view: DayView, process: Process, mine: Memory, limit: float) -> tuple[Verdict, str, Growth] | None:
    """``None`` if it did not live long enough to be judged at all."""
    if not len(mine.t):
        return None
    if mine.span < LEAST_TREND:
        goes_on = process.last >= view.day.end - 2 * view.step
        return _young(mine, limit, goes_on=goes_on)
    one = assess(mine.t, mine.mb, over=DAY, blocks=BLOCKS, load=mine.load)
    return None if one is None else (*one.verdict(limit), one)


def _young(mine: Memory, limit: float, *, goes_on: bool) -> tuple[Verdict, str, Growth] | None:
    """Few hours say nothing about a day's growth; but in them it may not have reached the limit of a day already.

    Nor may one that has ended, which no later day judges, have grown at a pace above the limit.
    """
    seen = assess(mine.t, mine.mb, over=mine.span, blocks=BLOCKS)
    if seen is None:
        return None
    verdict, why = replace(seen, fall=0.0).verdict(limit)  # what grew is what counts: hours are a part of any wave
    if verdict is not PASS:
        with_load = assess(mine.t, mine.mb, over=mine.span, blocks=BLOCKS, load=mine.load)
        verdict = together([verdict, INCONCLUSIVE]) if with_load is None else with_load.verdict(limit)[0]
        verdict = FAIL if verdict is FAIL else INCONCLUSIVE
        return verdict, why or f"within the {mine.span / 3600:.1f} h of its life", seen
    pace = seen.low * DAY / mine.span
    if not goes_on and pace >= limit and seen.slackening < MOST_SLACKENING:
        return INCONCLUSIVE, f"{mine.span / 3600:.1f} h at a pace of {pace:.0f} MB a day or more", seen
    return PASS, "", seen
