"""The steps of the daily run, each of which can be repeated: audit, read the day, build the report."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from ingest_ops.common.audit_runner import run_audit
from ingest_ops.common.report_settings import DAY, ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.render import envelope, write_json, write_report
from ingest_ops.validation import day_store, report, report_json
from ingest_ops.validation.day import BadDay, Day, days_until, midnight
from ingest_ops.validation.day_reader import PrometheusSource
from ingest_ops.validation.evidence import collect
from ingest_ops.validation.exchange_counts import with_exchange_counts
from ingest_ops.validation.incident_timeline import incident_timeline
from ingest_ops.validation.self_check import Trial, try_all
from ingest_ops.validation.week import Input, Week

WINDOW = 7
"""Days of the rolling report."""
HISTORY = 7
"""Days before the window that say what is usual."""


@dataclass(frozen=True)
class Built:
    """A report that was written."""

    run_id: str
    verdict: Verdict
    reasons: tuple[str, ...]
    paths: Mapping[str, Path]
    trials: tuple[Trial, ...]


def audit(settings: ReportSettings, when: date, audited_at: str) -> Path | None:
    """Run the auditor if one is named, and keep what it says as ``audit/<date>.json``; ``None`` without one.

    ``audited_at``: RFC 3339, before the auditor starts: what came later is not part of what it saw.
    """
    if not settings.audit_command:
        return None
    path = settings.reports / "audit" / f"{when.isoformat()}.json"
    raw = path.with_name(f".{path.name}.raw")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = run_audit(shlex.split(settings.audit_command), raw)
    finally:
        raw.unlink(missing_ok=True)
    data = dict(result.figures) or {"totals": {}}
    head = {
        "kind": "audit",
        "run_id": when.isoformat(),
        "title": f"Audit after {when.isoformat()}",
        "audited_at": audited_at,
        "generated_at": audited_at,
        "verdict": str(result.verdict),
        "summary": result.reason,
    }
    write_json(path, {**data, **head})
    return path


def read_day(settings: ReportSettings, when: date, source: PrometheusSource) -> tuple[Day, Path, bool]:
    """Read a day and keep it; the last value says whether the file was replaced.

    Raises ``PrometheusAway`` and ``PrometheusRefused``; what was kept before stays.
    """
    day = with_exchange_counts(source.day(when), settings.exchange_url)
    path, written = day_store.save(settings.days, day)
    return day, path, written


def load_days(settings: ReportSettings, end: date, count: int, absent: Mapping[date, str]) -> Input:
    """The days that are kept. ``absent`` says why one is not, where the caller knows."""
    dates = days_until(end, count)
    days: dict[date, Day] = {}
    why = {when: f"not read: {reason}" for when, reason in absent.items()}
    for when in dates:
        try:
            day = day_store.load(settings.days, when)
        except BadDay as error:
            why[when] = f"the kept day is damaged: {error}"
            continue
        if day is not None:
            days[when] = day
    until = midnight(end) + DAY + settings.limits.audit_within_seconds
    evidence = collect(settings.reports).within(midnight(dates[0]), until)
    absent_days = {when: why.get(when, "this day was never read") for when in dates}
    return Input(
        tuple(dates), days, absent_days, evidence, _history(settings, dates[0]), exchange=bool(settings.exchange_url)
    )


def _history(settings: ReportSettings, first: date) -> tuple[Day, ...]:
    """The days before the window that are kept; a damaged one is left out."""
    found = []
    for when in days_until(first - timedelta(days=1), HISTORY):
        try:
            day = day_store.load(settings.days, when)
        except BadDay:
            continue
        if day is not None:
            found.append(day)
    return tuple(found)


def build(
    settings: ReportSettings,
    end: date,
    *,
    generated_at: str,
    count: int = WINDOW,
    absent: Mapping[date, str] | None = None,
) -> Built:
    """Judge the days up to ``end`` and write the report. It reads what is kept, never Prometheus."""
    week = Week.judge(load_days(settings, end, count, absent or {}), settings.limits)
    trials = try_all(week)
    happened = incident_timeline(week)
    page = report.page(week, trials, happened, settings, generated_at)
    verdict, reasons = report.overall(week, trials)
    run_id = f"{end.isoformat()}-{count}d"
    data = envelope(page, run_id=run_id, schema_version=report_json.SCHEMA_VERSION)
    data |= report_json.body(week, trials, happened, settings)
    data["reasons"] = list(reasons)
    return Built(run_id, verdict, reasons, write_report(settings.folder, run_id, data, page), trials)


def missed_reports(folder: Path, end: date, count: int) -> list[date]:
    """The days of the window, ``end`` apart, whose report was not made though an earlier one was."""
    window = days_until(end, 2 * count)
    made = [(folder / f"{when.isoformat()}-{count}d.json").exists() for when in window]
    return [when for at, when in enumerate(window[:-1]) if at >= count and not made[at] and any(made[:at])]
