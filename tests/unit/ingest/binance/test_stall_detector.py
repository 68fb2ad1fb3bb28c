"""Stalled or quiet: no reconnect for a quiet symbol, a dead one among busy ones is found, on virtual time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ingest.binance.connection import Connection
from ingest.binance.overlap import SymbolProgress
from ingest.binance.stall_detector import AGAIN_SECONDS, StallDetector
from ingest.binance.tail_gap_check import TailGapCheck
from ingest.core.connection import Event
from ingest.core.errors import Retry
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.clock import run_virtual


class FakeFeed:
    """Connections that receive what a test says."""

    def __init__(self, *symbols: str, connections: int = 1) -> None:
        self.loop = asyncio.get_running_loop()
        self.symbols = symbols
        self.connections = [self._open(f"g{number}a") for number in range(connections)]
        self.rotated: list[tuple[str, str | None]] = []
        self.deaf: set[tuple[str, str]] = set()
        """(connection, symbol) that deliver nothing; the symbol ``*`` stands for all."""

    def _open(self, name: str) -> Connection:
        unused: Any = None
        connection = Connection(
            name, unused, BinanceSettings(), Metrics(process=False), unused, unused,
            desired_symbols=lambda: list(self.symbols), on_trouble=unused,
        )  # fmt: skip
        connection.subscribed = set(self.symbols)
        for event in (Event.OPEN, Event.OPENED, Event.SUBSCRIBED):
            connection.life.handle(event)
        connection.live.set()
        connection.opened_at = connection.last_frame_at = self.loop.time()
        return connection

    def current(self) -> list[Connection]:
        return self.connections

    def last_received(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for connection in self.connections:
            for symbol, track in connection.tracks.items():
                found[symbol] = max(found.get(symbol, -1), track.last_id)
        return found

    def rotate(self, reason: str, connection: str | None = None) -> int:
        self.rotated.append((reason, connection))
        return 1

    def trade(self, symbol: str, trade_id: int) -> None:
        for connection in self.connections:
            if {(connection.name, symbol), (connection.name, "*")} & self.deaf:
                continue
            track = connection.tracks.setdefault(symbol, SymbolProgress(symbol, trade_id))
            track.last_id = max(track.last_id, trade_id)
            track.seen = connection.last_frame_at = self.loop.time()


class Exchange:
    """Trades each symbol at its rate, and knows the last ids."""

    def __init__(self, feed: FakeFeed, rates: dict[str, float]) -> None:
        self.feed = feed
        self.rates = rates
        self.ids = dict.fromkeys(rates, 0)
        self.asked: list[list[str]] = []
        self.failing = False

    async def run(self) -> None:
        carried = dict.fromkeys(self.rates, 0.0)
        while True:
            await asyncio.sleep(0.1)
            for symbol, rate in self.rates.items():
                carried[symbol] += rate * 0.1
                while carried[symbol] >= 1.0:
                    carried[symbol] -= 1.0
                    self.ids[symbol] += 1
                    self.feed.trade(symbol, self.ids[symbol])

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        self.asked.append(list(symbols or ()))
        if self.failing:
            raise Retry("away", after=1.0)
        return {symbol: self.ids[symbol] for symbol in symbols or self.ids}


class Run:
    """Monitor, feed and exchange for a while."""

    def __init__(self, rates: dict[str, float], *, connections: int = 1) -> None:
        self.feed = FakeFeed(*rates, connections=connections)
        self.exchange = Exchange(self.feed, rates)
        self.metrics = Metrics(process=False)
        self.noticed: list[dict[str, int]] = []
        self.monitor = StallDetector(
            BinanceSettings(), self.metrics, self.feed, self.exchange, dict, self.noticed.append
        )

    async def last(self, *steps: tuple[float, Any]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.exchange.run()), group.create_task(self.monitor.run())]
            for seconds, act in steps:
                if act is not None:
                    act()
                await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()

    def stalls(self, scope: str) -> float:
        return self.metrics.registry.get_sample_value("binance_stalls_total", {"scope": scope}) or 0.0


def test_a_quiet_symbol_never_costs_a_connection() -> None:
    async def main() -> None:
        run = Run({"BUSY": 50.0, "SLOW": 0.2, "HALTED": 2.0, "DEAD": 0.0})

        def halt() -> None:
            run.exchange.rates["HALTED"] = 0.0

        await run.last((300.0, None), (7200.0, halt))
        assert run.feed.rotated == []
        assert run.noticed == []
        assert run.stalls("symbol") == run.stalls("connection") == 0
        assert 1 <= len(run.exchange.asked) <= 7500 / 30, "REST is asked, at most once in an interval"

    run_virtual(main())


def test_a_closed_market_costs_no_connection() -> None:
    async def main() -> None:
        run = Run({"A": 100.0, "B": 10.0})

        def close() -> None:
            run.exchange.rates.update(A=0.0, B=0.0)

        await run.last((120.0, None), (3600.0, close))
        assert run.feed.rotated == []

    run_virtual(main())


@pytest.mark.parametrize("rate", [0.05, 1.0, 40.0])
def test_a_dead_symbol_among_busy_ones_is_found_and_named(rate: float) -> None:
    async def main() -> None:
        run = Run({"BUSY": 200.0, "VICTIM": rate})
        await run.last((600.0, None), (700.0, lambda: run.feed.deaf.add(("g0a", "VICTIM"))))
        assert ("stalled", "g0a") in run.feed.rotated
        assert run.stalls("symbol") >= 1
        assert run.stalls("connection") == 0
        assert all(set(names) == {"VICTIM"} for names in run.noticed)
        assert run.noticed[-1]["VICTIM"] > run.feed.last_received()["VICTIM"]
        assert len(run.feed.rotated) <= 1 + 700 / AGAIN_SECONDS, "no new connection again and again"
        assert len(run.noticed) > len(run.feed.rotated) or rate < 1.0, "its ids are still named"

    run_virtual(main())


def test_a_connection_that_falls_silent_is_replaced_within_fifteen_seconds() -> None:
    async def main() -> None:
        run = Run({"A": 100.0, "B": 10.0})
        await run.last((120.0, None), (15.0, lambda: run.feed.deaf.add(("g0a", "*"))))
        assert run.feed.rotated == [("stalled", "g0a")]
        assert run.stalls("connection") == 1

    run_virtual(main())


def test_one_of_two_connections_that_falls_silent_is_the_one_replaced() -> None:
    async def main() -> None:
        run = Run({"A": 100.0}, connections=2)
        await run.last((60.0, None), (30.0, lambda: run.feed.deaf.add(("g1a", "*"))))
        assert set(run.feed.rotated) == {("stalled", "g1a")}

    run_virtual(main())


def test_without_rest_only_what_should_have_sent_much_is_replaced() -> None:
    async def main() -> None:
        run = Run({"A": 50.0})
        run.exchange.failing = True
        await run.last((60.0, None), (30.0, lambda: run.feed.deaf.add(("g0a", "*"))))
        assert run.feed.rotated
        slow = Run({"A": 0.3})
        slow.exchange.failing = True
        await slow.last((300.0, None), (60.0, lambda: slow.feed.deaf.add(("g0a", "*"))))
        assert slow.exchange.asked
        assert slow.feed.rotated == []

    run_virtual(main())


def test_what_was_traded_before_the_connection_is_asked_for_once() -> None:
    async def main() -> None:
        feed = FakeFeed("BUSY", "QUIET", "FRESH")
        exchange = Exchange(feed, {"BUSY": 10.0, "QUIET": 0.0, "FRESH": 0.0})
        exchange.ids.update(QUIET=41, FRESH=-1)
        noticed: list[dict[str, int]] = []
        missed = TailGapCheck(feed, exchange, noticed.append)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(exchange.run()), group.create_task(missed.run())]
            await asyncio.sleep(120.0)
            for task in tasks:
                task.cancel()
        assert noticed == [{"QUIET": 41}, {"QUIET": 41}]
        assert exchange.asked == [["FRESH", "QUIET"], ["FRESH", "QUIET"]]

    run_virtual(main())


def test_a_rotation_asks_nothing_and_a_refusal_is_asked_again() -> None:
    async def main() -> None:
        feed = FakeFeed("A")
        exchange = Exchange(feed, {"A": 0.0})
        exchange.ids["A"] = 7
        noticed: list[dict[str, int]] = []
        missed = TailGapCheck(feed, exchange, noticed.append)
        feed.connections[0].from_nothing = False
        async with asyncio.TaskGroup() as group:
            task = group.create_task(missed.run())
            await asyncio.sleep(60.0)
            assert exchange.asked == []
            exchange.failing = True
            feed.connections[0] = feed._open("g0b")
            await asyncio.sleep(30.0)
            assert 2 <= len(exchange.asked) <= 6, "less and less often"
            assert noticed == []
            exchange.failing = False
            await asyncio.sleep(30.0)
            assert noticed == [{"A": 7}, {"A": 7}]
            task.cancel()

    run_virtual(main())
