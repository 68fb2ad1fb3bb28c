"""Reports: say what is in one as plain values; get one HTML file, Markdown and JSON.

All reports (validation, soak, deployment, chaos, bench) share this look. A report is a ``Page``; the page begins with
the verdict, one sentence and the coverage, and goes on in sections of blocks::

    page = Page(
        kind="soak",
        title="Soak of 24 hours",
        verdict=Verdict.PASS,
        summary="Memory grew by 12 MB, limit 50 MB.",
        coverage=[Fact("Samples", "1,440 of 1,441"), Fact("Duration", "24 h 0 min")],
        sections=[
            Section("Memory", verdict=Verdict.PASS, blocks=[
                Chart("Resident memory", unit="MB", series=[Series("RSS", [(1769040000.0, 101.5), ...])],
                      thresholds=[Threshold(400.0, "limit")], bands=[Band("90 % interval", [(x, low, high), ...])]),
                Table(columns=["Check", Column("Value", numeric=True), "Verdict"],
                      rows=[["growth", "12.1 MB", Verdict.PASS]]),
            ]),
            Section("Time line", blocks=[Timeline(start, end, lanes=[Lane("Restarts", [Event(at, "blue")])])]),
        ],
        facts=[Fact("Version", "v2.0"), Fact("Made by", Code("python -m ingest_ops soak"))],
        generated_at="2026-01-23T00:10:00Z",
    )
    write_report(Path("reports/soak"), run_id, data, page)     # <run_id>.json, .html and .md

Every text is escaped; nothing is loaded from anywhere; a content security policy in the file forbids it besides.
``data`` of ``write_report`` is the report for machines: see ``envelope`` for the keys that the index needs.
Times are seconds since 1970, shown in UTC.
"""

from ingest_ops.render.files import REPORT_KEYS, envelope, write_atomically, write_json, write_report
from ingest_ops.render.html import CONTENT_SECURITY_POLICY, to_html
from ingest_ops.render.markdown import to_markdown
from ingest_ops.render.model import (
    Band,
    Block,
    Cell,
    Chart,
    Code,
    Column,
    Details,
    Event,
    Fact,
    Facts,
    Judged,
    Lane,
    Link,
    Page,
    Section,
    Series,
    Span,
    Spark,
    Table,
    Text,
    Threshold,
    Timeline,
    Tone,
)

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "REPORT_KEYS",
    "Band",
    "Block",
    "Cell",
    "Chart",
    "Code",
    "Column",
    "Details",
    "Event",
    "Fact",
    "Facts",
    "Judged",
    "Lane",
    "Link",
    "Page",
    "Section",
    "Series",
    "Span",
    "Spark",
    "Table",
    "Text",
    "Threshold",
    "Timeline",
    "Tone",
    "envelope",
    "to_html",
    "to_markdown",
    "write_atomically",
    "write_json",
    "write_report",
]
