"""The report for people: verdict and coverage, day by day, each criterion, what happened, how it was judged."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time

from ingest_ops.common.report_settings import DAY, ReportSettings
from ingest_ops.common.verdict import Verdict, together
from ingest_ops.render import (
    Block,
    Cell,
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
    Table,
    Text,
    Timeline,
    addresses,
)  # fmt: skip
from ingest_ops.render.numbers import duration, moment, number
from ingest_ops.validation import charts, report_json
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS
from ingest_ops.validation.incident_timeline import IncidentTimeline
from ingest_ops.validation.self_check import Trial
from ingest_ops.validation.week import Joined, Week

SYMBOL_ROWS = 60
JUDGED = "explanation/reading_seven_days.md"
"""Where it is said how days are judged."""


def overall(week: Week, trials: tuple[Trial, ...]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons; a surviving mutant takes the worth of a PASS."""
    survived = [one for one in trials if one.caught is False]
    reasons = week.reasons
    verdict = week.verdict
    if survived:
        names = ", ".join(one.mutant.id for one in survived)
        said = f"The judge let {len(survived)} altered copies of its input pass: {names}. Its PASS is worth nothing."
        reasons = (said, *reasons)
        verdict = FAIL if verdict is FAIL else INCONCLUSIVE
    return verdict, reasons


def page(
    week: Week, trials: tuple[Trial, ...], happened: IncidentTimeline, settings: ReportSettings, generated_at: str
) -> Page:
    """The page of a judged week."""
    verdict, reasons = overall(week, trials)
    days = len(week.given.dates)
    span = "Seven days" if days == 7 else f"{days} days"
    return Page(
        kind="validation",
        title=f"Production validation: {span} to {week.given.dates[-1]}",
        verdict=verdict,
        summary=_summary(week, verdict),
        reasons=reasons,
        coverage=_coverage(week, trials, settings),
        sections=[
            _by_day(week),
            *_criteria(week, settings),
            _time_line(week, happened, settings),
            _symbols(week),
            _self_check(trials),
            _evidence(week, settings),
            Section("How to read this", [Text(paragraph) for paragraph in READING]),
        ],
        facts=_provenance(week, settings),
        generated_at=generated_at,
        label=settings.label,
        links=addresses.of(settings).links(week.start, week.end, failed=verdict is not PASS, page=JUDGED),
    )


READING = (
    "Whole numbers are counted from raw samples, process by process, with restarts taken into account; increase() and "
    "changes() estimate them. An increment belongs to the day in which a scrape first showed it.",
    "A verdict is FAIL where what was seen is enough for it, INCONCLUSIVE where too little was seen to say, else PASS. "
    "Missing data never passes. A slot is one scrape interval; coverage is the share of slots in which every process "
    "that was up exposed what the check needs.",
    "The self-check alters copies of the report's own input and judges them again by the same code. If one altered "
    "copy passes, the whole report is INCONCLUSIVE.",
)


def _summary(week: Week, verdict: Verdict) -> str:
    counts = {kind: sum(one.verdict is kind for one in week.checks) for kind in (PASS, FAIL, INCONCLUSIVE)}
    if verdict is PASS:
        return f"All {counts[PASS]} criteria were met on each of {len(week.given.dates)} days."
    parts = [f"{counts[kind]} {word}" for kind, word in ((FAIL, "failed"), (INCONCLUSIVE, "could not be judged"),
             (PASS, "passed")) if counts[kind]]  # fmt: skip
    return f"Of {len(week.checks)} criteria {', '.join(parts)}."


def _coverage(week: Week, trials: tuple[Trial, ...], settings: ReportSettings) -> list[Fact]:
    found = report_json.coverage(week, settings)
    seen, slots = found["samples"], found["expected_samples"]
    caught, tried = (sum(one.caught is wanted for one in trials) for wanted in (True, False))
    return [
        Fact("Window, UTC", f"{week.given.dates[0]} to {week.given.dates[-1]}"),
        Fact("Days with data", f"{found['days_with_data']} of {found['days']}"),
        Fact("Samples", f"{100 * seen / slots:.2f} % ({seen:,} of {slots:,})"),
        Fact("Self-check", f"{caught} of {caught + tried} mutants caught"),
    ]


