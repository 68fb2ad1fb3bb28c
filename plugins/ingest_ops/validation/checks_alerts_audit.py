"""Alerts, with the proof that the rules were evaluated, and the independent audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Check, Finding
from ingest_ops.validation.counter_increments import Clock, count
from ingest_ops.validation.day import Raw
from ingest_ops.validation.day_view import DayView
from ingest_ops.validation.evidence import FAULTS, Audit, Evidence
from ingest_ops.validation.process_runs import START

ITERATIONS = "prometheus_rule_group_iterations_total"
OTHER = "other"
"""Label of the symbols beyond those that have their own."""
MISSED = "prometheus_rule_group_iterations_missed_total"
EVALUATED = "prometheus_rule_group_last_evaluation_timestamp_seconds"
FAILURES = "prometheus_rule_evaluation_failures_total"
INTERVALS_LATE = 3.0
"""An evaluation may be this many intervals late."""


@dataclass(frozen=True)
class Firing:
    """One alert, from its first firing sample to the last, within the day. Times in seconds since 1970."""

    name: str
    severity: str
    start: float
    end: float
    labels: Mapping[str, str]
    judged: bool


def firings(view: DayView, limits: Limits) -> list[Firing]:
    """Every stretch in which an alert fired. One sample is a stretch: an alert of ten seconds leaves no more."""
    found = []
    for one in view.day.alerts:
        t = one.t[(one.t >= view.day.start) & (one.v > 0)]
        name, severity = one.labels.get("alertname", ""), one.labels.get("severity", "")
        judged = severity in limits.alert_severities or name in limits.alerts_judged
        if not len(t) or name in limits.alerts_ignored:
            continue
        pause = INTERVALS_LATE * _interval(view, name)
        borders = [0, *(np.flatnonzero(np.diff(t) > pause) + 1).tolist(), len(t)]
        for begin, end in pairwise(borders):
            found.append(Firing(name, severity, float(t[begin]), float(t[end - 1]), one.labels, judged))
    return sorted(found, key=lambda firing: (firing.start, firing.name, sorted(firing.labels.items())))


def _interval(view: DayView, name: str) -> float:
    return max((float(rule["interval"]) for rule in view.day.rules if rule["name"] == name), default=60.0)


def alerts(view: DayView, limits: Limits, _evidence: Evidence) -> Finding:
    """None fired, and it is proved that one would have been seen."""
    judged = [one for one in firings(view, limits) if one.judged]
    evaluated, expected, doubts = proof(view, limits)
    value = float(len(judged))
    if len(judged) > limits.alerts:
        names = ", ".join(sorted({one.name for one in judged}))
        return Finding(value, FAIL, f"{len(judged)} fired: {names}", evaluated, expected)
    if doubts:
        return Finding(value if evaluated else None, INCONCLUSIVE, "; ".join(doubts), evaluated, expected)
    groups = len(_groups(view, limits))
    where = f"{groups} groups" if groups > 1 else "one group"
    reason = f"none fired; {evaluated:,} of {expected:,} evaluations in {where}"
    return Finding(value, PASS, reason, evaluated, expected)


def _groups(view: DayView, limits: Limits) -> dict[str, float]:
    """The rule groups whose silence would matter, with the seconds between their evaluations."""
    return {
        rule["group"]: float(rule["interval"])
        for rule in view.day.rules
        if rule["severity"] in limits.alert_severities
        or rule["name"] in {*limits.alerts_judged, *limits.alerts_required}
    }


def proof(view: DayView, limits: Limits) -> tuple[int, int, list[str]]:
    """Evaluations of the worst-off group, those expected, and every doubt that the rules were watched all day."""
    doubts: list[str] = []
    rules = view.day.rules
    if absent := sorted(set(limits.alerts_required) - {rule["name"] for rule in rules}):
        doubts.append(f"no rule {', '.join(absent)}")
    groups = _groups(view, limits)
    if not groups:
        doubts.append("no alert rule of the severities " + ", ".join(limits.alert_severities))
    doubts += _own_restarts(view)
    counted = {group: _evaluations(view, group, interval, limits, doubts) for group, interval in groups.items()}
    if not counted:
        return 0, 0, doubts
    evaluated, expected = min(counted.values(), key=lambda pair: pair[0] / pair[1])
    return evaluated, expected, doubts


def _own_restarts(view: DayView) -> list[str]:
    starts = [one for one in view.day.about if one.name == START]
    if not starts:
        return ["Prometheus does not scrape itself: nothing proves that the rules were evaluated"]
    # A restart forgets alerts that were pending (prometheus/prometheus#15175).
    # Go's client reads the time of booting again at each scrape, in whole seconds: it moves by one with the clock.
    if any((np.abs(np.diff(one.v[one.t >= view.day.start - 60])) > 1).any() for one in starts):
        return ["Prometheus was restarted: pending alerts may have been forgotten"]
    return []


def _evaluations(view: DayView, group: str, interval: float, limits: Limits, doubts: list[str]) -> tuple[int, int]:
    """Of the Prometheus that watched best: one must have watched all day, halves of a pair do not add up."""
    expected = int(86_400 / interval)
    servers = sorted({one.instance for one in _about(view, ITERATIONS, group)})
    if not servers:
        doubts.append(f"no evaluations of {_short(group)} are on record")
        return 0, expected
    judged = [_evaluations_by(view, group, interval, limits, server) for server in servers]
    evaluated, found = min(judged, key=lambda one: (len(one[1]), -one[0]))
    doubts += found
    return min(evaluated, expected), expected


def _evaluations_by(view: DayView, group: str, interval: float, limits: Limits, server: str) -> tuple[int, list[str]]:
    """A group's evaluations by one Prometheus, and what speaks against its having watched all day."""
    expected = int(86_400 / interval)
    evaluated = sum(_count(view, one) for one in _about(view, ITERATIONS, group, server))
    doubts = []
    if evaluated < limits.least_coverage * expected:
        doubts.append(f"{_short(group)}: {evaluated:,} of {expected:,} evaluations")
    for metric, what in ((FAILURES, "failed"), (MISSED, "were missed")):
        series = _about(view, metric, group, server)
        if not series:
            doubts.append(f"{_short(group)}: no {metric}")
        elif total := sum(_count(view, one) for one in series):
            doubts.append(f"{_short(group)}: {total:,} evaluations {what}")
    return evaluated, doubts + _late(view, group, interval, server)


