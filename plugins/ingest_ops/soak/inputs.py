"""The inputs of each criterion: which series it reads, how many children they have, and whether the samples show them.

A criterion whose input is absent, sparse or incomplete cannot pass. The check is made once for all criteria, from the
declarations here, and not by each criterion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.check import Check
from ingest_ops.soak.plan import Plan
from ingest_ops.soak.samples import Sample, columns

LONGEST_GAP = 5
"""Intervals without a sample of an input: a longer silence could hide what the criterion asks for."""
COMMIT_SILENCE = 60.0
"""Seconds: the last commit is never older."""
LATE_SHARE = 1.25
"""A sample may be late by a quarter of an interval: one failed scrape of four."""
FUTURE_SECONDS = 5.0
"""A timestamp may lie this far after its sample: the clocks of two machines."""


@dataclass(frozen=True)
class Input:
    """A column that a criterion reads."""

    column: str
    timestamp: bool = False
    """Whether its values are times, which cannot lie in the future."""
    names: tuple[str, ...] = ()
    """Of a labelled column: the children that must be there."""
    longest_gap: float | None = None
    """Seconds without a sample that the criterion can bear; ``None``: ``LONGEST_GAP`` intervals."""


RECONNECT_REASONS = (
    "closed_by_exchange", "connection_lost", "handshake_refused", "dns", "refused", "timeout", "tls", "frame_too_large",
    "protocol_error",
)  # fmt: skip
ROTATION_REASONS = ("scheduled", "server_shutdown", "stalled", "pong_timeout", "operator")
"""Children that the service exposes from its start; ``test_inputs.py`` compares them with it."""

INPUTS: dict[str, tuple[Input, ...]] = {
    "memory.trend": (Input("rss"), Input("received")),
    "memory.level": (Input("rss"), Input("received")),
    "memory.growth": (Input("rss"),),
    "memory.limit": (Input("rss"),),
    "rate.mean": (Input("received"),),
    "rate.worst": (Input("received"),),
    "drops": (
        Input("drops", names=RECONNECT_REASONS),
        Input("rotations", names=ROTATION_REASONS),
    ),
    "restarts": (Input("started", timestamp=True),),
    "commits": (Input("last_commit", timestamp=True, longest_gap=COMMIT_SILENCE),),
    "coverage.samples": (Input("rss"),),
    "coverage.duration": (Input("rss"),),
}
"""By the criterion's id. ``clock`` and ``audit`` read no series."""


def with_inputs(plan: Plan, samples: Sequence[Sample], checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks, with PASS replaced by INCONCLUSIVE where an input is not what was declared."""
    return tuple(_limited(plan, samples, one) for one in checks)


def _limited(plan: Plan, samples: Sequence[Sample], check: Check) -> Check:
    if check.verdict is not Verdict.PASS:
        return check
    for one in INPUTS.get(check.id, ()):
        if doubt := problem(plan, samples, one):
            return replace(check, verdict=Verdict.INCONCLUSIVE, reason=f"{doubt}; {check.reason}")
    return check


def problem(plan: Plan, samples: Sequence[Sample], one: Input) -> str:
    """Why the samples do not show the input as declared; empty if they do."""
    if not one.names:
        return _sparse(plan, samples, one.column, gap=one.longest_gap) or (
            _future(samples, one.column) if one.timestamp else ""
        )
    children = columns(samples, one.column)
    if absent := [name for name in one.names if f"{one.column}.{name}" not in children]:
        return f"no child {', '.join(absent)} of {one.column}"
    # A child born later counts from its birth on; one that vanishes is missing.
    for child in children:
        born = next(index for index, sample in enumerate(samples) if child in sample.values)
        if found := _sparse(plan, samples[born:], child, len(samples[born:])):
            return found
    return ""


def _sparse(
    plan: Plan, samples: Sequence[Sample], column: str, expected: int | None = None, gap: float | None = None
) -> str:
    times = [sample.at for sample in samples if column in sample.values]
    wanted = plan.expected_samples if expected is None else expected
    if len(times) < plan.least_samples * wanted:
        return f"{column} in {len(times)} of {wanted} samples"
    edges = [samples[0].at, *times, samples[-1].at]
    longest = max((after - before for before, after in pairwise(edges)), default=0.0)
    allowed = LONGEST_GAP * plan.sample_seconds + 1e-6
    if gap is not None:
        # Between two samples anything may be: no longer than the criterion allows, or than two samples lie apart.
        allowed = min(allowed, LATE_SHARE * max(gap, plan.sample_seconds) + 1.0)
    if longest > allowed:
        return f"{column} absent for {longest:.0f} s"
    return ""


def _future(samples: Sequence[Sample], column: str) -> str:
    ahead = max((sample.values[column] - sample.at for sample in samples if column in sample.values), default=0.0)
    return f"{column} lies {ahead:.0f} s in the future" if ahead > FUTURE_SECONDS else ""