def _by_day(week: Week) -> Section:
    header = charts.columns("Check", *(Column(f"{when:%a} {when:%m-%d}") for when in week.given.dates), "All")
    rows: list[list[Cell]] = []
    for one in week.checks:
        cells: list[Cell] = [Judged(finding.verdict, _value(finding.value, one)) for finding in one.findings]
        rows.append(
            [
                Link(one.check.title, f"#{_anchor(one.check.section)}"),
                *cells,
                Judged(one.verdict, _value(one.value, one)),
            ]
        )
    for trend in week.memory:
        blanks: list[Cell] = [None] * len(week.given.dates)
        rows.append(
            [
                f"Memory over the window ({trend.name})",
                *blanks,
                Judged(trend.verdict, f"{trend.growth.estimate:+.1f} MB"),
            ]
        )
    note = f"The last column joins the days: {_joins()}."
    return Section("Day by day", [Table(header, rows), Text(note)], week.verdict)


def _joins() -> str:
    return "sums of counts, the highest or lowest of extremes, the mean of shares and rates"


def _value(value: float | None, one: Joined) -> str:
    if value is None:
        return "no data"
    if one.check.unit == "%":
        return f"{value:.3f} %"
    text = number(round(value, 1 if one.check.unit in ("MB", "s", "1/s") else 3))
    return text + (f" {one.check.unit}" if one.check.unit in ("MB", "s") else "/s" if one.check.unit == "1/s" else "")


def _anchor(section: str) -> str:
    return Section(section).anchor


def _criteria(week: Week, settings: ReportSettings) -> Iterator[Section]:
    drawn = {
        "Memory": charts.memory_charts, "Rotations": charts.age_chart, "Ping and pong": charts.pong_chart,
        "Message rate": charts.rate_chart, "Freshness": charts.freshness_chart, "Reconnections": charts.reconnects,
        "Completeness": charts.voids,
    }  # fmt: skip
    for name in dict.fromkeys(one.check.section for one in week.checks):
        checks = [one for one in week.checks if one.check.section == name]
        blocks: list[Block] = []
        if name in drawn:
            blocks += drawn[name](week)
        for one in checks:
            blocks += _criterion(one, week, settings)
        verdicts = [one.verdict for one in checks] + ([one.verdict for one in week.memory] if name == "Memory" else [])
        yield Section(name, blocks, together(verdicts))


def _criterion(one: Joined, week: Week, settings: ReportSettings) -> list[Block]:
    query = report_json.query_of(one.check, settings)
    facts = [
        Fact(one.check.title, one.verdict),
        Fact("Criterion", one.check.criterion(week.limits)),
        Fact("Over all days", _value(one.value, one)),
        Fact("Judged by", one.check.about),
        Fact("Query", Code(query)),
    ]
    if not query.startswith("ingest audit"):
        facts.append(Fact("In Prometheus", addresses.of(settings).query(query, moment(week.end))))
    if one.verdict is not PASS:
        days = [when for when, found in zip(week.given.dates, one.findings, strict=True) if found.verdict is not PASS]
        facts += [Fact(link.text, link) for link in _looked_at(days, week, settings)]
    rows: list[list[Cell]] = [
        [
            str(when),
            _value(finding.value, one),
            f"{finding.samples:,} of {finding.expected:,}",
            finding.verdict,
            finding.reason,
        ]
        for when, finding in zip(week.given.dates, one.findings, strict=True)
    ]
    header = charts.columns("Day", Column("Value", numeric=True), Column("Samples", numeric=True), "Verdict", "Reason")
    return [Facts(facts), Details(f"{one.check.title}, day by day", [Table(header, rows)])]


def _looked_at(days: Sequence[date], week: Week, settings: ReportSettings) -> list[Link]:
    """Grafana over the days on which a criterion was not met; over the window where only their sum is too much."""
    moments = [datetime.combine(when, time(), UTC).timestamp() for when in days]
    start, end = (min(moments), max(moments) + DAY) if moments else (week.start, week.end)
    return addresses.of(settings).charts(start, end)


