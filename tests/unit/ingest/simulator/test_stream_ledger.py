"""The ledgers say what the streams sent: aggregates, block trades, bars, best prices, and every update of a book."""

import json
from itertools import pairwise
from typing import Any

import pytest

from ingest.simulator.admin import Admin
from ingest.simulator.app import Simulator
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade

STREAMS = ("aggTrade", "blockTrade", "bookTicker", "depth@100ms", "kline_1s")


def admin(exchange: Simulator, target: str) -> Any:
    handler = Admin(exchange.exchange, exchange.driver, exchange.injector, exchange.derived)
    answer = handler.handle("GET", f"/admin/{target}", {}, b"", "::1")
    assert answer is not None
    return json.loads(answer.body)


def ledger(exchange: Simulator, stream: str, from_id: int = 0, limit: int = 300) -> list[list[Any]]:
    """All pages."""
    rows: list[list[Any]] = []
    due: int | None = from_id
    while due is not None:
        page = admin(exchange, f"ledger?symbol=BTCUSDT&stream={stream}&from_id={due}&limit={limit}")
        assert page["stream"] == stream
        rows += page["rows"]
        due = page["next_from_id"]
    return rows


async def test_ledgers_have_what_was_sent(simulator: Start) -> None:
    names = [f"btcusdt@{stream}" for stream in STREAMS]
    async with (
        simulator(rate=1500, symbols="BTCUSDT") as exchange,
        connected(exchange, f"/stream?streams={'/'.join(names)}&timeUnit=MICROSECOND") as connection,
    ):
        exchange.driver.start()
        got: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        while sum(event["k"]["x"] for event in got["btcusdt@kline_1s"]) < 2 or len(got["btcusdt@blockTrade"]) < 3:
            (message,) = await receive(connection)
            got[message["stream"]].append(message["data"])
        exchange.driver.stop()
        aggregates = [[e["a"], e["p"], e["q"], e["f"], e["l"], e["T"], e["m"]] for e in got["btcusdt@aggTrade"]]
        assert ledger(exchange, "aggTrade", aggregates[0][0])[: len(aggregates)] == aggregates
        blocks = [[e["t"], e["p"], e["q"], e["T"], e["m"]] for e in got["btcusdt@blockTrade"]]
        assert ledger(exchange, "blockTrade", blocks[0][0])[: len(blocks)] == blocks
        quotes = [[e["u"], e["b"], e["B"], e["a"], e["A"]] for e in got["btcusdt@bookTicker"]]
        assert ledger(exchange, "bookTicker", quotes[0][0])[: len(quotes)] == quotes
        closed = [e["k"] for e in got["btcusdt@kline_1s"] if e["k"]["x"]]
        bars = [[k["t"], k["T"], *(k[name] for name in "ohlcvqnVQfL")] for k in closed]
        assert ledger(exchange, "kline_1s", bars[0][0])[: len(bars)] == bars
        updates = ledger(exchange, "depth")
        assert all(after[0] == before[0] + 1 for before, after in pairwise(updates))
        for event in got["btcusdt@depth@100ms"]:
            touched = {(row[1], row[2]): row[3] for row in updates if event["U"] <= row[0] <= event["u"]}
            assert touched == {(side, price): quantity for side in "ba" for price, quantity in event[side]}
        sent = admin(exchange, "streams")
        assert sent["streams"]["btcusdt@blockTrade"]["last"] >= blocks[-1][0]
        assert sent["streams"]["btcusdt@aggTrade"]["events"] >= len(aggregates)


async def test_the_book_at_any_id_is_the_snapshot_that_rest_gave_then(simulator: Start) -> None:
    async with simulator(symbols="BTCUSDT", weight_limit=10**6) as exchange:
        seen = []
        for price in range(40):
            trade(exchange, count=3, price=61837_63000000 + price * 10_000_000)
            answer = exchange.exchange.rest.handle("GET", "/api/v3/depth", "symbol=BTCUSDT&limit=5000", {}, "::1")
            assert answer is not None
            seen.append(json.loads(answer.body))
        for snapshot in seen:
            book = admin(exchange, f"book?symbol=BTCUSDT&id={snapshot['lastUpdateId']}")
            assert (book["bids"], book["asks"]) == (snapshot["bids"], snapshot["asks"])
        newest = admin(exchange, "book?symbol=BTCUSDT")
        assert newest["update_id"] == seen[-1]["lastUpdateId"]
        floor = admin(exchange, "streams")["books"]["BTCUSDT"]["floor_id"]
        assert "remembered from" in admin(exchange, f"book?symbol=BTCUSDT&id={floor - 1}")["error"]


@pytest.mark.parametrize("stream", ["ticker", "kline_7m", "nosuch"])
async def test_a_stream_without_a_ledger_is_refused(simulator: Start, stream: str) -> None:
    async with simulator() as exchange:
        trade(exchange)
        assert "has no ledger" in admin(exchange, f"ledger?symbol=BTCUSDT&stream={stream}")["error"]


async def test_a_quiet_symbol_has_empty_ledgers(simulator: Start) -> None:
    async with simulator() as exchange:
        for stream in ("aggTrade", "blockTrade", "bookTicker", "depth", "kline_1m"):
            assert ledger(exchange, stream) == []
