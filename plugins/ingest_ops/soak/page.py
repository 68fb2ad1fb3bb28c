"""The report's page: verdict, memory with its trend, the criteria side by side, the feed, the audit, the method."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.growth import METHOD
from ingest_ops.common.verdict import Verdict
from ingest_ops.render import (
    Block,
    Chart,
    Code,
    Column,
    Details,
    Event,
    Fact,
    Facts,
    Lane,
    Page,
    Section,
    Series,
    Table,
    Text,
    Threshold,
    Timeline,
)
from ingest_ops.render.addresses import NOWHERE, Addresses
from ingest_ops.render.model import Cell as TableCell
from ingest_ops.render.numbers import duration
from ingest_ops.soak.before import Before
from ingest_ops.soak.check import Check
from ingest_ops.soak.error_rates import Cell, Rates
from ingest_ops.soak.judge import Judgement, mean_rate, worst_rate
from ingest_ops.soak.page_memory import beside_section, memory_section, previous_section
from ingest_ops.soak.plan import Plan
from ingest_ops.soak.record import CANDIDATE, Record, State
from ingest_ops.soak.samples import Sample, increase, increase_by

COMMAND = "python -m ingest_ops soak report <record>"
JUDGED = "explanation/soak_statistics.md"
"""Where it is said how a soak is judged."""

MEANING = {
    "scheduled": "by us: age",
    "operator": "by us: asked for",
    "stalled": "by us: delivered nothing",
    "pong_timeout": "by us: no pong",
    "server_shutdown": "by the exchange, announced",
    "closed_by_exchange": "by the exchange",
    "frame_too_large": "by us: frame too large",
    "protocol_error": "by us: protocol broken",
}
"""Who ended a connection; what is not named here is the network between."""


def page(
    record: Record,
    judgement: Judgement,
    audit: AuditResult | None,
    rates: Rates | None,
    *,
    generated_at: str,
    addresses: Addresses = NOWHERE,
    before: Before | None = None,
) -> Page:
    """Everything that was seen and judged."""
    plan, samples = record.plan, record.samples
    sections = [
        memory_section(record, judgement),
        _criteria(judgement, before),
        _feed(record),
        _connections(record),
        beside_section(record, judgement.memory),
        _audit(audit),
    ]
    if judgement.previous is not None:
        sections.append(previous_section(record, judgement))
    sections += [_method(plan, rates), _course(record)]
    return Page(
        kind="soak",
        title=_title(record),
        verdict=judgement.verdict,
        summary=_summary(record, judgement),
        label=_label(record),
        reasons=judgement.reasons,
        coverage=[
            Fact("Samples", f"{len(samples):,} of {plan.expected_samples:,}"),
            Fact("Duration", duration(samples[-1].at - samples[0].at) if samples else "none"),
            Fact("Messages", round(increase(samples, "received"))),
            Fact("Memory growth", judgement.memory.reason),
            Fact("Plain criteria alone", judgement.plain),
        ],
        sections=sections,
        facts=_environment(record),
        generated_at=generated_at,
        links=addresses.links(record.started, _last(record), failed=judgement.verdict is not Verdict.PASS, page=JUDGED),
    )


def _last(record: Record) -> float:
    """When it was looked for the last time, seconds since 1970."""
    return record.samples[-1].at if record.samples else record.started


def _title(record: Record) -> str:
    return f"Soak of {_length(record.plan)}"


def _length(plan: Plan) -> str:
    hours = plan.required_seconds / 3600
    return f"{hours:g} h" if hours >= 1 else duration(plan.required_seconds)


def _label(record: Record) -> str:
    marks = []
    if record.plan.compressed:
        marks.append(f"compressed {record.plan.factor:g}x")
    if record.plan.trial:
        marks.append(f"trial of {duration(record.plan.run_seconds)}")
    if record.plan.smoke:
        marks.append("smoke test: too short for a slow leak")
    return ", ".join(marks)


def _summary(record: Record, judgement: Judgement) -> str:
    if record.state is State.ABORTED:
        return f"Ended early: {record.reason}."
    if judgement.verdict is not Verdict.PASS:
        return f"{judgement.reasons[0]}." if judgement.reasons else "Not every criterion could be judged."
    middle, low, high = judgement.memory.growth or (0.0, 0.0, 0.0)
    return (
        f"Memory grew by {middle:+.1f} MB in {record.plan.name} (99 % interval {low:+.1f} to {high:+.1f}, limit "
        f"{record.plan.growth_mb:g}), nothing was lost or doubled, and the service never fell silent."
    )


def _criteria(judgement: Judgement, before: Before | None) -> Section:
    rows: list[list[TableCell]] = [
        [
            one.title,
            one.criterion,
            None if one.value is None else round(one.value, 2),
            *_compared(one, before),
            one.unit,
            one.verdict if one.binding else None,
            one.verdict if one.plain else None,
            one.reason,
        ]
        for one in judgement.checks
    ]
    rows.append(
        ["All together", "", None, *([None, None] if before else []), "", judgement.verdict, judgement.plain, ""]
    )
    compared = [Column("Before", numeric=True), Column("Change", numeric=True)] if before else []
    columns: list[str | Column] = [
        "Criterion", "Demands", Column("Value", numeric=True), *compared, "Unit", "Verdict", "Plain criteria", "Found",
    ]  # fmt: skip
    blocks: list[Block] = [Table(columns=columns, rows=rows)]
    blocks.append(Text(judgement.differs or "The verdict and the plain criteria agree."))
    if before is not None:
        blocks.append(Text(f"Before: the soak {before.run_id}, the newest earlier one of this plan."))
    return Section("Criteria, side by side", verdict=judgement.verdict, blocks=blocks)


def _compared(one: Check, before: Before | None) -> list[TableCell]:
    """The value of the soak before, and by how much this one's is more."""
    if before is None:
        return []
    old = before.values.get(one.id)
    change = None if old is None or one.value is None else f"{one.value - old:+.2f}"
    return [None if old is None else round(old, 2), change]


