"""A simulator in the test's own event loop, and clients that can misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from ingest.simulator.app import Options, Simulator
from ingest.simulator.market import split
from ingest.simulator.rules import Rules
from tests.unit.ingest.simulator.client import connected

Start = Callable[..., AbstractAsyncContextManager[Simulator]]


@asynccontextmanager
async def running(
    *, rules: Rules | None = None, symbols: str = "BTCUSDT,ETHUSDT", **options: Any
) -> AsyncIterator[Simulator]:
    """A simulator that does not trade of its own accord; ``trade`` makes it."""
    options.setdefault("paused", True)
    listed = tuple(split(name) for name in symbols.split(",")) if "replay" not in options else ()
    simulator = Simulator(Options(symbols=listed, rules=rules or Rules(), **options))
    async with asyncio.TaskGroup() as group:
        group.create_task(simulator.serve(), name="simulator")
        await simulator.listening.wait()
        try:
            yield simulator
        finally:
            simulator.stopping.set()


@pytest.fixture
def simulator() -> Start:
    """Starts one, as an asynchronous context manager; see ``running``."""
    return running


def trade(simulator: Simulator, symbol: str = "BTCUSDT", count: int = 1, *, price: int = 61837_63000000) -> list[int]:
    """Make trades and send them; their ids."""
    ledger = simulator.ledger.symbols[symbol]
    now_us = simulator.clock.now_us()
    ids = []
    for number in range(count):
        ids.append(ledger.next_id)
        simulator.exchange.trade(ledger, price + number, 2_000_000, now_us, number % 2 == 0, event_us=now_us + 1500)
    simulator.streams.flush()
    return ids


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition at all, not one that somebody announces
            await asyncio.sleep(0.002)


@pytest.fixture
def one(simulator: Start) -> Any:
    """An exchange with one raw connection to BTCUSDT."""

    class Pair:
        async def __aenter__(self) -> tuple[Simulator, ClientConnection]:
            self._exits = AsyncExitStack()
            exchange = await self._exits.enter_async_context(simulator())
            return exchange, await self._exits.enter_async_context(connected(exchange, "/ws/btcusdt@trade"))

        async def __aexit__(self, *details: object) -> None:
            await self._exits.aclose()

    return Pair()
