"""The other streams agree with trades and REST: aggregates fold them without a hole, depth rebuilds the book."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ingest.simulator.app import Simulator
from ingest.simulator.derived_events import Feed, kind_of
from ingest.simulator.klines import bounds
from ingest.simulator.ledger import decimal
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


async def test_depth_rebuilds_the_book_that_rest_and_best_prices_show(simulator: Start) -> None:
    streams = "btcusdt@depth@100ms/btcusdt@depth/btcusdt@bookTicker/btcusdt@depth5@100ms"
    async with (
        simulator(rate=1000, symbols="BTCUSDT") as exchange,
        connected(exchange, f"/stream?streams={streams}") as connection,
    ):
        exchange.driver.start()
        await until(lambda: exchange.ledger.symbols["BTCUSDT"].sent_trades > 300)
        snapshot = rest(exchange, "depth", "symbol=BTCUSDT&limit=5000")
        await until(lambda: exchange.ledger.symbols["BTCUSDT"].sent_trades > 2500)
        exchange.driver.stop()
        last = exchange.books.of(exchange.ledger.symbols["BTCUSDT"]).update_id
        events: dict[str, list[dict[str, Any]]] = {name: [] for name in streams.split("/")}
        while any(not events[f"btcusdt@{one}"] or events[f"btcusdt@{one}"][-1]["u"] < last for one in DEPTHS):
            for message in await receive(connection):
                events[message["stream"]].append(message["data"])
    tops = {one["u"]: (one["b"], one["B"], one["a"], one["A"]) for one in events["btcusdt@bookTicker"]}
    assert sorted(tops) == list(tops)
    book: dict[str, dict[str, str]] = {}
    for name in DEPTHS:
        diffs = events[f"btcusdt@{name}"]
        assert "".join(diffs[0]) == "eEsUuba"
        assert all(after["U"] == before["u"] + 1 for before, after in pairwise(diffs))
        compared = 0
        for update_id, book in rebuilt(snapshot, diffs):
            newest = max((one for one in tops if one <= update_id), default=None)
            if newest is not None:
                assert top_of(book) == tops[newest]
                compared += 1
        assert compared >= (2 if name == "depth" else 10)
        final = rest(exchange, "depth", "symbol=BTCUSDT&limit=5000")
        assert final["lastUpdateId"] == diffs[-1]["u"]
        assert {side: dict(final[key]) for side, key in (("b", "bids"), ("a", "asks"))} == book
    assert list(events["btcusdt@depth5@100ms"][-1]) == ["lastUpdateId", "bids", "asks"]
    best = rest(exchange, "ticker/bookTicker", "symbol=BTCUSDT")
    assert (best["bidPrice"], best["bidQty"], best["askPrice"], best["askQty"]) == top_of(book) == tops[max(tops)]


DEPTHS = ("depth@100ms", "depth")


def rebuilt(snapshot: Any, diffs: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, dict[str, str]]]]:
    """The book after every event, rebuilt as the documentation says."""
    book = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
    last = snapshot["lastUpdateId"]
    assert diffs[0]["U"] <= last + 1
    for event in diffs:
        if event["u"] <= last:
            continue
        assert event["U"] <= last + 1
        last = event["u"]
        for side, levels in book.items():
            for price, quantity in event[side]:
                if float(quantity):
                    levels[price] = quantity
                else:
                    levels.pop(price, None)
        yield last, book


def top_of(book: dict[str, dict[str, str]]) -> tuple[str, str, str, str]:
    bid, ask = max(book["b"], key=float), min(book["a"], key=float)
    return bid, book["b"][bid], ask, book["a"][ask]


async def test_two_connections_get_the_same_events(simulator: Start) -> None:
    path = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@aggTrade"
    async with (
        simulator(rate=500, symbols="BTCUSDT") as exchange,
        connected(exchange, path) as one,
        connected(exchange, path) as other,
    ):
        exchange.driver.start()
        assert await receive(one, 300) == await receive(other, 300)


async def test_closed_bars_follow_one_another_and_are_what_the_trades_say(simulator: Start) -> None:
    async with (
        simulator(rate=300, symbols="BTCUSDT") as exchange,
        connected(exchange, "/ws/btcusdt@kline_1s") as connection,
    ):
        trade(exchange)
        exchange.driver.start()
        closed: list[dict[str, Any]] = []
        while len(closed) < 3:
            closed += [event["k"] for event in await receive(connection) if event["k"]["x"]]
        exchange.driver.stop()
        for before, after in pairwise(closed):
            assert after["t"] == before["T"] + 1
            assert not (before["n"] and after["n"]) or after["f"] == before["L"] + 1
        rows = exchange.ledger.symbols["BTCUSDT"].newest(10**6)
        for bar in closed:
            inside = [row for row in rows if bar["t"] <= row[3] // 1000 <= bar["T"]]
            assert (bar["n"], bar["f"], bar["L"]) == (len(inside), inside[0][0], inside[-1][0])
            assert (bar["o"], bar["c"]) == (decimal(inside[0][1]), decimal(inside[-1][1]))
            assert (bar["h"], bar["l"]) == (decimal(max(r[1] for r in inside)), decimal(min(r[1] for r in inside)))
            assert bar["v"] == decimal(sum(row[2] for row in inside))
            assert bar["V"] == decimal(sum(row[2] for row in inside if not row[4]))
        query = f"symbol=BTCUSDT&interval=1s&startTime={closed[0]['t']}&limit=3"
        listed = rest(exchange, "klines", query)
        assert [[one[0], one[4], one[5], one[8]] for one in listed] == [
            [bar["t"], bar["c"], bar["v"], bar["n"]] for bar in closed[:3]
        ]


async def test_a_bar_is_not_closed_before_all_its_trades_have_happened(simulator: Start) -> None:
    async with simulator(symbols="BTCUSDT") as exchange:
        trade(exchange)
        symbol, now = exchange.ledger.symbols["BTCUSDT"], exchange.clock.now_us()
        settled = [now - 10_000_000]
        sources = replace(exchange.derived.sources, now_us=lambda: now, settled_us=lambda: settled[0])
        kind = kind_of("kline_1s")
        assert kind is not None
        candles = exchange.exchange.rest.candles(symbol)
        feed = Feed("btcusdt@kline_1s", symbol, last=candles.candle(*bounds(now - 3_000_000, "1s")))
        assert list(kind.make(sources, feed)) == []
        settled[0] = now
        made = list(kind.make(sources, feed))
        assert [one.final for one in made] == [True, True, True, False]
        assert [one.last for one in made] == [bounds(now, "1s")[0] - back * 1_000_000 for back in (3, 2, 1, 0)]


async def test_block_trades_have_ids_of_their_own_and_rest_lists_them(simulator: Start) -> None:
    async with (
        simulator(rate=20_000, symbols="BTCUSDT") as exchange,
        connected(exchange, "/ws/btcusdt@blockTrade") as connection,
    ):
        exchange.driver.start()
        events = await receive(connection, 6)
        exchange.driver.stop()
        assert "".join(events[0]) == "eEstpqTm"
        assert [one["t"] for one in events] == list(range(events[0]["t"], events[0]["t"] + 6))
        traded = {row[3] // 1000 for row in exchange.ledger.symbols["BTCUSDT"].newest(10**6)}
        assert all(one["T"] in traded for one in events)
        listed = rest(exchange, "historicalBlockTrades", f"symbol=BTCUSDT&fromId={events[1]['t']}&limit=3")
        assert [[one["id"], one["price"], one["qty"], one["time"], one["isBuyerMaker"]] for one in listed] == [
            [one["t"], one["p"], one["q"], one["T"], one["m"]] for one in events[1:4]
        ]
        assert rest(exchange, "historicalBlockTrades", "symbol=BTCUSDT")["code"] == -1102


async def test_an_aggregate_that_was_sent_grows_no_more(simulator: Start) -> None:
    async with (
        simulator(symbols="BTCUSDT") as exchange,
        connected(exchange, "/ws/btcusdt@aggTrade") as connection,
    ):
        ledger, now_us = exchange.ledger.symbols["BTCUSDT"], exchange.clock.now_us()
        exchange.exchange.trade(ledger, 10**8, 10**8, now_us, True, event_us=now_us)
        (first,) = await receive(connection)
        exchange.exchange.trade(ledger, 10**8, 10**8, now_us, True, event_us=now_us)
        (second,) = await receive(connection)
        assert (second["a"], second["f"]) == (first["a"] + 1, first["l"] + 1)
        assert [one["q"] for one in rest(exchange, "aggTrades", "symbol=BTCUSDT")] == ["1.00000000", "1.00000000"]


async def test_streams_that_are_not_subscribed_cost_nothing(simulator: Start) -> None:
    async with simulator(rate=2000, symbols="BTCUSDT,ETHUSDT") as exchange:
        exchange.driver.start()
        await until(lambda: exchange.ledger.symbols["BTCUSDT"].sent_trades > 300)
        assert not exchange.books._seeded
        assert not exchange.derived._feeds
        async with connected(exchange, "/ws/ethusdt@bookTicker") as connection:
            await receive(connection)
            assert list(exchange.books._seeded) == ["ETHUSDT"]
        await until(lambda: not exchange.derived._feeds and not exchange.derived._traded)


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
