"""What a check says of a day, and how three values are decided from a count, a limit and a coverage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.day_view import Coverage, DayView
from ingest_ops.validation.evidence import Evidence

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class Finding:
    """One check on one day. ``samples`` of ``expected`` were there to judge by."""

    value: float | None
    verdict: Verdict
    reason: str
    samples: int = 0
    expected: int = 0


Judge = Callable[[DayView, Limits, Evidence], Finding]
Join = Literal["sum", "max", "min", "mean", "share"]
"""``share``: the mean with a day without data as nothing; ``mean``: of the days that have data."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A criterion. ``threshold`` and ``criterion`` are made from the limits; ``join`` makes the week's value."""

    id: str
    title: str
    section: str
    unit: str
    query: str
    criterion: Callable[[Limits], str]
    threshold: Callable[[Limits], float]
    judge: Judge
    join: Join
    about: str
    params: Callable[[Limits], dict[str, Any]] = field(default=lambda _limits: {})


def decide(
    *,
    bad: bool,
    coverage: Coverage,
    limits: Limits,
    value: float | None,
    reason: str,
    doubt: bool = False,
) -> Finding:
    """FAIL if what was seen is enough for it; else INCONCLUSIVE if too little was seen or in doubt; else PASS."""
    if bad:
        verdict = FAIL
    elif coverage.doubled:
        verdict, reason = INCONCLUSIVE, f"series are doubled by {coverage.doubled}; {reason}"
    elif coverage.share < limits.least_coverage or value is None:
        verdict = INCONCLUSIVE
        reason = f"{missing(coverage)}; {reason}" if value is not None else missing(coverage)
    else:
        verdict = INCONCLUSIVE if doubt else PASS
    return Finding(value, verdict, reason, coverage.samples, coverage.expected)


def missing(coverage: Coverage) -> str:
    """In words how little there is."""
    what = f" of {coverage.worst}" if coverage.worst else ""
    if not coverage.samples:
        return f"no sample{what}"
    return f"{coverage.samples:,} of {coverage.expected:,} slots{what}"
