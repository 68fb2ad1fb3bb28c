"""How gates judge: pure functions from what was read to a finding.

A level holds one slot against a limit. A comparison holds the candidate against the predecessor and judges the
difference with its interval: PASS if all of the interval is within the tolerance, FAIL if none of it is.
"""

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment import statistics
from ingest_ops.deployment.gate_inputs import Read, Samples, Scope
from ingest_ops.deployment.statistics import Estimate

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
WORDS = {"==": "must be", "<": "must be below", "<=": "at most", ">": "must be above", ">=": "at least"}
RATE_SCRAPES = 4
"""A rate is taken over this many scrapes: the minute of a 15 s scrape."""
SETTLE = 1 / 3
"""Share of the window that comparisons of resources leave out: a process that has just started or taken over."""
RANK = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
WIDTH = 3.0
"""Half of the interval's width in standard errors, and what chance adds on top, where a share is judged by it."""
QUIET = 10.0
"""Fewer events of a symbol say nothing about whether it is received."""

Reads = Mapping[str, Read]
Limit = Callable[[Scope], float]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a criterion found."""

    verdict: Verdict
    reason: str
    value: float | None = None
    threshold: str = ""
    estimate: Estimate | None = None


Criterion = Callable[[Reads, Scope], Finding]


def rate_min(samples: Samples) -> float | None:
    """The lowest rate over ``RATE_SCRAPES`` scrapes."""
    return min(statistics.rates(samples, RATE_SCRAPES), default=None)


def changes(samples: Samples) -> float:
    """How often the value differs from the one before."""
    return float(sum(one[1] != two[1] for one, two in itertools.pairwise(samples)))


REDUCE: dict[str, Callable[[Samples], float | None]] = {
    "min": lambda samples: min(value for _, value in samples),
    "max": lambda samples: max(value for _, value in samples),
    "last": lambda samples: samples[-1][1],
    "increase": statistics.increase,
    "changes": changes,
    "rate_min": rate_min,
    "count": lambda samples: float(len(samples)),
}


def level(
    reduce: str, compare: str, limit: Limit, *, unit: str = "", scale: float = 1.0, miss: Verdict = Verdict.FAIL
) -> Criterion:
    """Each child's value must be on the right side of the limit. A wrong value counts however sparse the input."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        threshold = limit(scope)
        values = {
            key: value * scale
            for one in reads.values()
            for key, samples in one.children.items()
            if samples and (value := REDUCE[reduce](samples)) is not None
        }
        if not values:
            return Finding(verdict=Verdict.INCONCLUSIVE, reason="no data", threshold=f"{compare} {threshold:g}")
        wrong = {key: value for key, value in values.items() if not COMPARE[compare](value, threshold)}
        key, value = next(iter((wrong or values).items()))
        name = f"{key}: " if key else ""
        return Finding(
            verdict=miss if wrong else Verdict.PASS,
            reason=f"{name}{value:.4g}{f' {unit}' if unit else ''}, {WORDS[compare]} {threshold:g}",
            value=value,
            threshold=f"{compare} {threshold:g}",
        )

    return judge


def one_writer(reads: Reads, scope: Scope) -> Finding:
    """The candidate writes all the time, and the predecessor never."""
    del scope
    ours, theirs = reads["candidate"].one, reads["live"].one
    writes = min((value for _, value in ours), default=None)
    other = max((value for _, value in theirs), default=None)
    if writes == 0:
        return Finding(verdict=Verdict.FAIL, reason="the candidate did not write all the time", value=0.0)
    if other:
        return Finding(verdict=Verdict.FAIL, reason="the predecessor wrote, too", value=2.0)
    if writes is None or other is None:
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="no data")
    return Finding(verdict=Verdict.PASS, reason="the candidate alone wrote, all the time", value=1.0, threshold="== 1")


