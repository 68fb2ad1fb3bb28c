"""Candles of REST and of the streams agree with each other and with the trades."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator.klines import DAY_US, INTERVALS, MINUTE_US, SECOND_US, Candles, bounds, zone_us
from ingest.simulator.ledger import SymbolLedger, decimal
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until
from tests.unit.ingest.simulator.test_derived import rest

START_US = 1_767_225_600_000_000  # 2026-01-01, a Thursday


def naive(rows: list[tuple[int, int, int, int, bool]], opened: int, closed: int) -> list[Any]:
    inside = [row for row in rows if opened <= row[3] <= closed]
    before = [row for row in rows if row[3] < opened]
    prices = [row[1] for row in inside] or [(before[-1] if before else rows[0])[1]]
    taker = [row for row in inside if not row[4]]
    return [
        opened, decimal(prices[0]), decimal(max(prices)), decimal(min(prices)), decimal(prices[-1]),
        decimal(sum(row[2] for row in inside)), closed, decimal(sum(row[1] * row[2] for row in inside) // 10**8),
        len(inside), decimal(sum(row[2] for row in taker)),
        decimal(sum(row[1] * row[2] for row in taker) // 10**8), "0",
    ]  # fmt: skip


trades = st.lists(
    st.tuples(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 200 * SECOND_US), st.booleans()),
    min_size=1,
    max_size=40,
)


@given(trades, st.sampled_from(["1s", "1m", "3m", "5m"]), st.integers(1, 300))
def test_candles_are_what_the_trades_say(made: list[Any], interval: str, limit: int) -> None:
    ledger = SymbolLedger("BTCUSDT", "BTC", "USDT", 7)
    time_us = START_US
    for price, quantity, pause, maker in made:
        time_us += pause
        ledger.append(price, quantity, time_us, maker)
    rows = ledger.newest(1000)
    now = time_us + 3 * MINUTE_US
    candles = Candles(ledger)
    found = candles.page(interval, limit, now)
    assert [json.loads(one.row(1)) for one in found] == [naive(rows, one.open_us, one.close_us) for one in found]
    assert all(after.open_us == before.close_us + 1 for before, after in pairwise(found))
    assert found[-1].open_us <= now <= found[-1].close_us
    oldest = candles.page(interval, limit, now, start=START_US)
    assert [json.loads(one.row(1)) for one in oldest] == [naive(rows, one.open_us, one.close_us) for one in oldest]
    assert [one.first_id for one in found if one.count][:1] == [
        next((row[0] for row in rows if row[3] >= found[0].open_us), None)
    ] * any(one.count for one in found)


@pytest.mark.parametrize("interval", INTERVALS)
@given(st.integers(0, 4 * 10**15), st.integers(-12 * 60, 14 * 60))
def test_intervals_join_without_a_hole(interval: str, time_us: int, zone_minutes: int) -> None:
    zone = zone_minutes * MINUTE_US
    opened, closed = bounds(time_us, interval, zone)
    assert opened <= time_us <= closed
    assert bounds(closed + 1, interval, zone)[0] == closed + 1
    assert bounds(opened, interval, zone) == bounds(closed, interval, zone) == (opened, closed)


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert bounds(START_US, "1w") == (START_US - 3 * DAY_US, START_US + 4 * DAY_US - 1)
    assert bounds(START_US, "1M") == (START_US, START_US + 31 * DAY_US - 1)
    assert bounds(START_US, "1d", zone_us("8") or 0)[0] == START_US - 8 * 3600 * SECOND_US


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("0", 0), ("8", 480), ("-1:00", -60), ("+05:45", 345), ("15", None), ("x", None), ("1:99", None)],
)
def test_time_zones(text: str, minutes: int | None) -> None:
    assert zone_us(text) == (None if minutes is None else minutes * MINUTE_US)


async def test_rest_and_stream_agree(simulator: Start) -> None:
    async with (
        simulator(rate=2000, symbols="BTCUSDT") as exchange,
        connected(exchange, "/stream?streams=btcusdt@kline_1s/btcusdt@kline_1m@+08:00") as connection,
    ):
        trade(exchange)
        exchange.driver.start()
        closed: list[dict[str, Any]] = []
        while len(closed) < 2:
            closed += [event["data"]["k"] for event in await receive(connection) if event["data"]["k"]["x"]]
        exchange.driver.stop()
        for kline in closed:
            assert kline["i"] == "1s"
            (row,) = rest(exchange, "klines", f"symbol=BTCUSDT&interval=1s&startTime={kline['t']}&limit=1")
            assert row == [kline[key] for key in "tohlcvTqnVQB"]
            assert kline["L"] - kline["f"] + 1 == kline["n"] > 0


REFUSED = {
    "symbol=BTCUSDT&interval=2m": -1120,
    "symbol=BTCUSDT": -1102,
    "interval=1m": -1102,
    "symbol=NOPE&interval=1m": -1121,
    "symbol=BTCUSDT&interval=1m&timeZone=99": -1130,
    "symbol=BTCUSDT&interval=1m&limit=0": -1130,
}


@pytest.mark.parametrize("query", REFUSED)
async def test_refusals(simulator: Start, query: str) -> None:
    async with simulator() as exchange:
        answer = exchange.exchange.rest.handle("GET", "/api/v3/klines", query, {}, "::1")
        assert answer is not None
        assert (answer.status, json.loads(answer.body)["code"]) == (400, REFUSED[query])


async def test_without_a_trade_there_is_no_candle_and_weights_are_two(simulator: Start) -> None:
    async with simulator() as exchange:
        answer = exchange.exchange.rest.handle("GET", "/api/v3/uiKlines", "symbol=BTCUSDT&interval=1M", {}, "::1")
        assert answer is not None
        assert json.loads(answer.body) == []
        assert dict(answer.headers)["x-mbx-used-weight-1m"] == "2"
        trade(exchange)
        await until(lambda: len(rest(exchange, "klines", "symbol=BTCUSDT&interval=1M")) == 1)
