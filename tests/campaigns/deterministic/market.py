"""The other streams of the exchange in memory: a book of each symbol, its updates, its quotes, and aggregates.

Update ids are those of the book: each change has one, an update spans those of a moment, and a quote is sent where a
change has moved the top. Links deliver in order, as a connection does; what a fault leaves out is gone for that link.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ingest.core.errors import Retry
from ingest.core.market_events import AggTrade, DepthUpdate, Quote
from tests.campaigns.deterministic.exchange import BOUNDS, Books
from tests.campaigns.deterministic.scheduler import Actor, VirtualTime

STREAMS = ("aggTrade", "bookTicker", "depth")
LEVELS = 6
WITHIN = 0.05
"""Seconds for which REST may still answer with a book of within the last moment's changes."""
Deliver = Callable[[str, list[Any]], None]
Side = dict[str, str]
"""Price -> quantity."""


class Link:
    """One connection of one process to one stream. What the lane of quotes looks at has the names of a connection."""

    def __init__(self, stream: str, name: str, actor: Actor, deliver: Deliver, symbols: set[str]) -> None:
        self.stream = stream
        self.name = name
        self.actor = actor
        self.deliver = deliver
        self.symbols = symbols
        self.open = True
        self.joined = False
        """Whether the exchange sends on it."""
        self.live_at: float | None = None
        self.last_frame_at = 0.0
        self.due = 0.0
        """When the last frame that is under way arrives."""


class Book:
    """The truth about one symbol's book."""

    def __init__(self, symbol: str, first_id: int, dice: random.Random) -> None:
        self.symbol = symbol
        self._dice = dice
        self.last_id = first_id
        self.changed_us = 0
        self.bids: Side = {f"{90 + n}.0": "1" for n in range(LEVELS)}
        self.asks: Side = {f"{101 + n}.0": "1" for n in range(LEVELS)}
        self.updates: dict[int, DepthUpdate] = {}
        """By their last id."""
        self.quotes: dict[int, Quote] = {}
        self.at: dict[int, tuple[Side, Side]] = {first_id: (dict(self.bids), dict(self.asks))}

    def change(self, count: int, now_us: int) -> tuple[DepthUpdate, list[Quote]]:
        """So many changes at one moment; returns the update that spans them, and the quotes."""
        dice, first_id = self._dice, self.last_id + 1
        self.changed_us = now_us
        touched: tuple[Side, Side] = ({}, {})
        quotes = []
        for _ in range(count):
            before = self._top()
            place = dice.randrange(2)
            side = (self.bids, self.asks)[place]
            price = f"{(90, 101)[place] + dice.randrange(LEVELS)}.0"
            quantity = "0" if len(side) > 1 and dice.random() < 0.4 else str(dice.randint(1, 99))
            if quantity == "0":
                side.pop(price, None)
            else:
                side[price] = quantity
            touched[place][price] = quantity
            self.last_id += 1
            self.at[self.last_id] = (dict(self.bids), dict(self.asks))
            if self._top() != before:
                quote = self.quotes[self.last_id] = Quote(self.symbol, self.last_id, *self._top())
                quotes.append(quote)
        bids, asks = (list(side.items()) for side in touched)
        update = DepthUpdate(self.symbol, first_id, self.last_id, now_us, bids, asks)
        self.updates[self.last_id] = update
        return update, quotes

    def _top(self) -> tuple[str, str, str, str]:
        bid, ask = max(self.bids, key=float), min(self.asks, key=float)
        return bid, self.bids[bid], ask, self.asks[ask]


