"""Faults of the streams besides trades: each does what it says to the stream, and the ledger stays right."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from websockets.http11 import Response

from ingest.simulator.app import Simulator
from ingest.simulator.injection import FaultError
from ingest.simulator.plan import MARKET_KINDS, SURVIVABLE_STREAMS, seeded
from tests.unit.ingest.simulator.client import RawClient, connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until


def rest(exchange: Simulator, path: str, query: str) -> Any:
    answer = exchange.exchange.rest.handle("GET", f"/api/v3/{path}", query, {}, "::1")
    assert answer is not None
    return json.loads(answer.body)


class Stream:
    """A connection with one stream, on which an event comes for each call."""

    def __init__(self, exchange: Simulator, connection: Any) -> None:
        self.exchange = exchange
        self._connection = connection

    async def events(self, count: int = 1) -> list[Any]:
        """The next events, whether right or struck."""
        found = []
        for _ in range(count):
            trade(self.exchange)
            found += await receive(self._connection)
        return found

    def inject(self, kind: str, **options: Any) -> dict[str, Any]:
        return self.exchange.injector.inject(kind, options)


@asynccontextmanager
async def subscribed(simulator: Start, stream: str) -> AsyncIterator[Stream]:
    async with (
        simulator(symbols="BTCUSDT", book_orders=10) as exchange,
        connected(exchange, f"/ws/btcusdt@{stream}") as connection,
    ):
        trade(exchange)
        yield Stream(exchange, connection)


async def test_a_skipped_update_breaks_the_chain_and_the_book_goes_on(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        (first,) = await stream.events()
        stream.inject("gap", stream="depth@100ms")
        trade(stream.exchange)
        await until(lambda: not stream.exchange.exchange.faults.armed_streams)
        second, third = await stream.events(2)
        assert second["U"] > first["u"] + 1
        assert third["U"] == second["u"] + 1


async def test_a_fault_of_one_stream_leaves_the_others_alone(simulator: Start) -> None:
    async with subscribed(simulator, "trade") as stream:
        stream.inject("gap", stream="depth@100ms", count=10)
        events = await stream.events(3)
        assert [one["t"] for one in events] == list(range(events[0]["t"], events[0]["t"] + 3))


async def test_duplicates_and_altered_duplicates(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        stream.inject("duplicate", stream="depth@100ms")
        (first,) = await stream.events()
        assert await receive(stream._connection) == [first]
        stream.inject("altered_duplicate", stream="depth@100ms")
        (right,) = await stream.events()
        (wrong,) = await receive(stream._connection)
        assert (right["U"], right["u"], right["a"]) == (wrong["U"], wrong["u"], wrong["a"]) or right["b"] == wrong["b"]
        assert right != wrong


async def test_a_reordered_update_comes_after_the_next_one(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        (before,) = await stream.events()
        stream.inject("reorder", stream="depth@100ms")
        trade(stream.exchange)
        await until(lambda: bool(stream.exchange.exchange._held))
        trade(stream.exchange)
        second, first = await receive(stream._connection, 2)
        assert (before["u"] + 1, first["u"] + 1) == (first["U"], second["U"])


async def test_lost_deletions_one_side_and_ids_that_go_back(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        stream.inject("lost_deletions", count=5)
        deleted = [level for event in await stream.events(5) for side in "ba" for level in event[side]]
        assert deleted
        assert not [level for level in deleted if not float(level[1])]
        stream.inject("one_sided", side="a")
        (event,) = await stream.events()
        assert event["a"] == []
        assert event["b"]
        stream.inject("backwards", by=500)
        (event,) = await stream.events()
        (after,) = await stream.events()
        assert after["U"] == event["u"] + 500 + 1
        assert event["U"] <= event["u"] < after["U"]


@pytest.mark.parametrize("name", ["depth@100ms", "bookTicker"])
async def test_a_crossed_event(simulator: Start, name: str) -> None:
    async with subscribed(simulator, name) as stream:
        stream.inject("crossed", stream=name)
        (event,) = await stream.events()
        if name == "bookTicker":
            assert float(event["b"]) > float(event["a"])
        else:
            assert float(event["b"][0][0]) > float(rest(stream.exchange, "depth", "symbol=BTCUSDT")["asks"][-1][0])


async def test_the_exchange_itself_crosses_its_book_until_the_next_trade(simulator: Start) -> None:
    async with subscribed(simulator, "bookTicker") as stream:
        told = stream.inject("book_crossed")
        snapshot = rest(stream.exchange, "depth", "symbol=BTCUSDT")
        assert snapshot["lastUpdateId"] == told["update_id"]
        assert float(snapshot["bids"][0][0]) > float(snapshot["asks"][0][0])
        trade(stream.exchange)
        snapshot = rest(stream.exchange, "depth", "symbol=BTCUSDT")
        assert float(snapshot["bids"][0][0]) < float(snapshot["asks"][0][0])
        event: dict[str, Any] = {"u": 0}
        while event["u"] < told["update_id"]:
            (event,) = await receive(stream._connection)
        assert float(event["b"]) > float(event["a"])


async def test_a_snapshot_older_than_the_first_update(simulator: Start) -> None:
    async with simulator(symbols="BTCUSDT") as exchange:
        trade(exchange)
        before = rest(exchange, "depth", "symbol=BTCUSDT&limit=5")
        exchange.injector.inject("depth_stale", {"calls": 2})
        trade(exchange, count=5)
        async with connected(exchange, "/ws/btcusdt@depth@100ms") as connection:
            await until(lambda: bool(exchange.derived._feeds))
            trade(exchange, count=5)
            (event,) = await receive(connection)
            for _ in range(2):
                assert rest(exchange, "depth", "symbol=BTCUSDT&limit=5") == before
            assert before["lastUpdateId"] < event["U"] - 1
            assert rest(exchange, "depth", "symbol=BTCUSDT&limit=5")["lastUpdateId"] >= event["u"]


async def test_a_stream_that_lags_so_that_the_snapshot_lies_beyond_what_has_come(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        await stream.events()
        stream.inject("stream_lag", seconds=0.6)
        trade(stream.exchange)
        last = rest(stream.exchange, "depth", "symbol=BTCUSDT")["lastUpdateId"]
        await until(lambda: stream.exchange.derived.sent["btcusdt@depth@100ms"][1] == last)
        began = stream.exchange.streams.now()
        trade(stream.exchange)
        first, second = await receive(stream._connection, 2)
        assert stream.exchange.streams.now() - began > 0.4
        assert (first["u"], second["U"]) == (last, last + 1)
        stream.inject("stream_lag", seconds=0.0)
        (third,) = await stream.events()
        assert third["U"] == second["u"] + 1


@pytest.mark.parametrize("truth", [False, True])
async def test_a_bar_that_is_corrected_after_it_was_closed(simulator: Start, truth: bool) -> None:
    async with subscribed(simulator, "kline_1s") as stream:
        stream.inject("bar_corrected", stream="kline_1s", truth=truth)
        closed: list[dict[str, Any]] = []
        while len(closed) < 3:
            closed += [event["k"] for event in await stream.events() if event["k"]["x"]]
        right, corrected, after = closed
        assert corrected == right | {"v": "1.00000000"}
        assert right["v"] != "1.00000000"
        assert after["t"] == right["t"] + 1000
        query = f"symbol=BTCUSDT&interval=1s&startTime={right['t']}&limit=1"
        ((_, _, _, _, _, volume, *_),) = rest(stream.exchange, "klines", query)
        assert volume == (corrected["v"] if truth else right["v"])


async def test_an_aggregate_without_its_trades(simulator: Start) -> None:
    path = "/stream?streams=btcusdt@aggTrade/btcusdt@trade"
    async with simulator(symbols="BTCUSDT") as exchange, connected(exchange, path) as connection:
        trade(exchange)
        await receive(connection, 2)
        lost = exchange.injector.inject("aggregate_without_trades", {"count": 2})
        ids = trade(exchange, count=3)
        events = [message["data"] for message in await receive(connection, 4)]
        assert [one["t"] for one in events if one["e"] == "trade"] == [ids[2]]
        assert [(one["f"], one["l"]) for one in events if one["e"] == "aggTrade"] == [
            (number, number) for number in ids
        ]
        assert (lost["first"], lost["last"]) == (ids[0], ids[1])
        listed = rest(exchange, "historicalTrades", f"symbol=BTCUSDT&fromId={ids[0]}")
        assert [one["id"] for one in listed] == [ids[2]]
        assert [one["f"] for one in rest(exchange, "aggTrades", "symbol=BTCUSDT")][-3:] == ids


async def test_a_reset_in_the_middle_of_a_frame(simulator: Start) -> None:
    async with (
        simulator(symbols="BTCUSDT") as exchange,
        RawClient.open(exchange, "/ws/btcusdt@depth@100ms") as client,
    ):
        assert isinstance(await client.event(), Response)
        exchange.injector.inject("reset", {"mid_frame": True})
        received = await client._reader.read(1000)
        with pytest.raises(ConnectionResetError):
            received += await client._reader.readexactly(1)
        assert received.startswith(b"\x81\x7e")
        assert len(received) == 1000


@pytest.mark.parametrize("symbol", ["BTCUSDT", None])
async def test_one_stream_stalls_and_the_others_go_on(simulator: Start, symbol: str | None) -> None:
    path = "/stream?streams=btcusdt@bookTicker/btcusdt@trade"
    async with simulator(symbols="BTCUSDT") as exchange, connected(exchange, path) as connection:
        trade(exchange)
        exchange.injector.inject("stall", {"symbol": symbol, "stream": "bookTicker", "seconds": 60})
        trade(exchange, count=20)
        await until(lambda: exchange.derived.sent.get("btcusdt@bookTicker", (0, 0))[0] > 20)
        trade(exchange)
        assert {message["stream"] for message in await receive(connection, 20)} == {"btcusdt@trade"}


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("gap", {"stream": "nosuch"}, "there is no stream"),
        ("crossed", {"stream": "aggTrade"}, "does not strike"),
        ("bar_corrected", {"stream": "depth"}, "does not strike"),
        ("one_sided", {"side": "x"}, "side is b or a"),
        ("backwards", {"by": 0}, "by must be"),
        ("stream_lag", {"seconds": -1}, "seconds must be"),
        ("stream_lag", {"stream": "trade"}, "no stream"),
        ("depth_stale", {"calls": 0}, "calls must be"),
        ("aggregate_without_trades", {"count": 0}, "count must be"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    simulator: Start, kind: str, options: dict[str, Any], text: str
) -> None:
    async with simulator() as exchange:
        with pytest.raises(FaultError, match=text):
            exchange.injector.inject(kind, options)


async def test_clear_ends_them(simulator: Start) -> None:
    async with subscribed(simulator, "depth@100ms") as stream:
        (first,) = await stream.events()
        stream.inject("gap", stream="depth@100ms", count=1000)
        stream.inject("stream_lag", seconds=30)
        stream.inject("depth_stale", calls=1000)
        stream.inject("clear")
        events = [first, *await stream.events(2)]
        assert all(after["U"] == before["u"] + 1 for before, after in pairwise(events))
        assert rest(stream.exchange, "depth", "symbol=BTCUSDT")["lastUpdateId"] >= events[-1]["u"]


def test_a_seeded_plan_strikes_the_streams_besides_trades_only_if_they_are_named() -> None:
    named = list(itertools.islice(seeded(1, 60.0, kinds=tuple(SURVIVABLE_STREAMS)), 400))
    assert {step.kind for step in named} == {MARKET_KINDS.get(name, name) for name in SURVIVABLE_STREAMS}
    lags = [step.options["seconds"] for step in named if step.kind == "stream_lag"]
    assert 0.0 in lags  # what lasts is taken back
    drawn = list(itertools.islice(seeded(1, 60.0), 2000))
    assert not [step for step in drawn if "stream" in step.options or step.kind in ("stream_lag", "depth_stale")]


async def test_every_fault_of_a_seeded_plan_can_be_done(simulator: Start) -> None:
    async with simulator(symbols="BTCUSDT") as exchange, connected(exchange, "/ws/btcusdt@depth@100ms"):
        trade(exchange)
        await until(lambda: bool(exchange.streams.sessions))
        for step in itertools.islice(seeded(2, 60.0, kinds=tuple(SURVIVABLE_STREAMS)), 100):
            if exchange.streams.sessions or step.options.get("connection", "all") == "all":
                exchange.injector.inject(step.kind, step.options)
