"""Each check on days of which it is known what happened."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ingest_ops.common.report_settings import MB, Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import Finding
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.evidence import Action, Deployment, Evidence
from ingest_ops.validation.week import CHECKS, judge_day
from tests.harness.production_week import HOUR, EightDays, calm, eventful
from tests.unit.ingest_ops.validation.days import day_of, evidence, raw

STEP = 30.0
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=STEP), 1)


def judged(day: Day, check: str, limits: Limits | None = None, known: Evidence | None = None) -> Finding:
    return judge_day(day, limits or Limits(), known or evidence(), only=(check,))[check]


def changed(day: Day, name: str, change: Callable[[Raw], Raw | None]) -> Day:
    rows = [change(one) if one.name == name else one for one in day.series]
    return dataclasses.replace(day, series=tuple(one for one in rows if one is not None))


def test_a_calm_day_passes_every_check(quiet: Day) -> None:
    found = judge_day(quiet, Limits(), evidence())
    assert {check: (one.verdict, one.reason) for check, one in found.items() if one.verdict is not PASS} == {}
    assert [*found] == [check.id for check in CHECKS]


def test_an_empty_day_passes_no_check_but_those_of_the_audit(quiet: Day) -> None:
    found = judge_day(Day(date=quiet.date, scrape_seconds=STEP), Limits(), Evidence())
    assert {one.verdict for one in found.values()} == {INCONCLUSIVE}
    assert {one.value for one in found.values()} == {None}


def test_no_day_passes_no_check() -> None:
    found = judge_day(None, Limits(), evidence(), "Prometheus was away")
    assert {(one.verdict, one.reason) for one in found.values()} == {(INCONCLUSIVE, "Prometheus was away")}


SERIES = {
    "memory.max": "process_resident_memory_bytes",
    "memory.trend": "process_resident_memory_bytes",
    "rotations": "binance_connection_rotations_total",
    "connection.age": "binance_connection_age_seconds",
    "pongs": "binance_pongs_total",
    "pong.age": "binance_last_pong_timestamp_seconds",
    "rate.mean": "ingest_messages_received_total",
    "rate.worst": "ingest_writer_active",
    "reconnects": "binance_reconnects_total",
    "freshness": "ingest_last_commit_timestamp_seconds",
    "restarts": "process_start_time_seconds",
}


@pytest.mark.parametrize(("check", "name"), SERIES.items())
def test_a_vanished_series_is_inconclusive(quiet: Day, check: str, name: str) -> None:
    """The process is up and does not expose it: nothing is known, and a zero must not come of it."""
    assert judged(changed(quiet, name, lambda _: None), check).verdict is INCONCLUSIVE

    def until_noon(one: Raw) -> Raw:
        keep = one.t < quiet.start + 12 * HOUR
        return one.with_samples(one.t[keep], one.v[keep])

    half = judged(changed(quiet, name, until_noon), check)
    assert half.verdict is INCONCLUSIVE
    assert half.samples < half.expected


def test_half_an_hour_missing_is_too_much_and_ten_minutes_are_not(quiet: Day) -> None:
    def without(seconds: float) -> Day:
        def cut(one: Raw) -> Raw:
            keep = (one.t < quiet.start + 5 * HOUR) | (one.t >= quiet.start + 5 * HOUR + seconds)
            return one.with_samples(one.t[keep], one.v[keep])

        return dataclasses.replace(quiet, series=tuple(cut(one) for one in quiet.series))

    assert judged(without(600), "reconnects").verdict is PASS
    assert judged(without(1800), "reconnects").verdict is INCONCLUSIVE


def test_what_was_seen_is_enough_for_a_fail_whatever_is_missing() -> None:
    world = eventful(step=STEP)
    day = day_of(world, 4)
    keep = day.start + 8 * HOUR
    cut = tuple(one.with_samples(one.t[one.t < keep], one.v[one.t < keep]) for one in day.series)
    assert judged(dataclasses.replace(day, series=cut), "reconnects").verdict is FAIL


@pytest.mark.parametrize(("mb", "verdict"), [(399.9, PASS), (400.0, FAIL)])
def test_one_sample_at_the_memory_limit_fails(quiet: Day, mb: float, verdict: Verdict) -> None:
    def peak(one: Raw) -> Raw:
        v = one.v.copy()
        v[1000] = mb * MB
        return one.with_samples(one.t, v)

    found = judged(changed(quiet, "process_resident_memory_bytes", peak), "memory.max")
    assert found.verdict is verdict
    assert found.value == pytest.approx(mb)


# 30 MB are below the limit, but the load has a daily wave: the part of the memory that follows it is uncertain.
@pytest.mark.parametrize(("leak", "verdict"), [(10.0, PASS), (30.0, INCONCLUSIVE), (100.0, FAIL)])
def test_a_leak_is_judged_by_its_interval(leak: float, verdict: Verdict) -> None:
    world = calm(step=STEP)
    world.processes[0].leak = leak
    found = judged(day_of(world, 1), "memory.trend")
    assert found.verdict is verdict
    assert found.value == pytest.approx(leak, abs=5)


def test_a_process_of_two_hours_has_no_trend() -> None:
    world = calm(step=STEP)
    world.processes[0].end = 26 * HOUR
    assert judged(day_of(world, 1), "memory.trend").verdict is INCONCLUSIVE


@pytest.mark.parametrize(("seconds", "verdict"), [(14_520.0, PASS), (14_520.1, FAIL)])
def test_the_age_of_a_connection_is_a_hard_limit(quiet: Day, seconds: float, verdict: Verdict) -> None:
    def old(one: Raw) -> Raw:
        v = one.v.copy()
        v[2000] = seconds
        return one.with_samples(one.t, v)

    assert judged(changed(quiet, "binance_connection_age_seconds", old), "connection.age").verdict is verdict


def test_rotations_that_do_not_happen_fail(quiet: Day) -> None:
    def none(one: Raw) -> Raw:
        return one.with_samples(one.t, np.zeros(len(one.t)))

    found = judged(changed(quiet, "binance_connection_rotations_total", none), "rotations")
    assert (found.verdict, found.value) == (FAIL, 0)


def test_rotations_without_end_fail(quiet: Day) -> None:
    def many(one: Raw) -> Raw:
        return one.with_samples(one.t, np.floor((one.t - one.t[0]) / 900))

    assert judged(changed(quiet, "binance_connection_rotations_total", many), "rotations").verdict is FAIL


def test_a_third_of_the_pongs_missing_fails(quiet: Day) -> None:
    fewer = changed(quiet, "binance_pongs_total", lambda one: one.with_samples(one.t, np.floor(one.v * 0.66)))
    assert judged(fewer, "pongs").verdict is FAIL


def test_a_new_connection_has_its_first_pong_still_to_come(quiet: Day) -> None:
    """Its name was used before, and the stamp of that time is hours old."""
    assert judged(quiet, "pong.age").value == pytest.approx(180, abs=STEP)


def test_six_quiet_minutes_fail_though_the_average_hardly_moves() -> None:
    world = calm(step=STEP)
    world.processes[0].quiet = [(30 * HOUR, 30 * HOUR + 360)]
    day = day_of(world, 1)
    assert judged(day, "rate.mean").verdict is PASS
    worst = judged(day, "rate.worst")
    assert worst.verdict is FAIL
    assert worst.value == pytest.approx(2.0, abs=0.5)


def test_messages_of_a_process_that_does_not_write_do_not_count() -> None:
    world = calm(step=STEP)
    world.processes[0].writes = []
    found = judged(day_of(world, 1), "rate.mean")
    assert (found.verdict, found.value) == (FAIL, 0)


def test_what_came_over_a_long_hole_is_no_rate() -> None:
    day = day_of(eventful(step=STEP), 5)
    assert judged(day, "rate.mean").value == pytest.approx(39, abs=2)


def test_a_stall_of_five_minutes_breaks_the_freshness_of_a_day() -> None:
    world = calm(step=STEP)
    world.processes[0].stalled = [(30 * HOUR, 30 * HOUR + 300)]
    found = judged(day_of(world, 1), "freshness")
    assert found.verdict is FAIL
    assert found.value == pytest.approx(100 * (1 - 290 / 86_400), abs=0.05)


def test_slots_without_a_sample_are_bad_but_prove_nothing(quiet: Day) -> None:
    def cut(one: Raw) -> Raw:
        keep = (one.t < quiet.start + HOUR) | (one.t >= quiet.start + HOUR + 200)
        return one.with_samples(one.t[keep], one.v[keep])

    found = judged(changed(quiet, "ingest_last_commit_timestamp_seconds", cut), "freshness")
    assert found.verdict is INCONCLUSIVE
    assert found.value is not None
    assert found.value < 99.9


def crash(world: EightDays, version: str = "v1") -> EightDays:
    first = world.processes[0]
    second = dataclasses.replace(
        first, start=30 * HOUR + 20, version=version, writes=[(30 * HOUR + 22, 9 * 86_400)], scheduled=[], pongs=[],
        connections=[],
    )  # fmt: skip
    first.end, first.writes = 30 * HOUR, [(first.start + 2, 30 * HOUR)]
    return EightDays([dataclasses.replace(first, scheduled=[], pongs=[], connections=[]), second], step=STEP)


def test_a_crash_is_an_unplanned_restart() -> None:
    found = judged(day_of(crash(calm(step=STEP)), 1), "restarts")
    assert (found.verdict, found.value) == (FAIL, 1)


def test_a_new_version_is_a_planned_one() -> None:
    found = judged(day_of(crash(calm(step=STEP), "v2"), 1), "restarts")
    assert (found.verdict, found.value) == (PASS, 0)


def test_a_deployments_report_explains_a_restart() -> None:
    world = crash(calm(step=STEP))
    at = world.origin + 30 * HOUR
    start = Action("blue", "start", at - 5, at + 60, "v1")
    known = dataclasses.replace(evidence(), deployments=(Deployment("d", at - 5, at + 60, "again", "PASS", (start,)),))
    assert judged(day_of(world, 1), "restarts", known=known).verdict is PASS
    for actions in ((), (dataclasses.replace(start, version="v2"),), (dataclasses.replace(start, slot="green"),)):
        one = dataclasses.replace(known.deployments[0], actions=actions)
        assert (
            judged(day_of(world, 1), "restarts", known=dataclasses.replace(known, deployments=(one,))).verdict is FAIL
        )


def firing(day: Day, *offsets: float, severity: str = "page", name: str = "NoWriter") -> Day:
    labels = {"alertname": name, "alertstate": "firing", "severity": severity}
    one = raw("ALERTS", [day.start + at for at in offsets], [1.0] * len(offsets), **labels)
    return dataclasses.replace(day, alerts=(one,))


def test_an_alert_of_one_sample_fails(quiet: Day) -> None:
    found = judged(firing(quiet, 40_000.0), "alerts")
    assert (found.verdict, found.value) == (FAIL, 1)


def test_an_alert_that_comes_back_counts_twice(quiet: Day) -> None:
    assert judged(firing(quiet, 40_000.0, 40_015.0, 50_000.0), "alerts").value == 2


@pytest.mark.parametrize(("severity", "name"), [("ticket", "ReportMissing"), ("page", "Watchdog")])
def test_tickets_and_the_watchdog_are_not_judged(quiet: Day, severity: str, name: str) -> None:
    assert judged(firing(quiet, 40_000.0, severity=severity, name=name), "alerts").verdict is PASS


def about(day: Day, name: str, change: Callable[[Raw], Raw | None]) -> Day:
    rows = [change(one) if one.name == name else one for one in day.about]
    return dataclasses.replace(day, about=tuple(one for one in rows if one is not None))


def late(day: Day, one: Raw, by: float) -> Raw:
    return one.with_samples(one.t, np.where(one.t > day.start + 40_000, one.v + by, one.v))


ITERATIONS = "prometheus_rule_group_iterations_total"
SILENCES: dict[str, Callable[[Day], Day]] = {
    "no rule is loaded": lambda day: dataclasses.replace(day, rules=()),
    "only tickets are loaded": lambda day: dataclasses.replace(day, rules=tuple(
        rule for rule in day.rules if rule["severity"] == "ticket")),
    "another group is evaluated": lambda day: dataclasses.replace(day, rules=tuple(
        {**rule, "group": "other;one"} for rule in day.rules)),
    "Prometheus does not scrape itself": lambda day: dataclasses.replace(day, about=()),
    "no evaluation is on record": lambda day: about(day, ITERATIONS, lambda _: None),
    "evaluations stopped at noon": lambda day: about(day, ITERATIONS, lambda one: one.with_samples(
        one.t, np.minimum(one.v, one.v[len(one.v) // 2]))),
    "the stamp stood still": lambda day: about(
        day, "prometheus_rule_group_last_evaluation_timestamp_seconds",
        lambda one: one.with_samples(one.t, np.where((one.t > day.start + 40_000) & (one.t < day.start + 41_000),
                                                     day.start + 40_000, one.v))),
    "one evaluation failed": lambda day: about(
        day, "prometheus_rule_evaluation_failures_total", lambda one: late(day, one, 1)),
    "one was missed": lambda day: about(
        day, "prometheus_rule_group_iterations_missed_total", lambda one: late(day, one, 1)),
    "Prometheus was restarted": lambda day: about(
        day, "process_start_time_seconds", lambda one: late(day, one, 50_000)),
}  # fmt: skip


@pytest.mark.parametrize("silence", SILENCES)
def test_without_proof_of_evaluation_no_alert_is_no_pass(quiet: Day, silence: str) -> None:
    found = judged(SILENCES[silence](quiet), "alerts")
    assert found.verdict is INCONCLUSIVE, found
    assert found.reason


def test_a_required_alert_must_be_loaded(quiet: Day) -> None:
    limits = Limits(alerts_required=("SplitBrain",))
    found = judged(quiet, "alerts", limits)
    assert found.verdict is INCONCLUSIVE
    assert "SplitBrain" in found.reason


@pytest.mark.parametrize(
    ("fault", "check"),
    [("missing", "audit.lost"), ("duplicated", "audit.duplicated"), ("altered", "audit.faults"),
     ("unaccounted", "audit.faults")],
)  # fmt: skip
def test_one_fault_of_the_audit_fails_its_check_alone(quiet: Day, fault: str, check: str) -> None:
    found = judge_day(quiet, Limits(), evidence(**{fault: 1}))
    assert {name for name, one in found.items() if one.verdict is FAIL} == {check}


def test_an_audit_before_the_days_end_says_nothing(quiet: Day) -> None:
    known = evidence()
    early = dataclasses.replace(known, audits=tuple(one for one in known.audits if one.at < quiet.end))
    assert judged(quiet, "audit.lost", known=early).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("change", "verdict"),
    [({"verdict": INCONCLUSIVE}, INCONCLUSIVE), ({"verdict": FAIL, "reason": "it says so"}, FAIL)],
)
def test_the_auditors_own_word_counts(quiet: Day, change: dict[str, Any], verdict: Verdict) -> None:
    known = evidence()
    audits = tuple(dataclasses.replace(one, **change) for one in known.audits)
    assert judged(quiet, "audit.faults", known=dataclasses.replace(known, audits=audits)).verdict is verdict


def test_thresholds_are_settings(quiet: Day) -> None:
    strict = Limits(memory_mb=100, rate_per_second=1000, freshness_percent=100, pong_age_seconds=60)
    found = judge_day(quiet, strict, evidence())
    failed = {name for name, one in found.items() if one.verdict is FAIL}
    assert failed >= {"memory.max", "rate.mean", "rate.worst", "pong.age"}


def test_the_memory_alerts_are_judged_whatever_their_severity(quiet: Day) -> None:
    found = judged(firing(quiet, 40_000.0, severity="ticket", name="BinanceMemoryHigh"), "alerts")
    assert (found.verdict, found.value) == (FAIL, 1)


def test_what_the_watching_auditor_showed_for_a_moment_fails(quiet: Day) -> None:
    """The next audit, clean again after a restored topic, does not undo it."""
    one = raw(
        "ingest_audit_duplicated_trades", [quiet.start + 50, quiet.start + 65], [2.0, 0.0], instance="auditor:9097"
    )
    found = judge_day(dataclasses.replace(quiet, about=(*quiet.about, one)), Limits(), evidence())
    assert {name: finding.value for name, finding in found.items() if finding.verdict is FAIL} == {
        "audit.duplicated": 2
    }
