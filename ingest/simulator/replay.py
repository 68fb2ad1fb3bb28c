"""A recording, once, at its own pace times a speed: trades, and every other stream that it has.

Recorded events go out as they were recorded. The book is rebuilt from them, beginning with the recorded snapshot, so
that REST answers from it; a stream that the recording lacks is made as in a seeded market, of what there is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest.simulator import recording
from ingest.simulator.book import Book, Quote
from ingest.simulator.derived import Derived
from ingest.simulator.drivers import TICK_S, Gated
from ingest.simulator.exchange import Exchange
from ingest.simulator.frames import StreamEvent
from ingest.simulator.market import Listing, Market, split
from ingest.simulator.recording import Contents, RecordedEvent, RecordedTrade, levels, units

MOST_BACKLOG = 4 * 2**20
"""Unread bytes of the slowest client at which an unpaced replay waits."""
UNPACED_EVENTS = 500
MILLISECOND = 1000
"""In microseconds."""
_TIME = re.compile(rb'"([ETt])":(\d{13})(?=[,}])')
_DEPTHS = ("depth@100ms", "depth")
"""Streams by which a book is rebuilt, the more frequent one if there are both."""
_BOOKS = ("bookTicker", *_DEPTHS)


class RecordedStreams:
    """Sends recorded events, and keeps the books that they make."""

    def __init__(self, exchange: Exchange, derived: Derived, path: Path, found: Contents) -> None:
        """Raises ``RecordingError`` and OSError."""
        self._exchange = exchange
        self._derived = derived
        books = self._books = derived.sources.books
        symbols = set(found.streams.values())
        derived.recorded.update(found.streams)
        beginnings = recording.snapshots(path, symbols | found.first_ids.keys())
        for name, symbol in found.streams.items():
            if name.partition("@")[2] in _BOOKS:
                book = books.recorded.setdefault(symbol, Book(0))
                if symbol in beginnings:
                    book.load(*beginnings[symbol])
        self._depth = {
            symbol: next((one for one in _DEPTHS if f"{symbol.lower()}@{one}" in found.streams), "")
            for symbol in books.recorded
        }

    def send(self, one: RecordedEvent) -> None:
        """Keep the event's book, and send the event."""
        symbol = self._exchange.ledger.symbols.get(one.symbol)
        if symbol is None:
            self._exchange.counters["replay_unlisted"] += 1
            return
        kind = one.stream.partition("@")[2]
        event, payload = one.event, one.payload
        if kind in _BOOKS:
            self._keep(one.symbol, kind, event)
        row = _row(kind, event)
        if row is not None:
            self._derived.sources.recorded.setdefault(one.stream, []).append(row)

        def render(unit: int) -> bytes:
            return payload if unit == MILLISECOND else _TIME.sub(rb'"\1":\g<2>000', payload)

        bar = event.get("k", {})
        last = next((value for value in (event.get("u"), event.get("a"), bar.get("t")) if value is not None), 0)
        self._derived.publish(StreamEvent(symbol, one.stream, render, last=int(last), final=bool(bar.get("x"))))

    def _keep(self, symbol: str, kind: str, event: dict[str, Any]) -> None:
        book = self._books.recorded[symbol]
        if kind == "bookTicker":
            book.quote(Quote(event["u"], *(units(event[name]) for name in "bBaA")))
        elif kind == self._depth[symbol]:
            if not book.update_id:  # nothing is recorded of how it was before
                book.load(event["U"] - 1, [], [])
            book.apply(event["u"], levels(event["b"]), levels(event["a"]))


def _row(kind: str, event: dict[str, Any]) -> list[Any] | None:
    """What the ledger keeps of an event that no trade has; times in milliseconds become microseconds."""
    match kind:
        case "aggTrade":
            return [event["a"], event["p"], event["q"], event["f"], event["l"], event["T"] * MILLISECOND, event["m"]]
        case "blockTrade":
            return [event["t"], event["p"], event["q"], event["T"] * MILLISECOND, event["m"]]
        case _ if event.get("k", {}).get("x"):
            bar = event["k"]
            times = bar["t"] * MILLISECOND, bar["T"] * MILLISECOND + MILLISECOND - 1
            return [*times, *(bar[name] for name in "ohlcvqnVQfL")]
        case _:
            return None


class ReplayDriver(Gated):
    """A recording, once, at its own pace times ``speed``; 0 means as fast as clients take it."""

    market: Market | None = None

    def __init__(
        self,
        exchange: Exchange,
        events: Iterator[RecordedTrade | RecordedEvent],
        *,
        others: RecordedStreams,
        speed: float,
        running: bool,
    ) -> None:
        """``others`` sends what is no trade."""
        super().__init__(running=running)
        self._exchange = exchange
        self._events = events
        self._others = others
        self._speed = speed
        self._newest = (0, 0.0)  # its event time, and when it was sent
        self._traded_us = 0
        self._made = 0
        self._sent = 0
        self._finished = False

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
            "events": self._sent,
            "finished": self._finished,
        }

    async def run(self) -> None:
        """See ``Driver``."""
        clock = asyncio.get_running_loop().time
        one = next(self._events, None)
        offset = 0.0  # recorded seconds that have passed
        first = one.received_ns if one is not None else 0
        before = clock()
        while one is not None:
            if not self._gate.is_set():
                await self._gate.wait()
                before = clock()
            await asyncio.sleep(TICK_S if self._speed else 0)
            now = clock()
            offset += (now - before) * self._speed
            before = now
            if not self._speed and self._exchange.streams.backlog > MOST_BACKLOG:
                continue
            room = UNPACED_EVENTS
            while one is not None and (room > 0 if not self._speed else (one.received_ns - first) / 1e9 <= offset):
                self._play(one, now)
                room -= 1
                if not self._speed:
                    offset = (one.received_ns - first) / 1e9
                one = next(self._events, None)
            self._exchange.streams.flush()
        self._finished = True
        await asyncio.Event().wait()

    def _play(self, one: RecordedTrade | RecordedEvent, now: float) -> None:
        if isinstance(one, RecordedEvent):
            self._others.send(one)
            self._sent += 1
            if "E" in one.event:
                self._newest = (max(self._newest[0], one.event["E"] * MILLISECOND), now)
            return
        self._exchange.record(
            self._exchange.ledger.symbols[one.symbol],
            one.trade_id,
            one.price,
            one.quantity,
            one.time_us,
            one.buyer_is_maker,
            event_us=one.event_us,
            recorded=one.payload,
        )
        self._made += 1
        self._newest = (max(self._newest[0], one.event_us), now)
        self._traded_us = one.time_us


def replay_driver(
    exchange: Exchange,
    derived: Derived,
    path: Path,
    listings: dict[str, Listing],
    *,
    speed: float,
    running: bool,
) -> ReplayDriver:
    """List the symbols of a recording, each at its first recorded id, and replay it.

    Raises ``RecordingError``, OSError, and ValueError for a symbol of which base and quote are not known.
    """
    found = recording.contents(path)
    for symbol in dict.fromkeys([*found.first_ids, *found.streams.values()]):
        listing = listings.get(symbol) or split(symbol)
        exchange.ledger.add(symbol, listing.base, listing.quote, found.first_ids.get(symbol, 1))
    others = RecordedStreams(exchange, derived, path, found)
    return ReplayDriver(exchange, recording.events(path), others=others, speed=speed, running=running)
