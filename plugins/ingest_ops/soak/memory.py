"""The memory part of the verdict: warm-up off, minima, trend, and its growth over the required time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest_ops.common.trend import Trend, minima, trend
from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.plan import MB, Plan
from ingest_ops.soak.samples import Sample, increase


@dataclass(frozen=True)
class MemoryJudgement:
    """What the resident memory did. Sizes in MB; ``minima`` as (seconds since the start, MB)."""

    verdict: Verdict
    reason: str
    warm_up_seconds: float
    minima: tuple[tuple[float, float], ...] = ()
    per_second: Trend | None = None
    growth: tuple[float, float, float] | None = None
    """Growth over the required time: estimate, lower and upper end of the 90 % interval."""
    per_million: tuple[float, float, float] | None = None
    """MB per million messages: the same three. What a compressed run can be compared by."""
    beside: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Growth of heap objects, descriptors, tasks and queues over the required time: what moves with the memory."""


BESIDE = ("heap", "descriptors", "tasks", "buffered", "queue", "vms")


def judge_memory(plan: Plan, started: float, samples: Sequence[Sample]) -> MemoryJudgement:
    """PASS where the interval of the growth lies below the limit, FAIL where at or above it, else INCONCLUSIVE."""
    warm_up = plan.warm_up_seconds * min(1.0, plan.share) / plan.factor
    kept = [one for one in samples if one.at - started >= warm_up]
    if not kept:
        return MemoryJudgement(Verdict.INCONCLUSIVE, "no sample after the warm-up", warm_up)
    seconds = [one.at - started for one in kept]
    sizes = [one.values["rss"] / MB for one in kept]
    width = plan.minima_seconds * min(1.0, plan.share) / plan.factor
    block = max(1, round(plan.block_seconds / plan.minima_seconds))
    at, lowest = minima(seconds, sizes, width)
    points = tuple(zip(at, lowest, strict=True))
    found = trend(at, lowest, block=block)
    if found is None:
        return MemoryJudgement(Verdict.INCONCLUSIVE, f"{len(at)} minima are too few for a trend", warm_up, points)
    distance = plan.required_seconds / plan.factor
    growth = found.times(distance)
    verdict, reason = _verdict(plan, growth)
    return MemoryJudgement(
        verdict=verdict,
        reason=reason,
        warm_up_seconds=warm_up,
        minima=points,
        per_second=found,
        growth=growth,
        per_million=_per_million(kept, at, lowest, block, started),
        beside=_beside(kept, started, width, block, distance),
    )


def _verdict(plan: Plan, growth: tuple[float, float, float]) -> tuple[Verdict, str]:
    middle, low, high = growth
    span = f"{middle:+.1f} MB in {plan.name} (90 % interval {low:+.1f} to {high:+.1f}), limit {plan.growth_mb:g} MB"
    if plan.trial:
        return Verdict.INCONCLUSIVE, f"{span}: extrapolated from a trial, most of it warm-up"
    if high < plan.growth_mb:
        return Verdict.PASS, span
    if low >= plan.growth_mb:
        return Verdict.FAIL, span
    return Verdict.INCONCLUSIVE, f"{span}: the interval contains the limit"


def _per_million(
    kept: Sequence[Sample], at: Sequence[float], lowest: Sequence[float], block: int, started: float
) -> tuple[float, float, float] | None:
    counted: dict[float, float] = {}
    total = 0.0
    for before, one in zip([kept[0], *kept], kept, strict=False):
        total += increase((before, one), "received")
        counted[one.at - started] = total / 1e6
    if total == 0.0:
        return None
    messages = [counted[seconds] for seconds in at]
    found = trend(messages, lowest, block=block)
    return found.times(1.0) if found is not None else None


def _beside(
    kept: Sequence[Sample], started: float, width: float, block: int, distance: float
) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    for name in BESIDE:
        rows = [(one.at - started, one.values[name]) for one in kept if name in one.values]
        if not rows:
            continue
        at, lowest = minima([x for x, _ in rows], [y for _, y in rows], width)
        if (slope := trend(at, lowest, block=block)) is not None:
            found[name] = slope.times(distance)
    return found