def _per_second(samples: Sequence[Sample], name: str) -> list[tuple[float, float | None]]:
    return [(b.at, increase((a, b), name) / (b.at - a.at)) for a, b in pairwise(samples) if b.at > a.at]


def _feed(record: Record) -> Section:
    samples, gap = record.samples, record.plan.sample_seconds * 2.5
    rates = [Series("received", _per_second(samples, "received"))]
    if any("committed" in one.values for one in samples):
        rates.append(Series("committed", _per_second(samples, "committed"), style="dashed"))
    facts = [
        Fact("Messages per second, mean", _round(mean_rate(samples))),
        Fact("Messages per second, worst five minutes", _round(worst_rate(samples, 300.0))),
        *(
            Fact(title, round(increase(samples, name)))
            for title, name in (
                ("Trades committed", "committed"),
                ("Transactions", "commits"),
                ("Transactions aborted", "aborts"),
                ("Holes found", "gaps_found"),
                ("Holes filled", "gaps_filled"),
                ("Trades read from history", "backfilled"),
                ("Trades shed for room, read again later", "shed"),
                ("Duplicates dropped before Kafka", "duplicates"),
            )
        ),
    ]
    chart = Chart(
        "Rate", unit="1/s", series=rates, thresholds=[Threshold(record.plan.least_rate, "least")], max_gap=gap
    )
    return Section("Feed and commits", blocks=[Facts(facts), chart])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _steps(samples: Sequence[Sample], field: str) -> Iterable[tuple[float, str, int]]:
    """When a labelled counter rose, by how much, and for which label."""
    for before, after in pairwise(samples):
        for reason, count in increase_by((before, after), field).items():
            if count:
                yield after.at, reason, count


def _connections(record: Record) -> Section:
    samples = record.samples
    start, end = record.started, samples[-1].at if samples else record.started + 1
    drops, rotations = increase_by(samples, "drops"), increase_by(samples, "rotations")
    rows: list[list[str | int]] = [
        [kind, reason, MEANING.get(reason, "by the network"), count]
        for kind, counted in (("drop", drops), ("rotation", rotations))
        for reason, count in sorted(counted.items())
        if count
    ]
    lanes = [
        Lane("Rotations", [Event(at, f"{n} {why}", tone="good") for at, why, n in _steps(samples, "rotations")]),
        Lane("Drops", [Event(at, f"{n} {why}", tone="bad") for at, why, n in _steps(samples, "drops")]),
    ]
    return Section(
        "Connections",
        blocks=[
            Facts(
                [
                    Fact("Drops", sum(drops.values())),
                    Fact("Rotations", sum(rotations.values())),
                    Fact("Rotations that failed", round(increase(samples, "rotation_failures"))),
                    Fact("Pongs to our pings", round(increase(samples, "pongs"))),
                    Fact("Pings without a pong", round(increase(samples, "pong_timeouts"))),
                ]
            ),
            Table(
                columns=["Kind", "Reason", "Initiated", Column("Count", numeric=True)],
                rows=rows,
                empty="No connection ended.",
            ),
            Timeline(start, max(end, start + 1), lanes, rows=60),
        ],
    )


