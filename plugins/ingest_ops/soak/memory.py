"""The memory part of the verdict: growth over the required time after the warm-up, and the trend that charts show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ingest_ops.common.growth import Growth, assess, resolution
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
    judged: Growth | None = None
    """What the verdict is made from."""
    per_million: tuple[float, float, float] | None = None
    """MB per million messages: the same three. What a compressed run can be compared by."""
    beside: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Growth of heap objects, descriptors, tasks and queues over the required time: what moves with the memory."""

    @property
    def growth(self) -> tuple[float, float, float] | None:
        """Growth over the required time: estimate, lower and upper bound (one-sided error 0.5 %)."""
        return (self.judged.estimate, self.judged.low, self.judged.high) if self.judged is not None else None


BESIDE = ("heap", "descriptors", "tasks", "buffered", "queue", "vms")


def growth_of(
    plan: Plan, seconds: NDArray[np.float64], sizes: NDArray[np.float64], load: NDArray[np.float64] | None
) -> Growth | None:
    """The growth that a plan judges, from all samples: ``seconds`` since the start, MB, messages per second."""
    begin = _warm_up(plan)
    keep = seconds >= begin
    blocks = round((plan.run_seconds - begin) / (plan.block_seconds * min(1.0, plan.share) / plan.factor))
    return assess(
        seconds[keep],
        sizes[keep],
        over=plan.required_seconds / plan.factor,
        blocks=blocks,
        start=begin,
        load=load[keep] if load is not None else None,
        step=resolution(sizes),
    )


def _warm_up(plan: Plan) -> float:
    return plan.warm_up_seconds * min(1.0, plan.share) / plan.factor


def judge_memory(plan: Plan, started: float, samples: Sequence[Sample]) -> MemoryJudgement:
    """PASS if the growth stays below the limit, FAIL if it reaches it, INCONCLUSIVE if neither is shown."""
    warm_up = _warm_up(plan)
    kept = [one for one in samples if one.at - started >= warm_up and "rss" in one.values]
    if not kept:
        return MemoryJudgement(Verdict.INCONCLUSIVE, "no sample after the warm-up", warm_up)
    seconds = [one.at - started for one in kept]
    sizes = [one.values["rss"] / MB for one in kept]
    width = plan.minima_seconds * min(1.0, plan.share) / plan.factor
    block = max(1, round(plan.block_seconds / plan.minima_seconds))
    at, lowest = minima(seconds, sizes, width)
    points = tuple(zip(at, lowest, strict=True))
    whole = [one for one in samples if "rss" in one.values]
    found = growth_of(
        plan,
        np.array([one.at - started for one in whole]),
        np.array([one.values["rss"] / MB for one in whole]),
        _load(whole),
    )
    line = trend(at, lowest, block=block)
    if found is None or line is None:
        reason = f"{len(kept)} samples do not reach every block: the growth over a gap is not known"
        return MemoryJudgement(Verdict.INCONCLUSIVE, reason, warm_up, points)
    verdict, reason = _verdict(plan, found)
    return MemoryJudgement(
        verdict=verdict,
        reason=reason,
        warm_up_seconds=warm_up,
        minima=points,
        per_second=line,
        judged=found,
        per_million=_per_million(kept, at, lowest, block, started),
        beside=_beside(kept, started, width, block, plan.required_seconds / plan.factor),
    )


def _load(kept: Sequence[Sample]) -> NDArray[np.float64] | None:
    """Return messages per second at each sample; ``None`` if any sample lacks them."""
    if len(kept) < 2 or any("received" not in one.values for one in kept):
        return None
    gained = np.array([increase(pair, "received") for pair in pairwise(kept)])
    rates = gained / np.diff([one.at for one in kept])
    return np.append(rates[:1], rates)


def _verdict(plan: Plan, found: Growth) -> tuple[Verdict, str]:
    span = f"{found} in {plan.name}, limit {plan.growth_mb:g} MB"
    if found.per_load is not None:
        span += ", what follows the message rate left out"
    if plan.trial:
        return Verdict.INCONCLUSIVE, f"{span}: extrapolated from a trial, most of it warm-up"
    verdict, why = found.verdict(plan.growth_mb)
    return verdict, f"{span}: {why}" if why else span


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
