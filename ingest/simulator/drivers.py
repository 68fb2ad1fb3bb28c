"""What makes trades happen: a seeded market or a recording, each at its pace, started and stopped at will."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, Protocol

from ingest.simulator.edges import time_at_edge
from ingest.simulator.exchange import Exchange
from ingest.simulator.ledger import Ledger
from ingest.simulator.market import Event, Listing, Market
from ingest.simulator.recording import RecordedTrade

TICK_S = 0.005
CATCH_UP_S = 2.0
"""How much of a time in which the process stood still is made up for."""
MOST_BACKLOG = 4 * 2**20
"""Unread bytes of the slowest client at which an unpaced replay waits."""
UNPACED_TRADES = 500


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


class MarketDriver:
    """A seeded market at a rate."""

    def __init__(
        self, exchange: Exchange, market: Market, *, rate: float, running: bool, at_edges: bool = False
    ) -> None:
        self.market: Market | None = market
        self._source = market
        self._exchange = exchange
        self._rate = rate
        self._gate = asyncio.Event()
        self._last_us = 0
        self._made = 0
        self._edges = random.Random("times") if at_edges else None  # noqa: S311 - repeatable on purpose
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


class ReplayDriver:
    """A recording, once, at its own pace times ``speed``; 0 means as fast as clients take it."""

    market: Market | None = None

    def __init__(self, exchange: Exchange, trades: Iterator[RecordedTrade], *, speed: float, running: bool) -> None:
        self._exchange = exchange
        self._trades = trades
        self._speed = speed
        self._gate = asyncio.Event()
        self._newest = (0, 0.0)  # its event time, and when it was sent
        self._traded_us = 0
        self._made = 0
        self._finished = False
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

    def set_pace(self, pace: float) -> None:
        """See ``Driver``."""
        if pace < 0:
            raise ValueError(f"a speed must not be negative, got {pace:g}")
        self._speed = pace

    def now_us(self) -> int:
        """See ``Driver``; it goes on after the last trade."""
        event_us, at = self._newest
        return event_us + int((asyncio.get_running_loop().time() - at) * 1e6 * (self._speed or 1.0))

    def settled_us(self) -> int:
        """See ``Driver``."""
        return self.now_us() if self._finished else self._traded_us

    def state(self) -> dict[str, Any]:
        """See ``Driver``."""
        return {
            "source": "replay",
            "running": self._gate.is_set() and not self._finished,
            "speed": self._speed,
            "trades": self._made,
            "finished": self._finished,
        }

    async def run(self) -> None:
        """See ``Driver``."""
        clock = asyncio.get_running_loop().time
        symbols = self._exchange.ledger.symbols
        trade = next(self._trades, None)
        offset = 0.0  # recorded seconds that have passed
        first = trade.received_ns if trade is not None else 0
        before = clock()
        while trade is not None:
            if not self._gate.is_set():
                await self._gate.wait()
                before = clock()
            await asyncio.sleep(TICK_S if self._speed else 0)
            now = clock()
            offset += (now - before) * self._speed
            before = now
            if not self._speed and self._exchange.streams.backlog > MOST_BACKLOG:
                continue
            room = UNPACED_TRADES
            while trade is not None and (room > 0 if not self._speed else (trade.received_ns - first) / 1e9 <= offset):
                self._exchange.record(
                    symbols[trade.symbol],
                    trade.trade_id,
                    trade.price,
                    trade.quantity,
                    trade.time_us,
                    trade.buyer_is_maker,
                    event_us=trade.event_us,
                    recorded=trade.payload,
                )
                self._made += 1
                room -= 1
                self._newest = (trade.event_us, now)
                self._traded_us = trade.time_us
                if not self._speed:
                    offset = (trade.received_ns - first) / 1e9
                trade = next(self._trades, None)
            self._exchange.streams.flush()
        self._finished = True
        await asyncio.Event().wait()


def list_recorded(ledger: Ledger, first_ids: dict[str, int], listings: dict[str, Listing]) -> None:
    """List the symbols of a recording, each at its first recorded id."""
    for symbol, first_id in first_ids.items():
        listing = listings[symbol]
        ledger.add(symbol, listing.base, listing.quote, first_id)
