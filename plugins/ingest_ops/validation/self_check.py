"""The judge tried: altered copies of its own input, each of which it must not let pass.

A verdict is worth what its judge would have noticed. Each mutant changes one day that passed, in one way that matters,
and the same code judges it again. A mutant that survives makes the whole report INCONCLUSIVE.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np

from ingest_ops.common.report_settings import MB, Limits
from ingest_ops.validation import (
    checks_alerts_audit,
    checks_feed,
    checks_process,
    checks_rate,
    process_memory,
)
from ingest_ops.validation.check import PASS, Finding
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.day_view import DayView
from ingest_ops.validation.evidence import Audit, Evidence
from ingest_ops.validation.process_runs import START
from ingest_ops.validation.week import Week, judge_day

NOON = 43_200.0
Change = Callable[[Day, Evidence, Limits], "tuple[Day | None, Evidence]"]
Edit = Callable[[Raw, Day], Raw]


@dataclass(frozen=True)
class Mutant:
    """One way to be deceived. ``counts``: the value must rise by exactly so much, whatever the limit."""

    id: str
    what: str
    check: str
    change: Change
    counts: int = 0

    def caught(self, before: Finding, after: Finding) -> bool:
        """Whether the judge noticed."""
        if self.counts:
            return before.value is not None and after.value == before.value + self.counts
        return after.verdict is not PASS


@dataclass(frozen=True)
class Trial:
    """A mutant that was judged. ``caught`` is ``None`` where no day passed that it could have altered."""

    mutant: Mutant
    day: date | None
    caught: bool | None
    said: str


def try_all(week: Week) -> tuple[Trial, ...]:
    """Try every mutant on the last day that passed its check."""
    return tuple(_try(week, mutant) for mutant in MUTANTS)


def _try(week: Week, mutant: Mutant) -> Trial:
    for when in reversed(week.given.dates):
        before = week.findings[when][mutant.check]
        if before.verdict is not PASS or when not in week.given.days:
            continue
        day, evidence = mutant.change(week.given.days[when], week.given.evidence, week.limits)
        view = None if day is None else DayView(day)
        if view is not None:
            view.before, view.after = week.views[when].before, week.views[when].after
        after = judge_day(view, week.limits, evidence, only=(mutant.check,))[mutant.check]
        return Trial(mutant, when, mutant.caught(before, after), f"{after.verdict}: {after.reason}")
    return Trial(mutant, None, None, "no day passed this check")


def _series(edit: Edit, *names: str, part: Literal["series", "about"] = "series") -> Change:
    """Alter every series of these metrics."""

    def change(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
        if part == "about":
            return replace(
                day, about=tuple(edit(one, day) if one.name in names else one for one in day.about)
            ), evidence
        return replace(day, series=tuple(edit(one, day) if one.name in names else one for one in day.series)), evidence

    return change


def _vanish(one: Raw, day: Day) -> Raw:
    keep = one.t < day.start + NOON
    return one.with_samples(one.t[keep], one.v[keep])


def _frozen(seconds: float) -> Edit:
    """Hold the value from noon on for so long, and let it go on from there (a counter) or jump (a stamp)."""

    def edit(one: Raw, day: Day) -> Raw:
        held = (one.t >= day.start + NOON) & (one.t < day.start + NOON + seconds)
        v = one.v.copy()
        if held.any():
            first = int(np.flatnonzero(held)[0])
            v[held] = one.v[max(0, first - 1)]
        return one.with_samples(one.t, v)

    return edit


def _quiet(seconds: float) -> Edit:
    """A counter that gains nothing for so long and is the less for it from then on."""

    def edit(one: Raw, day: Day) -> Raw:
        held = _frozen(seconds)(one, day).v
        late = one.t >= day.start + NOON + seconds
        if late.any():
            first = int(np.flatnonzero(late)[0])
            held[late] -= one.v[first] - held[first - 1] if first else 0.0
        return one.with_samples(one.t, held)

    return edit


def _at_noon(value: Callable[[Limits, float], float], name: str) -> Change:
    """One sample at noon that is not what it was."""

    def change(day: Day, evidence: Evidence, limits: Limits) -> tuple[Day | None, Evidence]:
        def edit(one: Raw, day: Day) -> Raw:
            v = one.v.copy()
            index = np.flatnonzero(one.t >= day.start + NOON)[:1]
            v[index] = [value(limits, float(one.t[at])) for at in index]
            return one.with_samples(one.t, v)

        return _series(edit, name)(day, evidence, limits)

    return change


def _leak(day: Day, evidence: Evidence, limits: Limits) -> tuple[Day | None, Evidence]:
    slope = 2 * limits.memory_growth_mb_per_day * MB / 86_400.0
    return _series(lambda one, day: one.with_samples(one.t, one.v + slope * (one.t - day.start)), process_memory.RSS)(
        day, evidence, limits
    )


def _restart(one: Raw, day: Day) -> Raw:
    return one.with_samples(one.t, np.where(one.t >= day.start + NOON, day.start + NOON - 5.0, one.v))


def _hour_gone(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    def edit(one: Raw) -> Raw:
        keep = (one.t < day.start + NOON) | (one.t >= day.start + NOON + 3600)
        return one.with_samples(one.t[keep], one.v[keep])

    return replace(day, series=tuple(edit(one) for one in day.series)), evidence


def _dropped(_day: Day, evidence: Evidence, _limits: Limits) -> tuple[None, Evidence]:
    return None, evidence


def _like(day: Day) -> Raw | None:
    """The reconnect counter with the most samples after noon, to be imitated."""
    found = [one for one in day.series if one.name == checks_feed.RECONNECTS and (one.t >= day.start + NOON).any()]
    return max(found, key=lambda one: int((one.t >= day.start + NOON).sum()), default=None)


def _born_at_one(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    like = _like(day)
    if like is None:
        return day, evidence
    t = like.t[like.t >= day.start + NOON]
    child = Raw({**like.labels, "reason": "mutant"}, t, np.ones(len(t)))
    return replace(day, series=(*day.series, child)), evidence


def _hidden_reset(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    """A process replaced between two scrapes whose counter is back at its old value: it never fell.

    The child counts one before noon; that it is one after noon, too, is a second.
    """
    like = _like(day)
    if like is None:
        return day, evidence
    child = Raw({**like.labels, "reason": "mutant"}, like.t, (like.t >= day.start + NOON - 600.0).astype(np.float64))

    def edit(one: Raw) -> Raw:
        if one.instance != like.instance:
            return one
        if one.name == START:
            return _restart(one, day)
        return _from_zero(one, day) if one.name == like.name else one

    return replace(day, series=(*(edit(one) for one in day.series), child)), evidence


def _from_zero(one: Raw, day: Day) -> Raw:
    late = one.t >= day.start + NOON
    base = one.v[~late][-1] if (~late).any() else 0.0
    return one.with_samples(one.t, np.where(late, one.v - base, one.v))


def _alert(day: Day, evidence: Evidence, limits: Limits) -> tuple[Day, Evidence]:
    labels = {
        "__name__": "ALERTS", "alertname": "Mutant", "alertstate": "firing", "severity": limits.alert_severities[0],
    }  # fmt: skip
    at = np.array([day.start + NOON + 7.0])
    return replace(day, alerts=(*day.alerts, Raw(labels, at, np.ones(1)))), evidence


def _failed_rule(one: Raw, day: Day) -> Raw:
    return one.with_samples(one.t, one.v + (one.t >= day.start + NOON))


def _silent_symbol(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    name = max(day.symbols, key=lambda one: day.symbols[one].get("received", 0), default="")
    most = {**evidence.expected.symbols, name: 1_000_000}
    counts = {**day.symbols, name: {"received": 0, "committed": 0}}
    return replace(day, symbols=counts), replace(evidence, expected=replace(evidence.expected, symbols=most))


def _forced(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    """A connection is replaced because it had stalled."""
    like = _like(day)
    if like is None:
        return day, evidence
    labels = {**like.labels, "__name__": checks_feed.ROTATIONS, "reason": "mutant"}
    for one in day.series:
        if one.name == checks_feed.ROTATIONS and one.instance == like.instance and one.labels["reason"] == "stalled":
            labels, like = dict(one.labels), one
    changed = like.with_samples(like.t, like.v + (like.t >= day.start + NOON))
    kept = tuple(one for one in day.series if one is not like)
    return replace(day, series=(*kept, Raw(labels, changed.t, changed.v))), evidence


def _audited(**more: int) -> Change:
    def change(day: Day, evidence: Evidence, limits: Limits) -> tuple[Day, Evidence]:
        audits = evidence.audits_for(day.end, limits.audit_within_seconds)
        if not audits:
            return day, evidence
        audit = audits[0]
        totals = {**audit.totals, **{name: audit.totals.get(name, 0) + by for name, by in more.items()}}
        changed = replace(audit, totals=totals)
        return day, replace(evidence, audits=tuple(changed if one is audit else one for one in evidence.audits))

    return change


def _each_audit(edit: Callable[[Audit, Day], Audit]) -> Change:
    def change(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
        return day, replace(evidence, audits=tuple(edit(one, day) for one in evidence.audits))

    return change


def _narrow(audit: Audit, day: Day) -> Audit:
    return replace(audit, covers=(day.start + NOON, day.end + NOON))


def _empty(audit: Audit, _day: Day) -> Audit:
    return replace(audit, totals={**audit.totals, "committed": 0})


def _shown(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    at = np.array([day.start + NOON])
    return replace(day, about=(*day.about, Raw({"__name__": "ingest_audit_missing_trades"}, at, np.ones(1)))), evidence


def _early_audits(day: Day, evidence: Evidence, _limits: Limits) -> tuple[Day, Evidence]:
    return day, replace(evidence, audits=tuple(one for one in evidence.audits if one.at < day.end))


_SERIES_OF = {
    "memory.max": process_memory.RSS,
    "memory.trend": START,
    "rotations": checks_feed.ROTATIONS,
    "connection.age": checks_feed.AGE,
    "pongs": checks_feed.PONGS,
    "pong.age": checks_feed.LAST_PONG,
    "rate.mean": checks_rate.RECEIVED,
    "rate.worst": checks_rate.ACTIVE,
    "reconnects": checks_feed.RECONNECTS,
    "freshness": checks_process.COMMIT,
    "restarts": START,
}

MUTANTS: tuple[Mutant, ...] = (
    Mutant("day-dropped", "the whole day is gone", "memory.max", _dropped),
    Mutant("hour-gone", "an hour of all series is gone", "reconnects", _hour_gone),
    *(
        Mutant(f"vanished.{check}", f"{name} vanishes at noon", check, _series(_vanish, name))
        for check, name in _SERIES_OF.items()
    ),
    Mutant(
        "reset-hidden", "a process is replaced at noon; its counter comes back at the value it had", "reconnects",
        _hidden_reset, counts=2,
    ),
    Mutant("born-at-one", "a reconnect is the first increment of a child", "reconnects", _born_at_one, counts=1),
    Mutant("replaced-stalled", "a stalled connection is replaced", "reconnects", _forced, counts=1),
    Mutant("symbol-silent", "the busiest symbol is silent all day", "symbols", _silent_symbol),
    Mutant("alert-brief", "an alert of ten seconds", "alerts", _alert, counts=1),
    Mutant(
        "rules-silent", "the rules are not evaluated for an hour", "alerts",
        _series(_quiet(3600.0), checks_alerts_audit.ITERATIONS, part="about"),
    ),
    Mutant(
        "rules-stuck", "the last evaluation's stamp stands still for ten minutes", "alerts",
        _series(_frozen(600.0), checks_alerts_audit.EVALUATED, part="about"),
    ),
    Mutant(
        "rules-failed", "one evaluation failed", "alerts",
        _series(_failed_rule, checks_alerts_audit.FAILURES, part="about"),
    ),
    Mutant(
        "prometheus-restarted", "Prometheus was restarted at noon", "alerts",
        _series(_restart, "process_start_time_seconds", part="about"),
    ),
    Mutant("rules-gone", "the alert rules are not loaded", "alerts", lambda day, evidence, _: (
        replace(day, rules=()), evidence)),
    Mutant(
        "commits-stop", "no commit for ten minutes", "freshness", _series(_frozen(600.0), checks_process.COMMIT)
    ),
    Mutant(
        "rate-sags", "no message for six minutes, the average hardly moves", "rate.worst",
        _series(_quiet(360.0), checks_rate.RECEIVED),
    ),
    Mutant(
        "memory-peak", "one sample of the memory at the limit", "memory.max",
        _at_noon(lambda limits, _: limits.memory_mb * MB, process_memory.RSS),
    ),
    Mutant("memory-leak", "a leak of twice the limit", "memory.trend", _leak),
    Mutant(
        "connection-old", "one connection a second too old at one scrape", "connection.age",
        _at_noon(lambda limits, _: limits.connection_age_seconds + 1, checks_feed.AGE),
    ),
    Mutant(
        "pong-late", "a pong ten minutes late", "pong.age", _series(_frozen(780.0), checks_feed.LAST_PONG)
    ),
    Mutant("restart-unplanned", "a process is replaced at noon", "restarts", _series(_restart, START)),
    Mutant("audit-lost", "the auditor misses one trade", "audit.lost", _audited(missing=1), counts=1),
    Mutant("audit-twice", "the auditor finds one trade twice", "audit.duplicated", _audited(duplicated=1), counts=1),
    Mutant("audit-altered", "the auditor finds one trade altered", "audit.faults", _audited(altered=1), counts=1),
    Mutant("audit-shown", "the watching auditor shows one lost trade for one sample", "audit.lost", _shown, counts=1),
    Mutant("audit-narrow", "the audits read nothing from before noon", "audit.lost", _each_audit(_narrow)),
    Mutant("audit-empty", "the audits judged no record", "audit.duplicated", _each_audit(_empty)),
    Mutant("audit-early", "the only audits ran before the day's end", "audit.lost", _early_audits),
)  # fmt: skip
