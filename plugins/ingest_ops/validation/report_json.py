"""The report for machines: plain data after the published schema (``schema.json`` beside this file)."""

import json
import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from ingest_ops.common.report_settings import MB, ReportSettings
from ingest_ops.render.files import finite
from ingest_ops.validation import day_store
from ingest_ops.validation.check import Check, Finding
from ingest_ops.validation.day_view import DayView
from ingest_ops.validation.incident_timeline import Hole, IncidentTimeline, Moment
from ingest_ops.validation.self_check import Trial
from ingest_ops.validation.week import Joined, Week

SCHEMA_VERSION = 1
SCHEMA = Path(__file__).with_name("schema.json")
FIGURES = {
    "duplicates_dropped": "ingest_duplicates_dropped_total",
    "gaps_found": "ingest_gaps_found_total",
    "gaps_filled": "ingest_gaps_filled_total",
    "content_mismatches": "ingest_content_mismatches_total",
    "pong_timeouts": "binance_pong_timeouts_total",
    "producer_errors": "ingest_producer_errors_total",
    "handovers": "ingest_handovers_total",
}
FIGURES_BY_REASON = {
    "rotations": "binance_connection_rotations_total",
    "reconnects": "binance_reconnects_total",
    "voids": "ingest_voids_total",
    "rejected": "ingest_rejected_total",
    "producer_recycles": "ingest_producer_recycles_total",
}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the report."""
    loaded: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return loaded


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(round(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def body(week: Week, trials: tuple[Trial, ...], happened: IncidentTimeline, settings: ReportSettings) -> dict[str, Any]:
    """Everything but the envelope."""
    views = [week.views.get(when) for when in week.given.dates]
    return {
        "window": {"start": stamp(week.start), "end": stamp(week.end), "tz": "UTC"},
        "reasons": list(week.reasons),
        "coverage": coverage(week, settings),
        "environment": environment(week),
        "limits": week.limits.as_json(),
        "checks": [_check(one, week, settings) for one in week.checks],
        "memory_trend": [
            {
                "process": one.name,
                "start": stamp(one.start),
                "end": stamp(one.end),
                "growth_mb": finite(one.growth.estimate, 2),
                "low_mb": finite(one.growth.low, 2),
                "high_mb": finite(one.growth.high, 2),
                "verdict": str(one.verdict),
            }
            for one in week.memory
        ],
        "days": [_day(week, when.isoformat(), view) for when, view in zip(week.given.dates, views, strict=True)],
        "symbols": symbols(week),
        "deployments": [
            {
                "file": one.file,
                "title": one.title,
                "start": stamp(one.start),
                "end": stamp(one.end),
                "verdict": one.verdict,
            }
            for one in happened.deployments
        ],
        "handovers": [_moment(one) for one in happened.handovers],
        "restarts": [
            {"at": stamp(one.at), "process": one.name, "away_seconds": finite(one.away, 3), "planned_by": one.why}
            for one in happened.restarts
        ],
        "reconnects": [_moment(one) for one in happened.reconnects],
        "alerts": [
            {
                "name": one.name,
                "severity": one.severity,
                "start": stamp(one.start),
                "end": stamp(one.end),
                "judged": one.judged,
                "labels": dict(sorted(one.labels.items())),
            }
            for one in happened.alerts
        ],
        "gaps": [_hole(one) for one in happened.holes],
        "stale": [_hole(one) for one in happened.stale],
        "self_check": {
            "mutants": len(trials),
            "caught": sum(one.caught is True for one in trials),
            "survived": [one.mutant.id for one in trials if one.caught is False],
            "not_applicable": [one.mutant.id for one in trials if one.caught is None],
            "trials": [
                {
                    "id": one.mutant.id,
                    "what": one.mutant.what,
                    "check": one.mutant.check,
                    "day": one.day.isoformat() if one.day else None,
                    "caught": one.caught,
                    "said": one.said,
                }
                for one in trials
            ],
        },
        "evidence": evidence(week, settings),
    }


def coverage(week: Week, settings: ReportSettings) -> dict[str, Any]:
    """How much of the window was seen, in samples of the processes' being up."""
    views = week.views.values()
    samples = sum(view.coverage(("up",)).samples for view in views)
    expected = round(86_400 / settings.scrape_seconds) * len(week.given.dates)
    return {
        "days": len(week.given.dates),
        "days_with_data": sum(view.has_data for view in views),
        "samples": samples,
        "expected_samples": expected,
        "share": finite(samples / expected, 5),
    }


