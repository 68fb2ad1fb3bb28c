"""Evaluates a gate over a window: the value, the coverage, and one of three answers."""

from collections.abc import Iterable, Mapping
from itertools import groupby

from ingest_ops.common.verdict import Verdict, together
from ingest_ops.deployment.criteria import Finding
from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.gate_inputs import Read, Scope, read
from ingest_ops.deployment.gates import Gate
from ingest_ops.deployment.prometheus import Queries, milliseconds

MOST_SAMPLES = 240
"""Samples kept as evidence for each gate; more are thinned, first and last and the extremes of each part kept."""


def evaluate(gate: Gate, scope: Scope, queries: Queries) -> GateResult:
    """Judge one gate. Input that is absent, sparse, doubled or relabelled is INCONCLUSIVE.

    A wrong level fails however few samples it rests on; a right one passes only with the coverage that the plan wants.
    """
    reads = read(gate.inputs, scope, queries)
    finding = _decide(gate, reads, scope)
    shown = reads[gate.evidence or next(iter(gate.inputs))]
    against = next((reads[name] for name in gate.inputs if gate.inputs[name].slot == "live" and len(reads) > 1), None)
    estimate = finding.estimate
    return GateResult(
        gate=gate.id,
        title=gate.title,
        verdict=finding.verdict,
        reason=finding.reason,
        query=_query(gate, reads, scope),
        start=scope.start,
        end=scope.end,
        value=finding.value,
        threshold=finding.threshold,
        unit=gate.unit,
        expected=shown.expected,
        found=min((one.found for one in reads.values()), default=0),
        samples=thin(_worst(shown)),
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        against=thin(_worst(against)) if against is not None else [],
    )


def _decide(gate: Gate, reads: Mapping[str, Read], scope: Scope) -> Finding:
    problems = list(dict.fromkeys(one.problem for one in reads.values() if one.problem))
    if any(one.ambiguous for one in reads.values()):
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="; ".join(problems))
    finding = gate.criterion(reads, scope)
    if not problems or (gate.sees and finding.verdict is Verdict.FAIL):
        return finding
    return Finding(
        verdict=Verdict.INCONCLUSIVE,
        reason="; ".join(problems),
        value=finding.value,
        threshold=finding.threshold,
        estimate=finding.estimate,
    )


def _query(gate: Gate, reads: Mapping[str, Read], scope: Scope) -> str:
    parts = []
    for name, one in reads.items():
        span = scope.span(gate.inputs[name].window)
        parts.append(one.selector if span is None else f"{one.selector}[{milliseconds(span[1] - span[0])}]")
    return "; ".join(dict.fromkeys(parts))


def _worst(one: Read) -> list[tuple[float, float]]:
    """The samples of the child that moved most."""
    return max(one.children.values(), key=lambda samples: samples[-1][1] if samples else 0.0, default=[])


def overall(results: Iterable[GateResult]) -> Verdict:
    """The verdict of all gates, see ``together``."""
    return together({result.verdict for result in results})


def why(results: Iterable[GateResult], verdict: Verdict) -> str:
    """The gates that led to a verdict, in words; gates with the same reason share it."""
    found = sorted((one for one in results if one.verdict is verdict), key=lambda one: one.reason)
    parts = []
    for reason, group in groupby(found, key=lambda one: one.reason):
        gates = list(group)
        if len(gates) == 1:
            parts.append((gates[0].gate, f"{gates[0].gate} ({gates[0].title}): {reason}"))
        else:
            parts.append((gates[0].gate, f"{', '.join(one.gate for one in gates)}: {reason}"))
    return "; ".join(text for _, text in sorted(parts))


def thin(samples: list[tuple[float, float]], most: int = MOST_SAMPLES) -> list[tuple[float, float]]:
    """At most ``most`` samples: of each part of the whole its lowest and its highest."""
    if len(samples) <= most:
        return samples
    parts = max(1, (most - 2) // 2)
    size = (len(samples) - 2) / parts
    kept = {0, len(samples) - 1}
    for part in range(parts):
        inside = range(1 + int(part * size), min(len(samples) - 1, 1 + int((part + 1) * size)))
        if inside:
            kept.add(min(inside, key=lambda at: samples[at][1]))
            kept.add(max(inside, key=lambda at: samples[at][1]))
    return [samples[at] for at in sorted(kept)]