def _audit(audit: AuditResult | None) -> Section:
    if audit is None:
        return Section(
            "Audit of the topic",
            verdict=Verdict.INCONCLUSIVE,
            blocks=[Text("The topic was not audited: a soak without the auditor's word cannot pass.")],
        )
    totals = audit.figures.get("totals", {})
    facts = [Fact(name.replace("_", " "), value) for name, value in totals.items() if isinstance(value, int | float)]
    facts += [
        Fact(name.replace("_", " "), audit.figures[name]) for name in ("records", "seconds") if name in audit.figures
    ]
    return Section("Audit of the topic", verdict=audit.verdict, blocks=[Text(audit.reason), Facts(facts)])


def _method(plan: Plan, rates: Rates | None) -> Section:
    blocks: list[Block] = [Text(METHOD)]
    if plan.smoke:
        blocks.append(
            Text(
                f"{_length(plan)} is a smoke test: memory that swings for longer than a slot looks "
                "like a leak or hides one. What is too slow for it, the 24 h soak finds."
            )
        )
    mine = rates.of(plan.name) if rates is not None else None
    if mine is None or not mine.cells:
        blocks.append(Text("The error rates of this plan have not been measured (make soak-calibration)."))
        return Section("Method and its error rates", blocks=blocks)
    blocks += [Text(f"Measured on simulated soaks with known truth. {line}.") for line in mine.summary()]
    blocks.append(Details("All families", [_families(plan, mine)]))
    blocks.append(Facts([Fact("Made by", Code("make soak-calibration"))]))
    return Section("Method and its error rates", blocks=blocks)


def _families(plan: Plan, rates: Rates) -> Table:
    """A row for each family: what the verdict is without a leak and with the smallest that must never pass."""
    rows: list[list[str | float | None]] = [
        [
            one.half,
            one.family if one.promised else f"{one.family} (not promised)",
            _shares(one.clean),
            _shares(one.least_leak),
            f"{one.false_pass:.2%}",
            f"{one.false_fail:.2%}",
        ]
        for one in rates.families()
    ]
    least = next((one.leak_mb for one in rates.cells if one.truth == "leak"), plan.growth_mb)
    columns: list[str | Column] = [
        "Half",
        "Family",
        "No leak: PASS / FAIL / INCONCLUSIVE",
        f"{least:g} MB: PASS / FAIL / INCONCLUSIVE",
        Column("False PASS", numeric=True),
        Column("False FAIL", numeric=True),
    ]
    caption = f"{rates.series} simulated soaks a cell, limit {plan.growth_mb:g} MB in {plan.name}. {rates.source}."
    return Table(columns=columns, rows=rows, caption=caption)


def _shares(cell: Cell) -> str:
    return " / ".join(f"{100 * count / cell.series:.0f}" for count in (cell.passed, cell.failed, cell.inconclusive))


def _course(record: Record) -> Section:
    tones = {"missed": "warn", "aborted": "bad"}
    rows: list[list[str]] = [
        [duration(event["at"] - record.started), tones.get(event["kind"], ""), event["kind"], event["text"]]
        for event in record.events
    ]
    table = Table(columns=["After", "Mark", "What", "Line"], rows=rows, empty="Nothing was noted.")
    return Section("Course", blocks=[Details(f"{len(rows)} lines, one each five minutes and at each event", [table])])


def _environment(record: Record) -> list[Fact]:
    facts = [Fact("Run", Code(record.run_id))]
    for name, value in record.environment.items():
        if isinstance(value, dict):
            build = value.get("build") or {}
            shown = ", ".join(f"{key} {build[key]}" for key in ("version", "revision") if build.get(key))
            who = "Candidate" if name == CANDIDATE else name.capitalize()
            facts += [
                Fact(who, shown or "version not exposed"),
                Fact(f"{who}, read from", str(value.get("source", ""))),
            ]
        else:
            facts.append(Fact(name.replace("_", " ").capitalize(), str(value)))
    facts.append(Fact("Report made by", Code(COMMAND)))
    return facts
