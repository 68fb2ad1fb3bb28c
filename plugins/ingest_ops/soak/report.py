"""The report of a soak: the data for machines and the page for people, from the record and what was judged."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.growth import METHOD, Growth
from ingest_ops.render import Page, envelope, write_report
from ingest_ops.render.addresses import NOWHERE, Addresses
from ingest_ops.render.files import finite
from ingest_ops.soak.before import before
from ingest_ops.soak.error_rates import Rates
from ingest_ops.soak.judge import Judgement, judge, mean_rate, worst_rate
from ingest_ops.soak.memory import MemoryJudgement
from ingest_ops.soak.page import page
from ingest_ops.soak.record import PREVIOUS, Record
from ingest_ops.soak.samples import COUNTERS, Sample, columns, increase

SCHEMA_VERSION = 2
SCHEMA = Path(__file__).with_name("report.schema.json")
"""The published JSON schema of the report."""


def moment(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(round(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(
    folder: Path,
    record: Record,
    audit: AuditResult | None,
    rates: Rates | None,
    *,
    now: float,
    addresses: Addresses = NOWHERE,
) -> tuple[Judgement, dict[str, Path]]:
    """Judge the record and write ``<run_id>.html``, ``.md`` and ``.json``. Raises ``OSError``."""
    judgement = judge(record, audit)
    shown = page(
        record, judgement, audit, rates, generated_at=moment(now), addresses=addresses, before=before(folder, record)
    )  # fmt: skip
    return judgement, write_report(folder, record.run_id, as_json(record, judgement, audit, rates, shown), shown)


def as_json(
    record: Record, judgement: Judgement, audit: AuditResult | None, rates: Rates | None, shown: Page
) -> dict[str, Any]:
    """The report as plain data, all samples included."""
    plan = record.plan
    return envelope(shown, run_id=record.run_id, schema_version=SCHEMA_VERSION) | {
        "state": str(record.state),
        "reason": record.reason,
        "window": {"start": moment(record.started), "end": moment(_end(record)), "timezone": "UTC"},
        "clock": {
            "kind": "compressed" if plan.compressed else "real",
            "factor": finite(plan.factor),
            "trial": plan.trial,
        },
        "plan": plan.as_json(),
        "reasons": list(judgement.reasons),
        "plain": {"verdict": str(judgement.plain), "differs": judgement.differs},
        "checks": [one.as_json() | {"value": finite(one.value)} for one in judgement.checks],
        "memory": _memory(judgement.memory),
        "previous": None if judgement.previous is None else _memory(judgement.previous),
        "totals": _totals(record.samples),
        "totals_previous": _totals(record.tracks[PREVIOUS]) if PREVIOUS in record.tracks else None,
        "audit": None if audit is None else audit.as_json(),
        "method": {"text": METHOD, "error_rates": None if rates is None else _rates(rates.of(plan.name))},
        "environment": record.environment,
        "events": record.events,
        "samples": {name: [one.as_json() for one in track] for name, track in record.tracks.items()},
    }


def _rates(rates: Rates) -> dict[str, Any]:
    return rates.as_json() | {"summary": rates.summary()}


def _end(record: Record) -> float:
    if record.ended is not None:
        return min(record.ended, record.started + record.plan.run_seconds)
    return record.samples[-1].at if record.samples else record.started


def _memory(found: MemoryJudgement) -> dict[str, Any]:
    return {
        "verdict": str(found.verdict),
        "reason": found.reason,
        "warm_up_seconds": finite(found.warm_up_seconds),
        "growth_mb": _interval(found.growth),
        "judged": _judged(found.judged),
        "mb_per_million_messages": _interval(found.per_million),
        "trend": None
        if found.per_second is None
        else {name: finite(value, 12) for name, value in found.per_second.as_json().items()},
        "minima": [[finite(at, 3), finite(size, 3)] for at, size in found.minima],
        "beside": {name: _interval(values) for name, values in found.beside.items()},
    }


def _judged(found: Growth | None) -> dict[str, Any] | None:
    if found is None:
        return None
    names = ("second_half", "last_level", "late_rise", "slackening", "per_load")
    return {name: finite(getattr(found, name), 6) for name in names} | {
        "levels": [[finite(at, 1), finite(level, 3)] for at, level in found.levels]
    }


def _interval(values: tuple[float, float, float] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return dict(zip(("estimate", "low", "high"), (finite(one, 4) for one in values), strict=True))


def _totals(samples: Sequence[Sample]) -> dict[str, Any]:
    """What each counter counted between the first sample and the last, and the rates."""
    names = {name for one in samples for name in one.values if name.split(".", 1)[0] in COUNTERS}
    counted = {name: finite(increase(samples, name)) for name in sorted(names)}
    return {
        "counters": counted,
        "messages_per_second": finite(mean_rate(samples), 3),
        "messages_per_second_worst": finite(worst_rate(samples, 300.0), 3),
        "drop_reasons": [name.split(".", 1)[1] for name in columns(samples, "drops")],
    }