def _late(view: DayView, group: str, interval: float, server: str) -> list[str]:
    """The evaluations' own stamps must follow each other closely, from the day's begin to its end."""
    late = INTERVALS_LATE * max(interval, view.step)
    stamps = [one.v[one.t >= view.day.start - late] for one in _about(view, EVALUATED, group, server)]
    if not stamps:
        return [f"{_short(group)}: no {EVALUATED}"]
    seen = np.unique(np.concatenate([*stamps, [view.day.start - interval, view.day.end]]))
    longest = float(np.diff(np.clip(seen, view.day.start - interval, view.day.end)).max())
    return [f"{_short(group)}: no evaluation for {longest:,.0f} s"] if longest > late + view.step else []


def _about(view: DayView, metric: str, group: str, server: str | None = None) -> list[Raw]:
    return [
        one
        for one in view.day.about
        if one.name == metric and one.labels.get("rule_group") == group and server in (None, one.instance)
    ]


def _count(view: DayView, one: Raw) -> int:
    starts = [raw for raw in view.day.about if raw.name == START and raw.instance == one.instance and len(raw.t)]
    clock = (
        Clock(starts[0].t, starts[0].v, float(starts[0].t[0])) if starts else Clock(np.empty(0), np.empty(0), np.inf)
    )
    return count(one, clock, view.window_start, view.day.start, view.day.end)


def _short(group: str) -> str:
    return group.rsplit(";", 1)[-1]


def audit_of(view: DayView, limits: Limits, evidence: Evidence) -> Audit | None:
    """The audit that speaks for this day: the first one after its end that covers it, else the first one."""
    found = evidence.audits_for(view.day.end, limits.audit_within_seconds)
    covering = (one for one in found if one.verdict is not Verdict.INCONCLUSIVE and not _lacks(one, view))
    return next(covering, found[0] if found else None)


def _lacks(audit: Audit, view: DayView) -> str:
    """Why an audit does not speak for all of the day; empty if it does."""
    if found := audit.lacks(view.day.start, view.day.end):
        return found
    if audit.symbols is None:
        return "it does not say which symbols it judged"
    had = {name for name, row in view.day.symbols.items() if row.get("received", 0) and name != OTHER}
    absent = sorted(had - audit.symbols)
    return f"it did not judge {', '.join(absent[:5])}" if absent else ""


