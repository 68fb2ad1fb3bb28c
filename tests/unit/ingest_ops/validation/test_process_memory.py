"""Each process, not any: young ones, a chain of them, one that begins at noon, one whose address changes."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.week import Input, Week
from tests.harness.production_week import DAY, HOUR, EightDays, Process, calm
from tests.unit.ingest_ops.validation.days import dates, day_of, evidence

STEP = 60.0
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
BEGIN, END = -10 * HOUR, 9 * DAY


def week(lives: Sequence[Process] | EightDays, first: int = 2, edit: Callable[[Day, int], Day] | None = None) -> Week:
    """The days from ``first`` on to the seventh, judged."""
    world = lives if isinstance(lives, EightDays) else EightDays([*lives], step=STEP)
    days = {}
    for at, when in zip(range(first, 7), dates(first, 6), strict=True):
        day = day_of(world, at)
        days[when] = day if edit is None else edit(day, at)
    return Week.judge(Input(dates(first, 6), days, {}, evidence()), Limits())


def growth(judged: Week) -> list[Verdict]:
    """The verdict on each day's growth."""
    return [found["memory.trend"].verdict for found in judged.findings.values()]


def writer(begin: float, end: float, version: str, leak: float = 0.0) -> Process:
    """``leak``: MB a day."""
    return Process("blue:9095", "blue", begin, end, version, writes=[(begin + 2, end)], leak=leak)


STANDBY = Process("green:9095", "green", BEGIN, END, "v1")


@pytest.mark.parametrize("hour", [17.5, 20, 22])
def test_a_process_that_began_in_the_last_evening_is_not_passed_for_by_another(hour: float) -> None:
    """200 MB until midnight, beside a standby that is sound."""
    at = 6 * DAY + hour * HOUR
    lives = [writer(BEGIN, at, "v1"), writer(at + 2, END, "v2", leak=200 * 24 / (24 - hour)), STANDBY]
    assert growth(week(lives, 5))[-1] is not PASS
    sound = [writer(BEGIN, at, "v1"), writer(at + 2, END, "v2"), STANDBY]
    assert growth(week(sound, 5)) == [PASS, PASS]


@pytest.mark.parametrize(("every", "leak"), [(6, 300), (4, 300), (0.9, 0)])
def test_a_chain_of_short_lives_is_not_passed_for_by_a_standby(every: float, leak: float) -> None:
    """Deployed again and again; where no life lasts an hour nothing is known of its memory."""
    begin, lives = BEGIN, [STANDBY]
    while begin < END:
        end = min(begin + every * HOUR, END)
        lives.append(writer(begin, end, f"v{len(lives)}", leak))
        begin = end + 2
    assert PASS not in growth(week(lives, 4))


@pytest.mark.parametrize("hour", [3, 9, 12, 15, 20])
def test_a_sound_deployment_passes_at_any_hour(hour: float) -> None:
    """From noon on the load falls for half a wave: the process is judged over its first 24 hours."""
    at = 4 * DAY + hour * HOUR
    lives = [
        Process("blue:9095", "blue", BEGIN, at + 90, "v1", writes=[(BEGIN + 2, at)]),
        Process("green:9095", "green", at - 600, END, "v2", writes=[(at, END)]),
    ]
    assert growth(week(lives, 3)) == [PASS] * 4


def test_a_process_whose_address_changes_is_the_same() -> None:
    """At noon of the fifth day, with the same start."""

    def renamed(day: Day, at: int) -> Day:
        if at < 4:
            return day
        noon, rows = (day.start + 12 * HOUR if at == 4 else 0.0), []
        for one in day.series:
            early = one.t < noon
            rows.append(one.with_samples(one.t[early], one.v[early]))
            rows.append(Raw({**one.labels, "instance": "other:9095"}, one.t[~early], one.v[~early]))
        return dataclasses.replace(day, series=tuple(one for one in rows if len(one.t)))

    judged = week(calm(step=STEP), edit=renamed)
    restarts = [found["restarts"] for found in judged.findings.values()]
    assert [one.verdict for one in restarts] == [PASS] * 5, restarts
    assert [round((one.end - one.start) / DAY) for one in judged.memory] == [5]


def test_two_shards_with_one_slot_name_are_two_processes() -> None:
    """They start in the same second; the one leaks, and the other does not hide it."""

    def sharded(day: Day, _: int) -> Day:
        rows = tuple(Raw({**one.labels, "shard": one.instance[0]}, one.t, one.v) for one in day.series)
        return dataclasses.replace(day, series=rows)

    lives = [
        Process(f"{name}:9095", "blue", BEGIN, END, "v1", writes=[(BEGIN + 2, END)], leak=leak, rss=rss)
        for name, leak, rss in (("a", 0.0, 150.0), ("b", 20.0, 120.0))
    ]
    judged = week(lives, edit=sharded)
    assert sorted(str(one.verdict) for one in judged.memory) == ["FAIL", "PASS"]
