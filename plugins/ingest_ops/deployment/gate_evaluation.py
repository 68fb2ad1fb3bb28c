"""Judging a gate over a window: the value, the coverage, and one of three answers."""

import math
from collections.abc import Iterable
from string import Template

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.gates import COMPARE, RATE_SCRAPES, Gate, needed
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.prometheus import NoAnswer, Queries, milliseconds

MOST_SAMPLES = 240
"""Samples kept as evidence for each gate; more are thinned, first and last and the extremes of each part kept."""


def evaluate(gate: Gate, plan: Plan, slot: str, start: float, end: float, queries: Queries) -> GateResult:
    """Judge one gate over [start, end]. Missing data is INCONCLUSIVE, a value on the wrong side is ``gate.miss``.

    A wrong value fails however few samples it rests on: what was seen was seen. A right one passes only with the
    coverage that the plan asks for.
    """
    begin = start + gate.settle_scrapes * plan.scrape_seconds
    span = end - begin
    names = {
        "slot": slot,
        "window": milliseconds(span),
        "range": milliseconds(RATE_SCRAPES * plan.scrape_seconds),
        "step": milliseconds(plan.scrape_seconds),
    }
    query = Template(gate.query).substitute(names)
    expected = max(0, math.floor(span / plan.scrape_seconds + 1e-6))
    threshold = gate.threshold(plan, expected)

    def result(
        verdict: Verdict,
        reason: str,
        value: float | None = None,
        found: int = 0,
        samples: Iterable[tuple[float, float]] = (),
    ) -> GateResult:
        return GateResult(
            gate=gate.id,
            title=gate.title,
            verdict=verdict,
            reason=reason,
            query=query,
            start=begin,
            end=end,
            value=value,
            threshold=f"{gate.compare} {threshold:g}",
            unit=gate.unit,
            expected=expected,
            found=found,
            samples=thin(list(samples)),
        )

    if expected < 1:
        return result(Verdict.INCONCLUSIVE, "the window is too short for a sample")
    try:
        values = queries.value(query, end)
        series = queries.samples(Template(gate.series).substitute(names), begin, end)
    except NoAnswer as error:
        return result(Verdict.INCONCLUSIVE, f"no answer: {error}")
    samples = max(series, key=len, default=[])
    found = len(samples)
    if not values:
        return result(Verdict.INCONCLUSIVE, "no data", None, found, samples)
    if len(values) > 1 or len(series) > 1:
        return result(Verdict.INCONCLUSIVE, f"{max(len(values), len(series))} series where one is due: which is it?")
    value = values[0]
    if math.isnan(value):
        return result(Verdict.INCONCLUSIVE, "no number", None, found, samples)
    if not COMPARE[gate.compare](value, threshold):
        return result(gate.miss, f"{value:.4g} is not {gate.compare} {threshold:g}", value, found, samples)
    if found < needed(expected, plan.min_coverage):
        text = f"{value:.4g} would do, but only {found} of {expected} samples are there"
        return result(Verdict.INCONCLUSIVE, text, value, found, samples)
    return result(Verdict.PASS, f"{value:.4g} {gate.compare} {threshold:g}", value, found, samples)


def overall(results: Iterable[GateResult]) -> Verdict:
    """FAIL if any fails, else INCONCLUSIVE if any is, or if there is none at all."""
    verdicts = {result.verdict for result in results}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE


def why(results: Iterable[GateResult], verdict: Verdict) -> str:
    """The gates that led to a verdict, in words."""
    return "; ".join(f"{one.gate} ({one.title}): {one.reason}" for one in results if one.verdict is verdict)


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