def query_of(check: Check, settings: ReportSettings) -> str:
    """The query as it can be asked."""
    return check.query.replace("$selector", settings.selector)


def _check(one: Joined, week: Week, settings: ReportSettings) -> dict[str, Any]:
    check = one.check
    return {
        "id": check.id,
        "title": check.title,
        "query": query_of(check, settings),
        "params": check.params(week.limits),
        "criterion": check.criterion(week.limits),
        "threshold": finite(check.threshold(week.limits)),
        "unit": check.unit,
        "days": [
            {"date": when.isoformat(), **_finding(finding)}
            for when, finding in zip(week.given.dates, one.findings, strict=True)
        ],
        "value": finite(one.value, 4),
        "verdict": str(one.verdict),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "value": finite(finding.value, 4),
        "expected_samples": finding.expected,
        "samples": finding.samples,
        "verdict": str(finding.verdict),
        "reason": finding.reason,
    }


def _day(week: Week, when: str, view: DayView | None) -> dict[str, Any]:
    if view is None or not view.has_data:
        absent = {day.isoformat(): why for day, why in week.given.absent.items()}
        why = absent.get(when, "no data of this day") if view is None else "nothing was scraped"
        return {"date": when, "data": False, "why": why, "figures": None}
    low = [float(one.v[one.t >= view.day.start].min()) for one in view.series("process_resident_memory_bytes")
           if (one.t >= view.day.start).any()]  # fmt: skip
    figures: dict[str, Any] = {"memory_min_mb": finite(min(low) / MB, 1) if low else None}
    figures |= {key: view.count(name) for key, name in FIGURES.items()}
    figures |= {
        key: {reason: count for reason, count in view.count_by(name, "reason").items() if count}
        for key, name in FIGURES_BY_REASON.items()
    }
    figures["received"] = sum(row["received"] for row in view.day.symbols.values())
    figures["committed"] = sum(row["committed"] for row in view.day.symbols.values())
    return {
        "date": when,
        "data": view.has_data,
        "why": "" if view.has_data else "nothing was scraped",
        "figures": figures,
    }


def symbols(week: Week) -> dict[str, dict[str, list[int | None]]]:
    """By symbol, the trades received and committed each day."""
    names = sorted({name for view in week.views.values() for name in view.day.symbols})
    found: dict[str, dict[str, list[int | None]]] = {}
    for name in names:
        views = [week.views.get(when) for when in week.given.dates]
        rows = [view.day.symbols.get(name) if view is not None and view.has_data else None for view in views]
        found[name] = {
            key: [row[key] if row is not None else None for row in rows] for key in ("received", "committed")
        }
    return found


def environment(week: Week) -> dict[str, Any]:
    """What was running, and what watched it."""
    views = list(week.views.values())
    versions = sorted({p.version for view in views for p in view.processes if p.version})
    revisions = sorted({p.revision for view in views for p in view.processes if p.revision})
    last = views[-1].day if views else None
    return {
        "versions": versions,
        "revisions": revisions,
        "prometheus_version": last.prometheus if last else "",
        "rules_sha256": last.rules_sha256 if last else "",
    }


def evidence(week: Week, settings: ReportSettings) -> list[dict[str, str]]:
    """The files that the verdict rests on, with their digests."""
    files = {
        f"validation/days/{day_store.path_of(settings.days, when).name}": day_store.digest(settings.days, when)
        for when in week.given.dates
        if when in week.given.days
    }
    files |= dict(week.given.evidence.digests or {})
    return [{"file": file, "sha256": files[file]} for file in sorted(files)]


def _moment(one: Moment) -> dict[str, Any]:
    return {"at": stamp(one.at), "process": one.name, "what": one.what, "count": one.count}


def _hole(one: Hole) -> dict[str, Any]:
    seconds = one.end - one.start
    return {"start": stamp(one.start), "end": stamp(one.end), "what": one.what, "seconds": math.ceil(seconds)}