def _audited(view: DayView, limits: Limits, evidence: Evidence, names: tuple[str, ...], most: int) -> Finding:
    watched = _watched(view, names)
    if watched > most:
        return Finding(watched, FAIL, f"the auditor showed {watched:,.0f} during the day", 1, 1)
    audit = audit_of(view, limits, evidence)
    if audit is None:
        return Finding(None, INCONCLUSIVE, "not audited after the day's end", 0, 1)
    first = evidence.audits_for(view.day.end, limits.audit_within_seconds)[0]
    if sum(first.totals.get(name, 0) for name in names) > most:
        audit = first  # a later one that finds nothing does not undo it
    counts = {name: audit.totals.get(name, 0) for name in names}
    total = sum(counts.values())
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    if total > most:
        return Finding(float(total), FAIL, f"{said} ({audit.file})", 1, 1)
    if audit.verdict is Verdict.INCONCLUSIVE:
        return Finding(None, INCONCLUSIVE, f"the auditor could not judge: {audit.reason}"[:300], 0, 1)
    if audit.verdict is Verdict.FAIL and names == FAULTS and total == 0 and not _known_fault(audit):
        return Finding(float(total), FAIL, f"the auditor says FAIL: {audit.reason}"[:300], 1, 1)
    if lacks := _lacks(audit, view):
        return Finding(None, INCONCLUSIVE, f"the audit does not speak for this day: {lacks} ({audit.file})", 0, 1)
    if audit.totals.get("expired", 0):
        return Finding(float(total), INCONCLUSIVE, f"{audit.totals['expired']:,} ids expired before the audit", 1, 1)
    return Finding(float(total), PASS, f"{said} ({audit.file})", 1, 1)


def _watched(view: DayView, names: tuple[str, ...]) -> float:
    """The most that an auditor who watches all the time has shown; nothing where there is none."""
    metric = "ingest_audit_other_faults" if names == FAULTS else f"ingest_audit_{names[0]}_trades"
    shown = [one.v[one.t >= view.day.start] for one in view.day.about if one.name == metric]
    return max((float(values.max()) for values in shown if len(values)), default=0.0)


def _known_fault(audit: Audit) -> bool:
    return any(audit.totals.get(name, 0) for name in ("missing", "duplicated"))


def lost(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Trades that the exchange has and the topic has not."""
    return _audited(view, limits, evidence, ("missing",), limits.lost)


def duplicated(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Trades that the topic has twice."""
    return _audited(view, limits, evidence, ("duplicated",), limits.duplicated)


def faults(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Whatever else the auditor counts."""
    return _audited(view, limits, evidence, FAULTS, limits.other_faults)


COVERS = " An audit speaks for a day of which it read every record and judged every symbol that had messages."
WATCHED = " A fault that an auditor who watches all the time showed during the day fails it, too."


def _audit_check(check: str, title: str, judge: Any, threshold: Any, about: str) -> Check:
    return Check(
        id=check,
        title=title,
        section="Completeness",
        unit="trades",
        query="ingest audit --json reports/audit/<run>.json",
        criterion=lambda limits: (
            f"at most {threshold(limits):g}, by the first audit after the day's end that covers it"
        ),
        threshold=threshold,
        judge=judge,
        join="max",
        about=about + COVERS + WATCHED,
        params=lambda limits: {"audit_within_seconds": limits.audit_within_seconds},
    )


CHECKS = (
    Check(
        id="alerts",
        title="Alerts",
        section="Alerts",
        unit="",
        query='ALERTS{alertstate="firing"}[1d]',
        criterion=lambda limits: (
            f"at most {limits.alerts} of severity {', '.join(limits.alert_severities)}"
            f"{' or named ' + ', '.join(limits.alerts_judged) if limits.alerts_judged else ''}; rules evaluated all day"
        ),
        threshold=lambda limits: float(limits.alerts),
        judge=alerts,
        join="sum",
        about=(
            "No firing sample, and proof that one would have been there: the rules are loaded, each group was "
            "evaluated all day without a failure, and Prometheus was not restarted."
        ),
        params=lambda limits: {"severities": list(limits.alert_severities), "ignored": list(limits.alerts_ignored)},
    ),
    _audit_check(
        "audit.lost", "Lost", lost, lambda limits: float(limits.lost),
        "Trades that the exchange has and the topic has not, up to the audit: the whole topic, this day included.",
    ),
    _audit_check(
        "audit.duplicated", "Duplicated", duplicated, lambda limits: float(limits.duplicated),
        "Trades that the topic has more than once.",
    ),
    _audit_check(
        "audit.faults", "Other faults", faults, lambda limits: float(limits.other_faults),
        "Altered, reordered, unknown, unaccounted, scattered, false voids, contradicting positions.",
    ),
)  # fmt: skip
