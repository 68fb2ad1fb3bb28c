"""Days and weeks of which the right verdict is known: the examples in which the judge was wrong, and their kinds."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from ingest_ops.common.report_settings import MB, Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import Finding
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.evidence import Action, Deployment, Evidence
from ingest_ops.validation.expected import Expected
from ingest_ops.validation.week import Input, Week, judge_day
from tests.harness.production_week import DAY, HOUR, EightDays, Process, calm
from tests.unit.ingest_ops.validation.days import dates, day_of, evidence

STEP = 60.0
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
RANK = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}
NOON = 12 * HOUR


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=STEP), 1)


@pytest.fixture(scope="module")
def sharded() -> Day:
    """Two shards, a process each."""
    lives = [
        Process(f"s{at}:9095", "blue", -10 * HOUR, 9 * DAY, "v1", writes=[(-10 * HOUR + 2, 9 * DAY)]) for at in (0, 1)
    ]
    day = day_of(EightDays(lives, step=STEP), 1)
    return dataclasses.replace(
        day, series=tuple(Raw({**one.labels, "shard": one.instance[1]}, one.t, one.v) for one in day.series)
    )


def judged(day: Day, check: str, known: Evidence | None = None, limits: Limits | None = None) -> Finding:
    return judge_day(day, limits or Limits(), known or evidence(), only=(check,))[check]


def changed(day: Day, change: Callable[[Raw], Raw | None], *names: str) -> Day:
    rows = [change(one) if not names or one.name in names else one for one in day.series]
    return dataclasses.replace(day, series=tuple(one for one in rows if one is not None))


def between(one: Raw, day: Day, begin: float, end: float) -> Raw:
    """Without the samples of a part of the day."""
    keep = (one.t < day.start + begin) | (one.t >= day.start + end)
    return one.with_samples(one.t[keep], one.v[keep])


@pytest.mark.parametrize(("reason", "count"), [("stalled", 5), ("pong_timeout", 20)])
def test_forced_replacements_are_disturbances(quiet: Day, reason: str, count: int) -> None:
    def replaced(one: Raw) -> Raw:
        if one.labels.get("reason") != reason:
            return one
        return one.with_samples(one.t, np.floor(np.clip((one.t - quiet.start) / DAY, 0, 1) * count))

    found = judged(changed(quiet, replaced, "binance_connection_rotations_total"), "reconnects")
    assert found.verdict is FAIL
    assert f"{count} replaced: {reason}" in found.reason or f"{count - 1} replaced: {reason}" in found.reason


def test_eight_rotations_of_one_undisturbed_connection_are_too_many(quiet: Day) -> None:
    def often(one: Raw) -> Raw:
        if one.labels.get("reason") != "scheduled":
            return one
        return one.with_samples(one.t, np.floor((one.t - quiet.start + 100) / (DAY / 8.0)))

    found = judged(changed(quiet, often, "binance_connection_rotations_total"), "rotations")
    assert (found.verdict, found.value) == (FAIL, 8.0)


def test_a_silent_symbol_does_not_pass(quiet: Day) -> None:
    known = dataclasses.replace(evidence(), expected=Expected(symbols={"BTCUSDT": 900_000, "ETHUSDT": 500_000}))
    day = dataclasses.replace(
        quiet, symbols={"BTCUSDT": {"received": 880_000, "committed": 1}, "ETHUSDT": {"received": 0, "committed": 0}}
    )
    assert judged(day, "symbols", known).verdict is INCONCLUSIVE
    gone = dataclasses.replace(day, symbols={"BTCUSDT": day.symbols["BTCUSDT"]})
    assert judged(gone, "symbols", known).verdict is INCONCLUSIVE
    both = dataclasses.replace(
        day,
        symbols={name: {"received": 450_000, "committed": 450_000, "silent": 60} for name in ("BTCUSDT", "ETHUSDT")},
    )
    assert judged(both, "symbols", known).verdict is PASS


@pytest.mark.parametrize(("others", "right"), [(500_000, INCONCLUSIVE), (240_000, PASS)])
def test_a_symbol_that_loses_its_messages_evenly_is_in_doubt(quiet: Day, others: int, right: Verdict) -> None:
    """3 % of its best day are left: while the others have all of theirs, and on a day that is quieter for all."""
    names = ("A", "B", "C")
    known = dataclasses.replace(evidence(), expected=Expected(symbols=dict.fromkeys(names, 500_000)))
    rows = {name: {"received": others, "committed": others, "silent": 60} for name in names}
    rows["A"] = {"received": 15_000, "committed": 15_000, "silent": 60}
    assert judged(dataclasses.replace(quiet, symbols=rows), "symbols", known).verdict is right


def test_the_week_knows_a_symbol_from_its_better_days() -> None:
    world = calm(step=STEP)
    days = {one: day_of(world, at) for one, at in zip(dates(1, 3), range(1, 4), strict=True)}
    first, *rest = days
    counts = {"A": {"received": 1000, "committed": 1000, "silent": 60}}
    days[first] = dataclasses.replace(days[first], symbols=counts)
    for one in rest:
        days[one] = dataclasses.replace(days[one], symbols={"A": {"received": 0, "committed": 0}})
    week = Week.judge(Input(dates(1, 3), days, {}, evidence()), Limits())
    assert week.verdict is INCONCLUSIVE
    assert "A 0 messages, 1,000 on another day" in week.reasons[0]


def test_one_of_two_shards_stops_for_six_hours(sharded: Day) -> None:
    assert {check: one.verdict for check, one in judge_day(sharded, Limits(), evidence()).items()
            if one.verdict is not PASS} == {}  # fmt: skip

    def stalled(one: Raw) -> Raw:
        inside = (one.t >= sharded.start + NOON) & (one.t < sharded.start + 18 * HOUR)
        if one.instance != "s1:9095" or not inside.any():
            return one
        v = one.v.copy()
        if one.name == "ingest_last_commit_timestamp_seconds":
            v[inside] = sharded.start + NOON
        if one.name == "ingest_messages_received_total":
            v[inside] = v[inside][0]
        return one.with_samples(one.t, v)

    day = changed(sharded, stalled)
    assert judged(day, "freshness").verdict is FAIL
    assert judged(day, "rate.worst").verdict is FAIL


def test_a_shard_that_is_gone_all_day_is_missed(sharded: Day) -> None:
    one_only = changed(sharded, lambda one: one if one.instance == "s0:9095" else None)
    known = dataclasses.replace(evidence(), expected=Expected.of([sharded]))
    for check in ("freshness", "rate.mean", "rate.worst"):
        assert judged(one_only, check, known).verdict is not PASS, check
    named = Expected.of([one_only], ["0", "1"])
    assert judged(one_only, "freshness", dataclasses.replace(evidence(), expected=named)).verdict is not PASS


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("binance_connection_age_seconds", "connection.age"),
        ("binance_last_pong_timestamp_seconds", "pong.age"),
        ("binance_connection_status", "pong.age"),
    ],
)
def test_one_of_two_connections_that_exports_nothing_is_missed(quiet: Day, name: str, check: str) -> None:
    day = changed(quiet, lambda one: None if one.labels.get("connection") == "g0.0a" else one, name)
    assert judged(day, check).verdict is INCONCLUSIVE


def replicas(day: Day, name: str = "") -> Day:
    copies = tuple(
        Raw({**one.labels, "replica": "b"}, one.t + 0.5, one.v) for one in day.series if name in ("", one.name)
    )
    return dataclasses.replace(day, series=(*day.series, *copies))


def test_replicas_are_not_added_up(quiet: Day) -> None:
    slow = changed(
        quiet, lambda one: one.with_samples(one.t, np.floor(one.v * 7 / 40)), "ingest_messages_received_total"
    )
    for check in ("rate.mean", "rate.worst"):
        assert judged(replicas(slow), check).verdict is FAIL
    found = judge_day(replicas(quiet), Limits(), evidence())
    assert found["rate.mean"].verdict is INCONCLUSIVE
    assert "doubled by replica" in found["rate.mean"].reason


def test_no_rule_for_memory_is_no_pass(quiet: Day) -> None:
    for absent in ("BinanceMemoryHigh", "IngestDataLoss"):
        rules = tuple(rule for rule in quiet.rules if rule["name"] != absent)
        assert judged(dataclasses.replace(quiet, rules=rules), "alerts").verdict is INCONCLUSIVE


def week_with(leak: Callable[[np.ndarray], np.ndarray]) -> Week:
    """Seven days; ``leak`` gives MB at so many days since the first midnight."""
    world = calm(step=STEP)
    days = {}
    for at, when in enumerate(dates(0, 6)):
        day = day_of(world, at)

        def grown(one: Raw, origin: float = day.start - at * DAY) -> Raw:
            return one.with_samples(one.t, one.v + MB * leak((one.t - origin) / DAY))

        days[when] = changed(day, grown, "process_resident_memory_bytes")
    return Week.judge(Input(dates(0, 6), days, {}, evidence()), Limits())


@pytest.mark.parametrize(
    ("leak", "right"),
    [
        (lambda x: 0 * x, PASS),
        (lambda x: 4 * x, PASS),
        (lambda x: 45 * np.maximum(0, x - 5), FAIL),
        (lambda x: 92 * np.clip((x - 6.8) * 10, 0, 1), FAIL),
        (lambda x: 10 * x, FAIL),
    ],
    ids=["none", "4 MB a day", "45 MB a day from day 6", "+92 MB on the last evening", "10 MB a day"],
)
def test_a_leak_of_the_week(leak: Callable[[np.ndarray], np.ndarray], right: Verdict) -> None:
    assert week_with(leak).verdict is right


def dies(day_length: float = DAY + NOON, *, returns: bool = False) -> EightDays:
    """The writer ends at noon of day 1; a standby at another address takes over."""
    end = 9 * DAY
    first = Process("blue:9095", "blue", -10 * HOUR, day_length, "v1", writes=[(-10 * HOUR + 2, day_length)])
    second = Process("green:9095", "green", -10 * HOUR, end, "v1", writes=[(day_length + 1, end)])
    back = [Process("blue:9095", "blue", day_length + 30, end, "v1")] if returns else []
    return EightDays([first, second, *back], step=STEP)


def deployed(at: float, *actions: Action) -> Evidence:
    """A deployment around a time whose trail has these actions."""
    return dataclasses.replace(
        evidence(), deployments=(Deployment("d", at - 3600, at + 3600, "v2", "PASS", actions=actions),)
    )


def test_a_writer_that_does_not_return_is_missed() -> None:
    found = judged(day_of(dies(), 1), "restarts")
    assert (found.verdict, found.value) == (FAIL, 1)
    assert "did not return: blue" in found.reason
    assert judged(day_of(dies(returns=True), 1), "restarts").value == 1


def test_a_writer_that_ends_within_a_deployment_is_explained() -> None:
    at = day_of(dies(), 1).start + NOON
    stopped = Action("blue", "stop", at - 5, at)
    assert judged(day_of(dies(), 1), "restarts", deployed(at, stopped)).verdict is PASS
    for other in (Action("green", "stop", at - 5, at), Action("blue", "start", at - 5, at)):
        assert judged(day_of(dies(), 1), "restarts", deployed(at, other)).verdict is FAIL, "not this slot, not its end"


def test_an_end_just_before_midnight_belongs_to_the_day_in_which_it_shows() -> None:
    world = dies(2 * DAY - 100)
    assert judged(day_of(world, 1), "restarts").verdict is PASS
    assert judged(day_of(world, 2), "restarts").verdict is FAIL
    assert judged(day_of(world, 3), "restarts").verdict is PASS


def test_versions_that_change_all_day_without_a_report_are_no_plan() -> None:
    lives, begin = [], -10 * HOUR
    for at in range(7):
        end = 9 * DAY if at == 6 else DAY + (at + 1) * 3 * HOUR
        lives.append(Process("blue:9095", "blue", begin, end, f"v{at}", writes=[(begin + 2, end)]))
        begin = end + 10
    found = judged(day_of(EightDays(lives, step=STEP), 1), "restarts")
    assert (found.verdict, found.value) == (FAIL, 5)


def test_a_label_added_at_noon_changes_nothing(quiet: Day) -> None:
    rows: list[Raw] = []
    for one in quiet.series:
        early = one.t < quiet.start + NOON
        rows.append(one.with_samples(one.t[early], one.v[early]))
        rows.append(Raw({**one.labels, "datacentre": "x"}, one.t[~early], one.v[~early]))
    after = judge_day(dataclasses.replace(quiet, series=tuple(rows)), Limits(), evidence())
    assert {check: one.verdict for check, one in after.items() if one.verdict is not PASS} == {}


def test_an_unscraped_writer_beside_a_scraped_standby_is_not_known() -> None:
    day = day_of(dies(5 * DAY), 1)
    hidden = changed(day, lambda one: between(one, day, NOON, NOON + 600) if one.instance == "blue:9095" else one)
    assert judged(hidden, "rate.mean").verdict is PASS
    assert judged(hidden, "rate.worst").verdict is INCONCLUSIVE


def test_up_0_all_day_is_known_to_be_stale(quiet: Day) -> None:
    down = changed(quiet, lambda one: one.with_samples(one.t, 0 * one.v) if one.name == "up" else None)
    assert judged(down, "freshness").verdict is FAIL


def test_a_hang_that_the_counter_proves_fails(quiet: Day) -> None:
    """Unscraped for ten minutes, and hardly a message more after it."""

    def hung(one: Raw) -> Raw:
        kept = between(one, quiet, NOON, NOON + 600)
        if one.name != "ingest_messages_received_total":
            return kept
        late = kept.t >= quiet.start + NOON
        v = kept.v.copy()
        first = int(np.flatnonzero(late)[0])
        v[late] -= v[first] - v[first - 1] - 50
        return kept.with_samples(kept.t, v)

    assert judged(changed(quiet, hung), "rate.worst").verdict is FAIL


def test_a_silence_over_midnight_is_one() -> None:
    """Six minutes, three on either side: neither day has five of them."""
    world = calm(step=30.0)
    world.processes[0].quiet = [(2 * DAY - 180, 2 * DAY + 180)]
    assert judged(day_of(world, 2), "rate.worst").verdict is FAIL


def test_halves_of_a_pair_of_prometheus_do_not_add_up(quiet: Day) -> None:
    """Each evaluated every second time; a whole one beside a half one is enough."""

    def server(one: Raw, name: str, part: int) -> Raw:
        v = one.v
        if one.name == "prometheus_rule_group_iterations_total":
            v = np.floor(v / part)
        if one.name == "prometheus_rule_group_last_evaluation_timestamp_seconds":
            v = np.floor(v / (15 * part)) * 15 * part
        return Raw({**one.labels, "instance": name}, one.t, v)

    def pair(*parts: int) -> Day:
        about = tuple(server(one, f"p{at}", part) for at, part in enumerate(parts) for one in quiet.about)
        return dataclasses.replace(quiet, about=about)

    assert judged(pair(1), "alerts").verdict is PASS
    assert judged(pair(2), "alerts").verdict is INCONCLUSIVE
    assert judged(pair(2, 2), "alerts").verdict is INCONCLUSIVE
    assert judged(pair(2, 1), "alerts").verdict is PASS


@pytest.mark.parametrize("at", [DAY + NOON, 2 * DAY], ids=["at noon", "at midnight"])
@pytest.mark.parametrize("same", [True, False], ids=["restart", "hand-over"])
def test_a_silence_over_a_restart_or_a_hand_over_is_one(at: float, same: bool) -> None:
    """Seven minutes: half of them before the boundary, half behind it; a deployment's report does not excuse it."""
    second = "blue:9095" if same else "green:9095"
    lives = [
        Process("blue:9095", "blue", -10 * HOUR, at, "v1", writes=[(-10 * HOUR + 2, at)]),
        Process(second, second[:5].rstrip(":"), at + 1, 9 * DAY, "v2", writes=[(at + 1, 9 * DAY)]),
    ]
    lives[0].quiet, lives[1].quiet = [(at - 210, at)], [(at + 1, at + 210)]
    day = day_of(EightDays(lives, step=30.0), int(at // DAY))
    begin = day.start + at % DAY
    known = dataclasses.replace(evidence(), deployments=(Deployment("d", begin - 60, begin + 900, "v2", "PASS"),))
    assert judged(day, "rate.worst", known).verdict is FAIL
    lives[0].quiet, lives[1].quiet = [], []
    sound = day_of(EightDays(lives, step=30.0), int(at // DAY))
    assert judged(sound, "rate.worst", known).verdict is PASS