def _time_line(week: Week, happened: IncidentTimeline, settings: ReportSettings) -> Section:
    deployments = [
        Event(d.start, d.title, d.end, "good" if d.verdict == PASS else "bad", d.verdict) for d in happened.deployments
    ]
    restarts = [
        Event(r.at, r.name, tone="info" if r.why else "bad", detail=r.why or f"unplanned, away for {duration(r.away)}")
        for r in happened.restarts
    ]
    alerts = [
        Event(a.start, a.name, a.end, "bad" if a.judged else "warn", a.severity or "no severity")
        for a in happened.alerts
    ]
    unusual = [r for r in happened.rotations if r.what != "scheduled"]
    lanes = [
        Lane("Deployments", deployments),
        Lane("Hand-overs", [Event(h.at, h.name, tone="info", detail=h.what) for h in happened.handovers]),
        Lane("Restarts", restarts),
        Lane("Alerts", alerts),
        Lane(
            "Reconnections",
            [Event(m.at, m.name, tone="bad", detail=f"{m.count} {m.what}") for m in happened.reconnects],
        ),
        Lane(
            "Rotations, unscheduled", [Event(m.at, m.name, tone="warn", detail=f"{m.count} {m.what}") for m in unusual]
        ),
        Lane("No fresh commit", [Event(h.start, h.what, h.end, "warn") for h in happened.stale]),
        Lane("Holes in the data", [Event(h.start, h.what, h.end, "warn") for h in happened.holes]),
    ]
    return Section("Time line", [Timeline(week.start, week.end, lanes), *_alerts(happened, settings)])


def _alerts(happened: IncidentTimeline, settings: ReportSettings) -> list[Block]:
    """Each alert with what to do about it, and Grafana over the time in which it fired."""
    if not happened.alerts:
        return []
    rows: list[list[Cell]] = []
    for one in happened.alerts:
        end = one.start if one.end is None else one.end
        what: Cell = next(iter(addresses.of(settings).runbook(one.name)), one.name)
        charts_then: Cell = next(iter(addresses.of(settings).charts(one.start, end)), None)
        rows.append([what, one.severity or None, moment(one.start), duration(end - one.start), charts_then])
    header = charts.columns("Alert", "Severity", "From, UTC", "For", "Charts")
    return [Details(f"Alerts that fired ({len(rows)})", [Table(header, rows)])]


def _symbols(week: Week) -> Section:
    rows: list[list[Cell]] = []
    found = report_json.symbols(week)
    order = sorted(found, key=lambda name: (-sum(n or 0 for n in found[name]["committed"]), name))
    for name in order[:SYMBOL_ROWS]:
        committed = found[name]["committed"]
        rows.append([name, *committed, sum(n or 0 for n in committed)])
    header = [
        "Symbol",
        *charts.day_columns(week),
        Column("All", numeric=True),
    ]
    blocks: list[Block] = [Details(f"Trades committed, by symbol ({len(found)})", [Table(header, rows)])]
    if len(order) > SYMBOL_ROWS:
        blocks.append(Text(f"The {SYMBOL_ROWS} busiest of {len(order)} symbols; the JSON has all of them."))
    return Section("Symbols", blocks)


def _self_check(trials: tuple[Trial, ...]) -> Section:
    words = {True: "caught", False: "SURVIVED", None: "not tried"}
    rows: list[list[Cell]] = [
        [one.mutant.id, one.mutant.what, one.mutant.check, str(one.day) if one.day else None,
         Judged({True: PASS, False: FAIL, None: INCONCLUSIVE}[one.caught], words[one.caught]), one.said]
        for one in trials
    ]  # fmt: skip
    survived = any(one.caught is False for one in trials)
    header = charts.columns("Mutant", "What was altered", "Check", "Day", "Result", "The judge said")
    return Section("Self-check", [Table(header, rows)], FAIL if survived else PASS)


def _evidence(week: Week, settings: ReportSettings) -> Section:
    rows: list[list[Cell]] = [[Code(row["file"]), Code(row["sha256"])] for row in report_json.evidence(week, settings)]
    table = Table(["File", "SHA-256"], rows, empty="No file.")
    return Section("Evidence", [Details(f"Files that the verdict rests on ({len(rows)})", [table])])


def _provenance(week: Week, settings: ReportSettings) -> list[Fact]:
    what = report_json.environment(week)
    command = f"python -m ingest_ops report --days {len(week.given.dates)} --end {week.given.dates[-1]}"
    return [
        Fact("Made by", Code(command)),
        Fact("Versions", ", ".join(what["versions"]) or None),
        Fact("Revisions", ", ".join(what["revisions"]) or None),
        Fact("Prometheus", f"{what['prometheus_version']} at {addresses.of(settings).prometheus}"),
        Fact("Selector", Code(settings.selector)),
        Fact("Alert rules, SHA-256", Code(what["rules_sha256"]) if what["rules_sha256"] else None),
    ]