def none_unless(excuse: str) -> Criterion:
    """The counter must not grow. Where the input ``excuse`` was above its first value, its growth proves nothing."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        grown = sum(statistics.increase(samples) for samples in reads["counter"].children.values())
        text = f"{grown:g} records, must be 0"
        verdict = Verdict.PASS
        if grown:
            moved = any(changes(samples) for samples in reads["excuse"].children.values())
            verdict = Verdict.INCONCLUSIVE if moved else Verdict.FAIL
            text = f"{text}, but {excuse}" if moved else text
        return Finding(verdict=verdict, reason=text, value=grown, threshold="== 0")

    return judge


def as_many(least: float, *, unit: str) -> Criterion:
    """Each child counts at least this share of what the predecessor's counts in the same time.

    The whole interval must be above. Of a child with few events the interval is wider than what may be missing: there
    the share itself counts, and the interval for FAIL alone.
    """
    few = 2.0 * (WIDTH / math.log(1.0 / least)) ** 2

    def verdict_of(found: Estimate, theirs: float) -> Verdict:
        if found.high < least:
            return Verdict.FAIL
        return Verdict.PASS if (found.value if theirs < few else found.low) >= least else Verdict.INCONCLUSIVE

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        worst: tuple[Estimate, str, float, float] | None = None
        rank: tuple[int, float] = (3, 0.0)
        for key, samples in reads["live"].children.items():
            ours, theirs = statistics.increases(reads["candidate"].children.get(key, []), samples)
            if theirs < QUIET and key:
                continue
            found = statistics.ratio(ours, theirs)
            this = (RANK[verdict_of(found, theirs)], found.high)
            if this < rank:
                worst, rank = (found, key, ours, theirs), this
        threshold = f">= {least:g}"
        if worst is None:
            return Finding(verdict=Verdict.INCONCLUSIVE, reason=f"too few {unit} to compare", threshold=threshold)
        estimate, key, ours, theirs = worst
        verdict = verdict_of(estimate, theirs)
        name = f"{key}: " if key else ""
        return Finding(
            verdict=verdict,
            reason=f"{name}{ours:.0f} {unit}, the predecessor {theirs:.0f}; share at least {least:g}",
            value=estimate.value,
            threshold=threshold,
            estimate=estimate,
        )

    return judge


def share_of(least: float, *, unit: str) -> Criterion:
    """``counter`` grows by at least this share of what all children of ``of`` do; with less, too little is known."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        parts = [statistics.increases(reads["counter"].one, samples) for samples in reads["of"].children.values()]
        counted = max((ours for ours, _ in parts), default=0.0)
        total = sum(theirs for _, theirs in parts)
        enough = counted >= max(1.0, least * total)
        return Finding(
            verdict=Verdict.PASS if enough else Verdict.INCONCLUSIVE,
            reason=f"{counted:.0f} {unit} of {total:.0f}, must be at least {least:.0%}",
            value=counted,
            threshold=f">= {max(1.0, least * total):.0f}",
        )

    return judge


def not_more(factor: float, allowance: float, *, unit: str) -> Criterion:
    """The sum of all children grows by at most ``factor`` times what the predecessor's does, and an allowance."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        ours, theirs = (
            sum(statistics.increase(samples) for samples in reads[name].children.values())
            for name in ("candidate", "live")
        )
        lengths = [reads[name].seconds for name in ("candidate", "live")]
        expected = theirs * lengths[0] / max(lengths[1], 1.0)
        limit = factor * expected + allowance
        return Finding(
            verdict=Verdict.PASS if ours <= limit else Verdict.FAIL,
            reason=f"{ours:.4g} {unit}, the predecessor {expected:.4g} in as long; at most {limit:.4g}",
            value=ours,
            threshold=f"<= {limit:.4g}",
        )

    return judge


def settled(samples: Samples) -> Samples:
    """The later part of a window."""
    if not samples:
        return samples
    begin = samples[0][0] + (samples[-1][0] - samples[0][0]) * SETTLE
    return [sample for sample in samples if sample[0] >= begin]


def _judged(
    estimate: Estimate | None, tolerance: float, ours: Sequence[float], theirs: Sequence[float], unit: str
) -> Finding:
    threshold = f"<= {tolerance:.4g}"
    if estimate is None:
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="too few values to compare", threshold=threshold)
    verdict = Verdict.INCONCLUSIVE
    if estimate.low > tolerance:
        verdict = Verdict.FAIL
    elif estimate.high <= tolerance:
        verdict = Verdict.PASS
    return Finding(
        verdict=verdict,
        reason=(
            f"{fmean(ours):.4g} {unit}, the predecessor {fmean(theirs):.4g}; difference {estimate.value:+.4g} "
            f"({estimate.low:+.4g} to {estimate.high:+.4g}), at most {tolerance:+.4g}"
        ),
        value=estimate.value,
        threshold=threshold,
        estimate=estimate,
    )


def compared_rate(relative: float, absolute: float, *, unit: str) -> Criterion:
    """The counter's rate exceeds the predecessor's by at most the greater of both tolerances."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        ours, theirs = (statistics.rates(settled(reads[name].one)) for name in ("candidate", "live"))
        if not ours or not theirs:
            return _judged(None, absolute, ours, theirs, unit)
        tolerance = max(relative * fmean(theirs), absolute)
        return _judged(statistics.difference(ours, theirs), tolerance, ours, theirs, unit)

    return judge


