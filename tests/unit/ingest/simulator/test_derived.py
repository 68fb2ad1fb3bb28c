"""The other streams agree with trades and REST: aggregates fold them without a hole, depth rebuilds the book."""

import json
from itertools import pairwise
from typing import Any

from ingest.simulator.app import Simulator
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until


def rest(exchange: Simulator, path: str, query: str) -> Any:
    answer = exchange.exchange.rest.handle("GET", f"/api/v3/{path}", query, {}, "::1")
    assert answer is not None
    return json.loads(answer.body)


async def test_aggregates_cover_every_trade_once(simulator: Start) -> None:
    async with (
        simulator(rate=5000, symbols="BTCUSDT") as exchange,
        connected(exchange, "/ws/btcusdt@aggTrade") as connection,
    ):
        exchange.driver.start()
        book = exchange.ledger.symbols["BTCUSDT"]
        await until(lambda: book.sent_trades > 1000)
        exchange.driver.stop()
        events: list[dict[str, Any]] = []
        while not events or events[-1]["l"] < book.last_id:
            events += await receive(connection)
        assert "".join(events[0]) == "eEsapqflTmM"
        for before, after in pairwise(events):
            assert (after["a"], after["f"]) == (before["a"] + 1, before["l"] + 1)
        assert events[0]["f"] == book.first_id
        listed = rest(exchange, "aggTrades", f"symbol=BTCUSDT&fromId={events[0]['a']}&limit=1000")
        told = [{key: event[key] for key in "apqflTmM"} for event in events]
        assert told[: len(listed)] == listed


async def test_depth_rebuilds_the_book_and_the_best_prices_follow(simulator: Start) -> None:
    async with (
        simulator(rate=2000, symbols="BTCUSDT") as exchange,
        connected(exchange, "/ws/btcusdt@depth@100ms") as diffs,
        connected(exchange, "/stream?streams=btcusdt@bookTicker/btcusdt@depth5@100ms") as tops,
    ):
        trade(exchange)
        exchange.driver.start()
        events = await receive(diffs, 2)
        snapshot = rest(exchange, "depth", "symbol=BTCUSDT&limit=5000")
        sides = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
        update_id = snapshot["lastUpdateId"]
        events += await receive(diffs, 5)
        assert "".join(events[0]) == "eEsUuba"
        for before, after in pairwise(events):
            assert after["U"] == before["u"] + 1
        for event in events:
            if event["u"] <= update_id:
                continue
            assert event["U"] <= update_id + 1
            update_id = event["u"]
            for side, levels in sides.items():
                for price, quantity in event[side]:
                    if float(quantity):
                        levels[price] = quantity
                    else:
                        levels.pop(price, None)
        assert max(map(float, sides["b"])) < min(map(float, sides["a"]))
        kinds = {"btcusdt@bookTicker": "usbBaA", "btcusdt@depth5@100ms": ["lastUpdateId", "bids", "asks"]}
        seen: set[str] = set()
        while len(seen) < 2:
            (message,) = await receive(tops)
            seen.add(message["stream"])
            assert list(message["data"]) == list(kinds[message["stream"]])


async def test_tickers_and_averages(simulator: Start) -> None:
    async with (
        simulator() as exchange,
        connected(exchange, "/ws/btcusdt@ticker") as full,
        connected(exchange, "/ws/btcusdt@miniTicker?timeUnit=MICROSECOND") as mini,
        connected(exchange, "/ws/btcusdt@avgPrice") as average,
    ):
        ids = trade(exchange, count=3)
        (ticker,) = await receive(full)
        assert "".join(ticker) == "eEspPwxcQbBaAohlvqOCFLn"
        assert (ticker["F"], ticker["L"], ticker["n"]) == (ids[0], ids[-1], 3)
        (small,) = await receive(mini)
        assert "".join(small) == "eEscohlvq"
        assert small["E"] > 10**15
        (mean,) = await receive(average)
        assert "".join(mean) == "eEsiwT"


async def test_streams_that_nobody_makes_are_silent(simulator: Start) -> None:
    path = "/stream?streams=BTCUSDT@aggTrade/nosuch@aggTrade/btcusdt@kline_1m/!miniTicker@arr/btcusdt@trade"
    async with simulator() as exchange, connected(exchange, path) as connection:
        ids = trade(exchange, count=2)
        assert [message["data"]["t"] for message in await receive(connection, 2)] == ids
        await until(lambda: exchange.streams.others)
    assert not exchange.streams.others
