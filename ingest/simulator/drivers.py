"""What makes trades happen, started and stopped at will: here a seeded market, in ``replay`` a recording."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Protocol

from ingest.simulator.edges import time_at_edge
from ingest.simulator.exchange import Exchange
from ingest.simulator.market import Event, Market

TICK_S = 0.005
CATCH_UP_S = 2.0
"""How much of a time in which the process stood still is made up for."""


class Driver(Protocol):
    """The source of trades."""

    market: Market | None
    """The seeded market, where it is one."""
    started: asyncio.Event
    """Set once trading has begun, and then for good."""

    def start(self) -> None:
        """Go on trading."""

    def stop(self) -> None:
        """Trade no more until started."""

    def set_pace(self, pace: float) -> None:
        """Trades per second of a market, speed of a replay."""

    def now_us(self) -> int:
        """The market's own time: the recorded one of a replay."""

    def settled_us(self) -> int:
        """A time before which nothing will be traded any more."""

    def state(self) -> dict[str, Any]:
        """Its state for the admin API."""

    async def run(self) -> None:
        """Trade until cancelled."""


class Gated:
    """What every driver has: a gate that ``start`` opens and ``stop`` closes."""

    def __init__(self, *, running: bool) -> None:
        self._gate = asyncio.Event()
        self.started = asyncio.Event()
        if running:
            self.start()

    def start(self) -> None:
        """See ``Driver``."""
        self._gate.set()
        self.started.set()

    def stop(self) -> None:
        """See ``Driver``."""
        self._gate.clear()


class MarketDriver(Gated):
    """A seeded market at a rate."""

    def __init__(
        self, exchange: Exchange, market: Market, *, rate: float, running: bool, at_edges: bool = False
    ) -> None:
        super().__init__(running=running)
        self.market: Market | None = market
        self._source = market
        self._exchange = exchange
        self._rate = rate
        self._last_us = exchange.ledger.last_us
        self._made = 0
        self._edges = random.Random("times") if at_edges else None  # noqa: S311 - repeatable on purpose

    def set_pace(self, pace: float) -> None:
        """See ``Driver``."""
        if not 0 < pace <= 1_000_000:
            raise ValueError(f"a rate must be above 0 and at most 1,000,000 trades per second, got {pace:g}")
        self._rate = pace

    def now_us(self) -> int:
        """See ``Driver``."""
        return self._exchange.clock.now_us()

    def settled_us(self) -> int:
        """See ``Driver``: what is made up for lies back as far as that goes, and by one trade."""
        return max(self._last_us, self.now_us() - int((CATCH_UP_S + 1.0 / self._rate) * 1e6))

    def state(self) -> dict[str, Any]:
        """See ``Driver``."""
        return {"source": "market", "running": self._gate.is_set(), "rate": self._rate, "trades": self._made}

    async def run(self) -> None:
        """See ``Driver``."""
        clock = asyncio.get_running_loop().time
        before, credit = clock(), 0.0
        while True:
            if not self._gate.is_set():
                await self._gate.wait()
                before = clock()
            await asyncio.sleep(TICK_S)
            now = clock()
            credit = min(credit + (now - before) * self._rate, CATCH_UP_S * self._rate + 1)
            before = now
            while credit >= 1.0 and self._gate.is_set():
                event = self._source.next()
                if event is None:
                    credit = 0.0
                    break
                credit -= self._happen(event, credit / self._rate)
            self._exchange.streams.flush()

    def _happen(self, event: Event, ago_s: float) -> int:
        """All trades of an event, with times between the last tick and now; how many there were."""
        exchange = self._exchange
        now_us = exchange.clock.now_us()
        time_us = max(self._last_us, now_us - int(ago_s * 1e6))
        if self._edges is not None:
            time_us = time_at_edge(self._edges, time_us)
        count = len(event.trades)
        room = 999 - time_us % 1000 if event.burst else 0  # a burst stays in its millisecond
        for number, (price, quantity, maker) in enumerate(event.trades):
            at = time_us + room * number // count
            exchange.trade(event.ledger, price, quantity, at, maker, event_us=max(at, now_us))
            self._last_us = at
        self._made += count
        return count