class Market:
    """Books and aggregates of all symbols; what goes wrong are rates and switches."""

    def __init__(self, world: VirtualTime, dice: random.Random, symbols: Sequence[str]) -> None:
        self.world = world
        self.dice = dice
        self.books = {symbol: Book(symbol, self._first_id(), dice) for symbol in symbols}
        self.aggregates = {symbol: Books(f"aggTrade:{symbol}", self._first_id()) for symbol in symbols}
        self.links: list[Link] = []
        self.latency = (0.001, 0.01)
        self.gap = self.duplicate = self.swap = 0.0
        """Rates per event. A quote is only ever doubled: its ids have gaps, so that nobody could tell a lost one."""
        self.refuse = self.stale = self.ahead = 0.0
        """Rates per REST call: refused, with a book of before, answered so late that the stream is ahead."""
        self.strikes: dict[tuple[str, str], int] = {}
        """Stream and symbol -> by how much the id of the next event that is sent is wrong, on one connection."""
        self.injected = 0

    def _first_id(self) -> int:
        return max(1, self.dice.choice(BOUNDS) - self.dice.randint(0, 40))

    def heal(self) -> None:
        """From now on all is well."""
        self.gap = self.duplicate = self.swap = self.refuse = self.stale = self.ahead = 0.0
        self.strikes.clear()

    # --- streams ---

    def connect(self, stream: str, name: str, actor: Actor, deliver: Deliver) -> Link:
        """Open a connection: the exchange sends on it a moment later, and its client knows it a moment after that."""
        link = Link(stream, name, actor, deliver, set(self.books))
        self.links.append(link)
        joins = self.dice.uniform(*self.latency)
        self.world.after(joins, None, setattr, link, "joined", True)
        self.world.after(joins + self.dice.uniform(*self.latency), actor, self._live, link)
        return link

    def _live(self, link: Link) -> None:
        link.live_at = self.world.now

    def disconnect(self, link: Link) -> None:
        """End a connection; what is under way is lost."""
        link.open = False
        self.links = [one for one in self.links if one is not link]

    def tick(self, count: int) -> None:
        """So many events of any symbols."""
        for _ in range(count):
            self._event(self.dice.choice(sorted(self.books)), self.dice.randint(1, 4))

    def last(self) -> None:
        """One more event of each stream and symbol: whoever listens learns of everything that is missing."""
        for symbol, book in self.books.items():
            quotes = len(book.quotes)
            while len(book.quotes) == quotes:
                self._event(symbol, 2)
            self._aggregate(symbol)

    def _event(self, symbol: str, changes: int) -> None:
        update, quotes = self.books[symbol].change(changes, self._now_us())
        self._send("bookTicker", quotes)
        self._send("depth", [update])
        if self.dice.random() < 0.4:
            self._aggregate(symbol)

    def _aggregate(self, symbol: str) -> None:
        books = self.aggregates[symbol]
        number = books.next_id
        books.next_id += 1
        price = f"{self.dice.randint(1, 10**6)}.5"
        one = AggTrade(symbol, number, price, "1", number, number, self._now_us(), number % 2 == 0)
        books.trades[number] = books.latest[number] = one  # type: ignore[assignment]  # what the judge looks at
        self._send("aggTrade", [one])

    def _now_us(self) -> int:
        return self.world.time_ns() // 1000

    def _send(self, stream: str, events: list[Any]) -> None:
        for link in self.links:
            if link.stream != stream or not link.joined:
                continue
            sent = self._struck(stream, events)
            if not sent:
                continue
            sent = self._renumbered(stream, sent)
            due = link.due = max(link.due, self.world.now + self.dice.uniform(*self.latency))
            if self.swap and stream != "bookTicker" and self.dice.random() < self.swap:
                self.injected += 1
                due += self.dice.uniform(0.02, 0.4)  # later than what follows it
            self.world.at(due, link.actor, self._arrive, link, sent)

    def _struck(self, stream: str, events: list[Any]) -> list[Any]:
        gap = 0.0 if stream == "bookTicker" else self.gap
        if not (gap or self.duplicate):
            return events
        sent: list[Any] = []
        for event in events:
            roll = self.dice.random()
            if roll < gap:
                self.injected += 1
                continue
            sent.append(event)
            if roll < gap + self.duplicate:
                self.injected += 1
                sent.append(event)
        return sent

    def _renumbered(self, stream: str, events: list[Any]) -> list[Any]:
        number = events[0].trade_id + self.strikes.pop((stream, events[0].symbol), 0)
        if number == events[0].trade_id or number < 1:
            return events
        self.injected += 1
        return [msgspec.structs.replace(events[0], trade_id=number), *events[1:]]

    def _arrive(self, link: Link, events: list[Any]) -> None:
        if link.open:
            link.last_frame_at = self.world.now
            link.deliver(link.name, events)

    # --- REST ---

    async def answer(self, path: str, params: Mapping[str, str]) -> bytes:
        """The body of an answer, as the exchange writes it. Raises ``Retry``."""
        await asyncio.sleep(self.dice.uniform(0.005, 0.05))
        if self.refuse and self.dice.random() < self.refuse:
            self.injected += 1
            raise Retry("refused", after=self.dice.choice((0.0, 0.2, 1.0)))
        symbol = params["symbol"]
        if path.endswith("aggTrades"):
            return self._page(self.aggregates[symbol], int(params["fromId"]), int(params["limit"]))
        return await self._snapshot(self.books[symbol])

    async def _snapshot(self, book: Book) -> bytes:
        """A book as it was within the last moment's changes, sometimes of long before, sometimes long under way."""
        known = list(book.at)
        back = self.dice.randint(0, 2) if self._now_us() - book.changed_us < WITHIN * 1e6 else 0
        if self.stale and self.dice.random() < self.stale:
            self.injected += 1
            back = self.dice.randint(3, 60)
        update_id = known[max(0, len(known) - 1 - back)]
        bids, asks = book.at[update_id]
        if self.ahead and self.dice.random() < self.ahead:
            self.injected += 1
            await asyncio.sleep(self.dice.uniform(0.5, 3.0))
        best = (
            sorted(bids.items(), key=lambda level: -float(level[0])),
            sorted(asks.items(), key=lambda level: float(level[0])),
        )
        return msgspec.json.encode({"lastUpdateId": update_id, "bids": best[0], "asks": best[1]})

    def _page(self, books: Books, from_id: int, limit: int) -> bytes:
        first = max(from_id, books.first_id)
        found: list[Any] = [books.latest[n] for n in range(first, min(first + limit, books.next_id))]
        return msgspec.json.encode([
            {"a": one.trade_id, "p": one.price, "q": one.quantity, "f": one.first_trade_id, "l": one.last_trade_id,
             "T": one.trade_time_us, "m": one.buyer_is_maker}
            for one in found
        ])  # fmt: skip
