"""The parts of the report's page that are about memory: trend, what moves with it, the previous release beside it."""

from collections.abc import Sequence

from ingest_ops.common.trend import Trend
from ingest_ops.render import (
    Band,
    Block,
    Chart,
    Column,
    Details,
    Fact,
    Facts,
    Section,
    Series,
    Span,
    Table,
    Text,
    Threshold,
)
from ingest_ops.soak.judge import Judgement, mean_rate
from ingest_ops.soak.memory import MemoryJudgement
from ingest_ops.soak.plan import MB
from ingest_ops.soak.record import PREVIOUS, Record
from ingest_ops.soak.samples import Sample


def _sizes(samples: Sequence[Sample]) -> list[tuple[float, float | None]]:
    return [(one.at, one.values["rss"] / MB) for one in samples]


def memory_section(record: Record, judgement: Judgement) -> Section:
    """The series, its minima and the trend through them; the same against the limit."""
    plan, found = record.plan, judgement.memory
    begin, gap = record.started, plan.sample_seconds * 2.5
    warm = Span(begin, begin + found.warm_up_seconds, "warm-up, not judged")
    near = [Series("resident", _sizes(record.samples))]
    bands = []
    if found.minima:
        near.append(Series("lowest of each slot", [(begin + at, size) for at, size in found.minima], style="dots"))
    if found.per_second is not None and found.minima:
        line = found.per_second
        ends = [found.minima[0][0], found.minima[-1][0]]
        pivot = sum(ends) / 2
        middle = line.intercept + line.slope * pivot
        near.append(Series("trend", [(begin + at, middle + line.slope * (at - pivot)) for at in ends], style="dashed"))
        steps = [ends[0] + (ends[1] - ends[0]) * step / 20 for step in range(21)]
        bands = [Band("90 % interval of the slope", [_between(begin, at, middle, pivot, line) for at in steps])]
    blocks: list[Block] = [
        Facts(
            [
                Fact(f"Growth in {plan.name}", _interval(found.growth, "MB")),
                Fact("Growth per million messages", _interval(found.per_million, "MB")),
                Fact("Limit", f"{plan.growth_mb:g} MB"),
                Fact("Minima judged", len(found.minima)),
            ]
        ),
        Chart(
            "Resident memory and its trend", unit="MB", series=near, bands=bands, spans=[warm], from_zero=False,
            max_gap=None, note="Each dot is the lowest sample of its slot; the trend is drawn through these alone.",
        ),
        Chart(
            "Resident memory and the limit", unit="MB", series=[Series("resident", _sizes(record.samples))],
            thresholds=[Threshold(plan.abort_mb, f"{plan.abort_mb:g} MB ends the soak")], max_gap=gap,
        ),
    ]  # fmt: skip
    return Section("Memory", verdict=found.verdict, blocks=blocks)


def _between(begin: float, at: float, middle: float, pivot: float, line: Trend) -> tuple[float, float, float]:
    ends = [middle + slope * (at - pivot) for slope in (line.low, line.high)]
    return begin + at, min(ends), max(ends)


def _interval(values: tuple[float, float, float] | None, unit: str) -> str:
    if values is None:
        return "not known"
    middle, low, high = values
    return f"{middle:+.2f} {unit} ({low:+.2f} to {high:+.2f})"


BESIDE = (
    ("heap", "Objects of the garbage collector", "objects"),
    ("descriptors", "Open descriptors", "descriptors"),
    ("tasks", "Tasks of the event loop", "tasks"),
    ("buffered", "Trades in memory, not yet committed", "trades"),
    ("held", "Trades behind a hole", "trades"),
    ("queue", "Messages in the producer's queue", "messages"),
    ("vms", "Virtual memory", "bytes"),
)


def beside_section(record: Record, found: MemoryJudgement) -> Section:
    """Heap, descriptors, tasks and queues."""
    rows: list[list[str | float | None]] = []
    charts: list[Block] = []
    for name, title, unit in BESIDE:
        values = [(one.at, one.values[name]) for one in record.samples if name in one.values]
        if not values:
            continue
        grown = found.beside.get(name)
        sizes = [value for _, value in values]
        rows.append(
            [title, sizes[0], sizes[-1], min(sizes), max(sizes), None if grown is None else round(grown[0], 1), unit]
        )
        charts.append(Chart(title, unit=unit, series=[Series(name, list(values))]))
    columns: list[str | Column] = [
        "What", *(Column(title, numeric=True) for title in ("First", "Last", "Lowest", "Highest", "Trend")), "Unit",
    ]  # fmt: skip
    blocks: list[Block] = [
        Text(f"What a leak would move besides the memory. Trend: growth of the minima over {record.plan.name}."),
        Table(columns=columns, rows=rows, empty="The service did not expose any of it."),
    ]
    if charts:
        blocks.append(Details("Charts", charts))
    return Section("Heap, descriptors, tasks, queues", blocks=blocks)


def previous_section(record: Record, judgement: Judgement) -> Section:
    """The candidate and the release before it on the same feed."""
    before = record.tracks[PREVIOUS]
    now, then = judgement.memory, judgement.previous
    rows: list[list[str | float | None]] = [
        [
            name,
            _interval(found.growth if found is not None else None, "MB"),
            round(max(one.values["rss"] for one in track) / MB, 1) if track else None,
            round(mean_rate(track) or 0.0, 1),
        ]
        for name, found, track in (("candidate", now, record.samples), ("previous release", then, before))
    ]
    columns: list[str | Column] = [
        "Release",
        f"Growth in {record.plan.name}",
        Column("Highest MB", numeric=True),
        Column("1/s", numeric=True),
    ]
    return Section(
        "Beside the previous release",
        blocks=[
            Text("Both had the same feed at the same time. For comparison: it does not change the verdict."),
            Table(columns=columns, rows=rows),
            Chart(
                "Resident memory",
                unit="MB",
                series=[
                    Series("candidate", _sizes(record.samples)),
                    Series("previous", _sizes(before), style="dashed"),
                ],
                from_zero=False,
            ),
        ],
    )
