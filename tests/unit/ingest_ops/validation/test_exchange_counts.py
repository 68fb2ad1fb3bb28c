"""The exchange's own count of each symbol's trades: read from a real simulator, kept with the day, judged by symbol."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from ingest_ops.common.report_settings import Limits, ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation import day_store
from ingest_ops.validation.day import Day
from ingest_ops.validation.exchange_counts import with_exchange_counts
from ingest_ops.validation.week import judge_day
from tests.harness.production_week import calm
from tests.unit.ingest.simulator.conftest import running, trade
from tests.unit.ingest_ops.validation.days import day_of, evidence

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=60.0), 1)


def counted(day: Day, **rows: tuple[int, int, int | None]) -> Day:
    """Received, committed and the exchange's count, by symbol."""
    return dataclasses.replace(
        day,
        symbols={
            name: {"received": received, "committed": committed, "silent": 60}
            | ({} if exchange is None else {"exchange": exchange})
            for name, (received, committed, exchange) in rows.items()
        },
    )


async def test_the_counts_are_those_of_the_exchange(quiet: Day) -> None:
    day = counted(quiet, BTCUSDT=(1, 1, None), ETHUSDT=(1, 1, None), GONE=(1, 1, None))
    async with running() as simulator:
        trade(simulator, "BTCUSDT", 7)
        after = await asyncio.to_thread(with_exchange_counts, day, str(simulator.ready["rest_url"]), day.end + 1200.0)
    assert after.symbols == {
        "BTCUSDT": {"received": 1, "committed": 1, "silent": 60, "exchange": 7},
        "ETHUSDT": {"received": 1, "committed": 1, "silent": 60, "exchange": 0},
        "GONE": {"received": 1, "committed": 1, "silent": 60},
    }


@pytest.mark.parametrize("after", [-1.0, 3601.0, 86_400.0])
def test_the_statistics_speak_for_a_day_that_has_just_ended_alone(quiet: Day, after: float) -> None:
    assert with_exchange_counts(quiet, NOWHERE, quiet.end + after) is quiet


def test_an_exchange_that_does_not_answer_changes_nothing(quiet: Day, caplog: pytest.LogCaptureFixture) -> None:
    assert with_exchange_counts(quiet, NOWHERE, quiet.end + 60.0) is quiet
    assert "no counts of trades from the exchange" in caplog.text


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ((0, 0, 50_000), FAIL),
        ((900, 900, 50_000), FAIL),
        ((20_000, 20_000, 50_000), INCONCLUSIVE),
        ((50_100, 50_000, 50_000), PASS),
        ((0, 50_000, 50_000), PASS),  # filled in from history
        ((0, 0, 0), PASS),  # halted at the exchange
        ((0, 0, 60), PASS),
        ((0, 0, None), INCONCLUSIVE),
    ],
)
def test_a_symbol_is_judged_by_the_exchange_s_count(
    quiet: Day, row: tuple[int, int, int | None], right: Verdict
) -> None:
    day = counted(quiet, BTCUSDT=(900_000, 900_000, 900_000), ETHUSDT=row)
    found = judge_day(day, Limits(), evidence(), only=("symbols",))["symbols"]
    assert found.verdict is right, found
    assert right is PASS or "ETHUSDT" in found.reason


def test_counts_that_were_kept_survive_a_later_reading(quiet: Day, tmp_path: Path) -> None:
    day_store.save(tmp_path, counted(quiet, BTCUSDT=(1, 1, 7)))
    day_store.save(tmp_path, counted(quiet, BTCUSDT=(2, 2, None), ETHUSDT=(3, 3, None)))
    kept = day_store.load(tmp_path, quiet.date)
    assert kept is not None
    assert kept.symbols["BTCUSDT"] == {"received": 2, "committed": 2, "silent": 60, "exchange": 7}
    assert kept.symbols["ETHUSDT"] == {"received": 3, "committed": 3, "silent": 60}


def test_the_address_is_checked() -> None:
    assert ReportSettings.load({}).exchange_url == ""
    good = "https://api.binance.com"
    assert ReportSettings.load({"K2_REPORT_EXCHANGE_URL": good}).exchange_url == good
    with pytest.raises(Exception, match="K2_REPORT_EXCHANGE_URL"):
        ReportSettings.load({"K2_REPORT_EXCHANGE_URL": "api.binance.com"})