def compared_quotient(relative: float, absolute: float, *, unit: str) -> Criterion:
    """As ``compared_rate``, for a histogram's mean per scrape: inputs ``*_sum`` and ``*_count``."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        ours, theirs = (
            statistics.quotients(settled(reads[f"{name}_sum"].one), settled(reads[f"{name}_count"].one))
            for name in ("candidate", "live")
        )
        if not ours or not theirs:
            return _judged(None, absolute, ours, theirs, unit)
        tolerance = max(relative * fmean(theirs), absolute)
        return _judged(statistics.difference(ours, theirs), tolerance, ours, theirs, unit)

    return judge


def compared_tail(absolute: float, *, unit: str) -> Criterion:
    """The share of events above a histogram's bound, against the predecessor's: inputs ``*_within`` and ``*_count``."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        ours, theirs = (
            [
                1.0 - share
                for share in statistics.quotients(
                    settled(reads[f"{name}_within"].one), settled(reads[f"{name}_count"].one)
                )
            ]
            for name in ("candidate", "live")
        )
        if not ours or not theirs:
            return _judged(None, absolute, ours, theirs, unit)
        return _judged(statistics.difference(ours, theirs), max(absolute, fmean(theirs)), ours, theirs, unit)

    return judge


def compared_level(relative: float, absolute: float, scale: float, *, unit: str) -> Criterion:
    """The gauge's mean exceeds the predecessor's by at most the greater of both tolerances."""

    def judge(reads: Reads, scope: Scope) -> Finding:
        del scope
        ours, theirs = ([value * scale for _, value in settled(reads[name].one)] for name in ("candidate", "live"))
        if not ours or not theirs:
            return _judged(None, absolute, ours, theirs, unit)
        tolerance = max(relative * fmean(theirs), absolute)
        return _judged(statistics.difference(ours, theirs), tolerance, ours, theirs, unit)

    return judge


def growth(reads: Reads, scope: Scope) -> Finding:
    """Memory grows by at most the plan's allowance over the settled part of the window, beyond the predecessor."""
    ours, theirs = (settled(reads[name].one) for name in ("candidate", "live"))
    limit = scope.plan.max_growth_mb
    mine, other = statistics.slope(ours), statistics.slope(theirs)
    if mine is None or other is None:
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="too few values", threshold=f"<= {limit:g}")
    scale = (ours[-1][0] - ours[0][0]) / 2**20
    shared = max(0.0, other.low)
    found = Estimate(*((value - shared) * scale for value in (mine.value, mine.low, mine.high)))
    verdict = Verdict.PASS if found.high <= limit else Verdict.INCONCLUSIVE
    if found.low > limit:
        verdict = Verdict.FAIL
    seconds = ours[-1][0] - ours[0][0]
    return Finding(
        verdict=verdict,
        reason=f"{found.value:+.2f} MiB ({found.low:+.2f} to {found.high:+.2f}) in {seconds:.0f} s, at most {limit:g}",
        value=found.value,
        threshold=f"<= {limit:g}",
        estimate=found,
    )
