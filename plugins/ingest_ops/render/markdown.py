"""A page as Markdown, for a pull request: the same tables and figures; a chart becomes a line of text."""

import re
from collections.abc import Iterator, Sequence

from ingest_ops.common.verdict import Verdict
from ingest_ops.render.chart import chart_view, timeline_view
from ingest_ops.render.model import (
    Block,
    Cell,
    Chart,
    Code,
    Column,
    Details,
    Facts,
    Judged,
    Link,
    Page,
    Spark,
    Table,
    Text,
    Timeline,
)
from ingest_ops.render.numbers import number

SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_BARS = "▁▂▃▄▅▆▇█"


def to_markdown(page: Page) -> str:
    """Return the page as GitHub-flavoured Markdown."""
    return "\n".join(_page(page)).rstrip() + "\n"


def _page(page: Page) -> Iterator[str]:
    yield f"# {_escape(page.title)}\n"
    mark = f" ({_escape(page.label)})" if page.label else ""
    if page.verdict is not None:
        yield f"**{SIGNS[page.verdict]} {page.verdict}{mark}**: {_escape(page.summary)}\n"
    else:
        yield f"{_escape(page.summary)}{mark}\n"
    yield from _list(f"{_escape(fact.term)}: {_cell(fact.value)}" for fact in page.coverage)
    if page.reasons:
        yield "Why it is not PASS:\n"
        yield from _list(_escape(reason) for reason in page.reasons)
    for section in page.sections:
        sign = f" {SIGNS[section.verdict]} {section.verdict}" if section.verdict is not None else ""
        yield f"## {_escape(section.title)}{sign}\n"
        for block in section.blocks:
            yield from _block(block)
    yield "## Provenance\n"
    facts = [f"{_escape(fact.term)}: {_cell(fact.value)}" for fact in page.facts]
    if page.generated_at:
        facts.append(f"Generated at: {_escape(page.generated_at)}")
    yield from _list(facts)


def _list(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    found = [f"- {line}" for line in lines]
    if found:
        yield "\n".join(found) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text(text, code=True):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            yield f"{fence}text\n{text}\n{fence}\n"
        case Text(text):
            yield _escape(text) + "\n"
        case Facts(facts):
            yield from _list(f"{_escape(fact.term)}: {_cell(fact.value)}" for fact in facts)
        case Table():
            yield from _table(block)
        case Chart():
            yield from _chart(block)
        case Timeline():
            view = timeline_view(block)
            header = ("When (UTC)", "Lasted", "What", "", "Detail")
            yield from _table(Table(header, view.rows, empty="Nothing happened."))
            if view.more:
                yield f"… and {view.more} more.\n"
        case Details(summary, blocks):
            yield f"<details><summary>{_html(summary)}</summary>\n"
            for inner in blocks:
                yield from _block(inner)
            yield "</details>\n"


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"{_escape(table.caption)}\n"
    if not table.rows:
        yield f"{_escape(table.empty)}\n"
        return
    columns = [column if isinstance(column, Column) else Column(column) for column in table.columns]
    lines = [
        "| " + " | ".join(_escape(column.title) for column in columns) + " |",
        "|" + "|".join("-:" if column.numeric else "-" for column in columns) + "|",
    ]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    yield "\n".join(lines) + "\n"


def _chart(chart: Chart) -> Iterator[str]:
    view = chart_view(chart)
    limits = "; ".join(one.label for one in chart.thresholds)
    yield f"{_escape(chart.title)}{f' ({_escape(limits)})' if limits else ''}:\n"
    yield from _list(
        f"{_escape(series.name)}: {_spark([y for _, y in series.points])} {_escape(line.summary)}"
        for series, line in zip(chart.series, view.lines, strict=True)
    )


def _spark(values: Sequence[float | None], width: int = 28) -> str:
    """The mean of each of ``width`` parts as a bar; a part without a value is a space."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    width = min(width, len(values))
    parts = [values[at * len(values) // width : (at + 1) * len(values) // width] for at in range(width)]
    means = [sum(k) / len(k) if (k := [v for v in part if v is not None]) else None for part in parts]
    low, high = min(known), max(known)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join("·" if mean is None else _BARS[round((mean - low) / step)] for mean in means)


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return "-"
        case Verdict():
            return f"{SIGNS[cell]} {cell}"
        case Judged(verdict, text):
            return f"{SIGNS[verdict]} {_escape(text)}".rstrip()
        case Link(text, href):
            return f"[{_escape(text)}]({href.replace(')', '%29')})"
        case Spark(points):
            return _spark([y for _, y in points], 12) or "-"
        case Code(text):
            fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            return f"{fence}{' '.join(text.split()).replace('|', chr(92) + '|')}{fence}"
        case int() | float():
            return number(cell)
        case str():
            return _escape(cell)


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _html(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
