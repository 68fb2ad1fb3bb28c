"""Counts of symbols: each message once, whoever else receives or scrapes it; nothing that is lost makes it better."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.day import Day, Raw
from ingest_ops.validation.expected import Expected
from ingest_ops.validation.symbol_counts import symbol_rows
from ingest_ops.validation.week import Input, Week, judge_day
from tests.harness.production_week import DAY, HOUR, calm
from tests.unit.ingest_ops.validation.days import dates, day_of, evidence

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
START = 1_768_435_200.0
T = np.arange(START - 3600.0, START + DAY, 60.0)
BLUE, GREEN = "blue:9095", "green:9095"


def raw(name: str, values: np.ndarray, instance: str = BLUE, **labels: str) -> Raw:
    return Raw({"__name__": name, "instance": instance, **labels}, T, np.asarray(values, dtype=np.float64))


def process(instance: str, active: np.ndarray | float) -> list[Raw]:
    slot = instance.split(":")[0].removesuffix(".k2")
    return [
        raw("process_start_time_seconds", np.full(len(T), START - 9e4), instance, slot=slot),
        raw("ingest_writer_active", np.zeros(len(T)) + active, instance),
    ]


def counter(instance: str = BLUE, rate: float = 1.0, until: float = DAY, **labels: str) -> Raw:
    """Messages at a rate, until so many seconds of the day."""
    seconds = np.minimum(T - START, until)
    return raw("binance_messages_received_total", np.floor((seconds + 3600.0) * rate), instance, symbol="A", **labels)


def rows(series: list[Raw], *received: Raw) -> dict[str, int]:
    return symbol_rows(series, received, [], START, START + DAY)["A"]


WHOLE = round(DAY)
"""One message a second, from the last sample before midnight on."""


def test_a_warm_standby_is_not_added_up() -> None:
    series = [*process(BLUE, 1.0), *process(GREEN, 0.0)]
    found = rows(series, counter(BLUE, 0.5), counter(GREEN))
    assert found["received"] == WHOLE // 2, "what the writer lacks is lacking, whatever the standby received"


def test_a_hand_over_in_the_day_counts_each_part_once() -> None:
    noon = (T >= START + 12 * HOUR).astype(np.float64)
    series = [*process(BLUE, 1.0 - noon), *process(GREEN, noon)]
    found = rows(series, counter(BLUE), counter(GREEN))
    assert found["received"] == WHOLE
    assert found["silent"] == 0


def test_a_replica_of_prometheus_is_not_added_up_and_is_said() -> None:
    found = rows(process(BLUE, 1.0), counter(), counter(replica="b"))
    assert found["received"] == WHOLE
    assert found["doubled"] == 1


def test_a_process_that_is_scraped_at_two_addresses_is_not_added_up_and_is_said() -> None:
    other = "blue.k2:9095"
    found = rows([*process(BLUE, 1.0), *process(other, 1.0)], counter(BLUE, 0.5), counter(other, 0.5))
    assert found["received"] == WHOLE // 2
    assert found["doubled"] == 1


def test_a_silence_lasts_from_a_message_to_the_last_sample_without_one() -> None:
    assert rows(process(BLUE, 1.0), counter(until=6 * HOUR))["silent"] == 18 * HOUR - 60
    whole = counter()
    keep = (T < START + 6 * HOUR) | (T >= START + 8 * HOUR)
    assert rows(process(BLUE, 1.0), whole.with_samples(T[keep], whole.v[keep]))["silent"] == 0, "a gap proves nothing"
    half = T < START + 12 * HOUR
    assert rows(process(BLUE, 1.0), whole.with_samples(T[half], whole.v[half]))["silent"] == 12 * HOUR


def stands_still(begin: float, end: float) -> Raw:
    """A message a second but between these seconds of the day."""
    seconds = T - START
    return raw(
        "binance_messages_received_total", seconds + 7200.0 - np.clip(seconds - begin, 0.0, end - begin), symbol="A"
    )


@pytest.mark.parametrize(("begin", "end", "silent"), [
    (-3540.0, 3540.0, 7080), (-3600.0, 3540.0, 7140), (-3540.0, -60.0, 0), (-1800.0, 60.0, 1860),
    (3600.0, 7200.0, 3600),
])  # fmt: skip
def test_a_silence_goes_on_over_midnight(begin: float, end: float, silent: int) -> None:
    found = rows(process(BLUE, 1.0), stands_still(begin, end))
    assert found["silent"] == silent
    assert found["received"] == WHOLE - max(0, min(end, DAY) - max(begin, -60.0))


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=60.0), 1)


def verdict(day: Day, row: dict[str, int] | None, known: Expected) -> Verdict:
    given = dataclasses.replace(day, symbols={} if row is None else {"A": row})
    return judge_day(given, Limits(), dataclasses.replace(evidence(), expected=known), only=("symbols",))[
        "symbols"
    ].verdict


GOOD = {"received": 90_000, "committed": 90_000, "exchange": 90_000, "silent": 40}
BAD: dict[str, dict[str, int]] = {
    "3 % of the exchange's count": {"received": 2_700, "committed": 2_700},
    "1 % of the exchange's count": {"received": 900, "committed": 900},
    "12 hours of silence": {"silent": 43_200},
    "12 hours of silence, filled in": {"received": 45_000, "silent": 43_200},
    "never a message": {"received": 0, "committed": 0, "silent": 86_400},
    "doubled": {"doubled": 1},
}
KNOWN = Expected(symbols={"A": 90_000}, exchange=True)
Change = Callable[[dict[str, int]], dict[str, int] | None]


def without(key: str) -> Change:
    return lambda row: {name: value for name, value in row.items() if name != key}


def halved(key: str) -> Change:
    return lambda row: {**row, key: row[key] // 2}


LOSSES: dict[str, Change] = {"the row": lambda _row: None}
LOSSES |= {f"{key} removed": without(key) for key in ("received", "committed", "exchange", "silent")}
HALVED: dict[str, Change] = {f"{key} halved": halved(key) for key in ("received", "committed")}


def test_a_good_symbol_passes(quiet: Day) -> None:
    assert verdict(quiet, GOOD, KNOWN) is PASS
    assert verdict(quiet, {**GOOD, "received": 200, "committed": 200, "exchange": 200, "silent": 30_000}, KNOWN) is PASS


@pytest.mark.parametrize("loss", LOSSES)
def test_no_symbol_passes_without_an_input(quiet: Day, loss: str) -> None:
    assert verdict(quiet, LOSSES[loss](GOOD), KNOWN) is not PASS


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("loss", [*LOSSES, *HALVED])
def test_nothing_that_is_lost_makes_a_symbol_better(quiet: Day, bad: str, loss: str) -> None:
    row = {**GOOD, **BAD[bad]}
    before = verdict(quiet, row, KNOWN)
    assert before is not PASS
    after = verdict(quiet, (LOSSES | HALVED)[loss](row), KNOWN)
    assert after is not PASS


def test_a_symbol_of_the_settings_that_was_never_exported_is_missed(quiet: Day) -> None:
    day = dataclasses.replace(quiet, symbols={"A": GOOD})
    when = dates(1, 1)
    for names, right in (((), PASS), (("A", "B"), INCONCLUSIVE)):
        week = Week.judge(Input(when, {when[0]: day}, {}, evidence()), dataclasses.replace(Limits(), symbols=names))
        assert week.findings[when[0]]["symbols"].verdict is right


def test_the_exchange_s_count_is_due_where_the_settings_or_another_day_have_it(quiet: Day) -> None:
    without = {key: value for key, value in GOOD.items() if key != "exchange"}
    when = dates(1, 2)
    days = {one: dataclasses.replace(quiet, date=one, symbols={"A": without}) for one in when}
    judged = Week.judge(Input(when, days, {}, evidence()), Limits())
    assert {one["symbols"].verdict for one in judged.findings.values()} == {PASS}
    asked = Week.judge(Input(when, days, {}, evidence(), exchange=True), Limits())
    assert {one["symbols"].verdict for one in asked.findings.values()} == {INCONCLUSIVE}
    days[when[0]] = dataclasses.replace(days[when[0]], symbols={"A": GOOD})
    other = Week.judge(Input(when, days, {}, evidence()), Limits())
    assert [other.findings[one]["symbols"].verdict for one in when] == [PASS, INCONCLUSIVE]
