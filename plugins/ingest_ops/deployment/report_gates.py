"""The gates in a deployment's report: verdicts, small lines, charts, and the values of the deployment before."""

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.common.files import read_file
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.deployment_state import DeploymentState, GateResult
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.state_machine import State
from ingest_ops.render import Chart, Code, Column, Details, Section, Series, Span, Spark, Table, Text, Threshold
from ingest_ops.render.model import Block, Cell

RATE, MEBIBYTES, PLAIN = "rate", "mebibytes", "plain"
CHARTED = {
    "G4": RATE, "G5": MEBIBYTES, "G7b": PLAIN, "C1": RATE, "C4": RATE, "C5": RATE, "C6": MEBIBYTES,
}  # fmt: skip
"""Gates whose samples say more as a curve than as a number, and how they are drawn: a counter as its rate."""
LIMITED = ("G4", "G5", "G7b")
"""Gates with a limit for the value itself; the others limit a difference."""
LEAST_ALIKE = 3
"""As many gates of one reason are one row."""
LOOK_BACK = 20
"""Reports in which the deployment before is looked for, the newest first."""


@dataclass(frozen=True)
class Previous:
    """The deployment before that went live, from its report."""

    id: str
    version: str
    facts: DeploymentState
    values: dict[str, dict[str, float]]
    """By state and gate."""


class _Report(msgspec.Struct):
    state: str = ""
    deployment_kind: str = ""
    plan: dict[str, Any] = {}
    facts: DeploymentState = DeploymentState()


def previous(folder: Path, record: Record) -> Previous | None:
    """The newest other report of a deployment that went live before this one was opened."""
    try:
        found = [entry for entry in os.scandir(folder) if entry.name.endswith(".json") and entry.is_file()]
    except OSError:
        return None
    older = [one for one in found if one.stat().st_mtime <= record.created and one.name != f"{record.id}.json"]
    for entry in sorted(older, key=lambda one: one.stat().st_mtime, reverse=True)[:LOOK_BACK]:
        try:
            report = decode_typed(read_file(Path(entry.path)), _Report)
        except (OSError, Undecodable):
            continue
        if report.state == State.DONE and report.deployment_kind == "deploy":
            values = {
                state: {one.gate: one.value for one in results if one.value is not None}
                for state, results in report.facts.results.items()
            }
            version = str(report.plan.get("version", ""))
            return Previous(entry.name.removesuffix(".json"), version, report.facts, values)
    return None


def at(seconds: float) -> str:
    """A time with milliseconds, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def gates_of(state: str, results: list[GateResult], facts: DeploymentState, before: Previous | None) -> Section:
    """A state's gates: what did not pass first, what passed folded, each with its course and the value of before."""
    verdicts = {one.verdict for one in results}
    verdict = next(v for v in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if v in verdicts)
    columns: list[str | Column] = [
        "Gate", "Verdict", Column("Value", numeric=True), "Must be", "Unit", "Course", Column("Before", numeric=True),
        "Samples", "Why",
    ]  # fmt: skip
    old = before.values.get(state, {}) if before is not None else {}
    bad = [_row(one, old) for one in _grouped([one for one in results if one.verdict is not Verdict.PASS])]
    good = [_row(one, old) for one in results if one.verdict is Verdict.PASS]
    blocks: list[Block] = [Table(columns, bad)] if bad else []
    blocks.append(Details(f"{len(good)} gates passed", [Table(columns, good)]) if good else Text("No gate passed."))
    charts = [one for one in results if one.gate in CHARTED and len(one.samples) > 2]
    gap = None if facts.gap_seconds is None else facts.gap_seconds * 1000
    blocks += [_chart(one, facts.handover_began, gap) for one in charts]
    queries: list[list[Cell]] = [[one.gate, Code(one.query), at(one.start), at(one.end)] for one in results]
    blocks.append(Details("Queries as sent", [Table(["Gate", "Query", "From", "To (evaluated at)"], queries)]))
    return Section(f"Gates of {state}", blocks, verdict=verdict)


def _grouped(results: list[GateResult]) -> list[GateResult]:
    """Gates of one and the same reason as one row: the cause is said once."""
    by_reason: dict[tuple[str, str], list[GateResult]] = {}
    for one in results:
        by_reason.setdefault((str(one.verdict), one.reason), []).append(one)
    grouped: list[GateResult] = []
    for alike in by_reason.values():
        if len(alike) < LEAST_ALIKE:
            grouped += alike
            continue
        names = ", ".join(one.gate for one in alike)
        first = msgspec.structs.replace(alike[0], gate=names, title="", value=None, threshold="", unit="", samples=[])
        grouped.append(first)
    return grouped


def _row(one: GateResult, old: dict[str, float]) -> list[Cell]:
    limit = one.threshold.split()[1] if one.gate in LIMITED else ""
    drawn = _drawn(one.samples, CHARTED.get(one.gate, PLAIN))
    course = Spark(drawn, float(limit) if limit else None) if len(drawn) > 2 else None
    return [
        f"{one.gate} {one.title}".strip(), one.verdict, one.value, one.threshold, one.unit, course,
        old.get(one.gate), f"{one.found}/{one.expected}", one.reason,
    ]  # fmt: skip


def _chart(one: GateResult, handover: float | None, gap_ms: float | None) -> Chart:
    """The candidate and, in a comparison, the predecessor; the hand-over is marked where it lies in between."""
    kind = CHARTED[one.gate]
    lines = {"candidate": one.samples, "predecessor": one.against}
    limit = one.threshold.split()[1] if one.gate in LIMITED else ""
    ends = [at for samples in lines.values() for at, _ in samples]
    said = "hand-over" if gap_ms is None else f"hand-over, gap {gap_ms:.0f} ms"
    spans = [Span(handover, handover + 1.0, said)] if handover and min(ends) < handover < max(ends) else []
    return Chart(
        title=f"{one.gate} {one.title}",
        unit=f"{one.unit}/s" if kind == RATE and not one.unit.endswith("/s") and one.unit != "cores" else one.unit,
        series=[Series(name, _drawn(samples, kind)) for name, samples in lines.items() if len(samples) > 2],
        thresholds=[Threshold(float(limit), f"{one.threshold} {one.unit}")] if limit else [],
        spans=spans,
        from_zero=False,
    )


def _drawn(samples: list[tuple[float, float]], kind: str) -> list[tuple[float, float]]:
    if kind == MEBIBYTES:
        return [(at, value / 2**20) for at, value in samples]
    if kind == RATE:
        return [
            (after[0], (after[1] - before[1]) / (after[0] - before[0]))
            for before, after in itertools.pairwise(samples)
            if after[0] > before[0] and after[1] >= before[1]
        ]
    return samples
