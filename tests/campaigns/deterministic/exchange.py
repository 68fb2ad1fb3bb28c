"""An exchange in memory: trades by id, streams that lose, repeat and swap them, and a history that lags."""

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from ingest.core.errors import Reject, Retry
from ingest.core.trade import Trade
from tests.campaigns.deterministic.scheduler import Actor, VirtualTime

Deliver = Callable[[str, list[Trade]], None]
BOUNDS = (
    64,
    8192,
    10_000,
    2**16,
    2**23,
    10**6,
    2**24,
    2**31,
    10**10,
    2**32,
    2**33,
    10**12,
    10**15,
    2**53,
    10**16,
    2**62,
)
"""Where ids may be cut, rounded, cached or overflow: a symbol's ids begin a little before one of these."""
HOLES_IN_A_ROW = 2
UNREPRESENTABLE = "1e5"
"""A price of which no exact record can be made."""


class Page(msgspec.Struct):
    """A page of history."""

    trades: list[Trade]
    rejected: list[tuple[int | None, bytes, Reject]]


class Books:
    """The truth about one symbol."""

    def __init__(self, symbol: str, first_id: int) -> None:
        self.symbol = symbol
        self.reset_from: int | None = None
        """The next id before the sequence began again: nothing of the new one may be in the topic."""
        self.hidden: tuple[int, int] = (0, -1)
        """History lacks these ids, first and last: it has forgotten what the streams have sent."""
        self.first_id = first_id
        self.next_id = first_id
        self.trades: dict[int, Trade] = {}
        """What must be in the topic."""
        self.latest: dict[int, Trade] = {}
        """What history has: the same, until ids begin again."""
        self.made_at: dict[int, float] = {}


class Link:
    """One connection of one process."""

    def __init__(self, name: str, actor: Actor, deliver: Deliver) -> None:
        self.name = name
        self.actor = actor
        self.deliver = deliver
        self.open = True


class Exchange:
    """Trades happen by ``tick``; everything else is rates and switches."""

    def __init__(self, world: VirtualTime, dice: random.Random, symbols: Sequence[str]) -> None:
        self.world = world
        self.dice = dice
        self.books = {symbol: Books(symbol, _first_id(dice)) for symbol in symbols}
        self.links: list[Link] = []
        self.page = 1000
        self.lag = 0.0
        self.latency = (0.001, 0.01)
        self.gap = self.duplicate = self.swap = self.altered = self.void = self.unusable = 0.0
        """Rates per trade, the last two those of the exchange itself."""
        self.refuse = self.holed = self.late = 0.0
        """Rates per REST call."""
        self.pages = 0
        """Requests for trades."""
        self.injected = 0
        self._holed: dict[str, int] = {}
        """Replies in a row with a hole: fewer than a void needs."""

    def connect(self, name: str, actor: Actor, deliver: Deliver) -> Link:
        link = Link(name, actor, deliver)
        self.links.append(link)
        return link

    def disconnect(self, link: Link) -> None:
        link.open = False
        self.links = [one for one in self.links if one is not link]

    def list_symbol(self, symbol: str, first_id: int, trades: int) -> Books:
        """List a symbol that has traded already; nobody was told of these trades."""
        books = self.books[symbol] = Books(symbol, first_id)
        for _ in range(trades):
            self._trade(books)
        return books

    def begin_again(self, books: Books, back: int) -> None:
        """A symbol's ids go back: from now on other trades have ids that were used before."""
        books.reset_from = books.next_id
        books.next_id = max(0, books.next_id - back)

    def tell(self, trades: Sequence[Trade]) -> None:
        """Send trades that never happened."""
        for link in self.links:
            self.world.after(self.dice.uniform(*self.latency), link.actor, self._arrive, link, list(trades))

    def tick(self, count: int) -> None:
        """So many trades of any symbols happen at once, and go to everybody who listens."""
        books = list(self.books.values())
        self._send([self._trade(self.dice.choice(books)) for _ in range(count)])

    def last(self) -> None:
        """One more trade of each symbol: whoever listens learns of every hole."""
        self._send([self._trade(books) for books in self.books.values()])

    def _send(self, trades: list[Trade]) -> None:
        dice = self.dice
        for link in self.links:
            sent = self._struck(trades)
            if sent:
                self.world.after(dice.uniform(*self.latency), link.actor, self._arrive, link, sent)

    def _arrive(self, link: Link, trades: list[Trade]) -> None:
        if link.open:
            link.deliver(link.name, trades)

    def _trade(self, books: Books) -> Trade:
        dice = self.dice
        if self.void and dice.random() < self.void:
            self.injected += 1
            books.next_id += dice.randint(1, 3)
        trade_id = books.next_id
        books.next_id += 1
        price = f"{dice.randint(1, 10**6)}.5"
        if self.unusable and dice.random() < self.unusable:
            self.injected += 1
            price = UNREPRESENTABLE
        trade = Trade(books.symbol, trade_id, price, "1", self._time_us(), trade_id % 2 == 0)
        if books.reset_from is None:
            books.trades[trade_id] = trade
        books.latest[trade_id] = trade
        books.made_at[trade_id] = self.world.now
        return trade

    def _time_us(self) -> int:
        """The exchange's clock: trades of one tick share a time."""
        return self.world.time_ns() // 1000

    def _struck(self, trades: list[Trade]) -> list[Trade]:
        if not (self.gap or self.duplicate or self.swap or self.altered):
            return trades
        dice = self.dice
        sent: list[Trade] = []
        for trade in trades:
            roll = dice.random()
            if roll < self.gap:
                self.injected += 1
                continue
            sent.append(trade)
            if roll < self.gap + self.duplicate:
                self.injected += 1
                sent.append(trade)
            elif roll < self.gap + self.duplicate + self.altered:
                self.injected += 1
                sent.append(msgspec.structs.replace(trade, quantity="2"))
            elif roll < self.gap + self.duplicate + self.altered + self.swap and len(sent) > 1:
                self.injected += 1
                sent[-1], sent[-2] = sent[-2], sent[-1]
        return sent

    # --- REST, as the back-fill and the baselines see it ---

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> Page:
        self.pages += 1
        if self.late and self.dice.random() < self.late:
            self.injected += 1
            found = self._page(symbol, from_id, limit)  # what was true when it was asked
            await asyncio.sleep(self.dice.uniform(0.5, 4.0))
        else:
            await asyncio.sleep(self.dice.uniform(0.005, 0.05))
            found = self._page(symbol, from_id, limit)
        if self.refuse and self.dice.random() < self.refuse:
            self.injected += 1
            raise Retry("refused", after=self.dice.choice((0.0, 0.2, 1.0)))
        return found

    def _page(self, symbol: str, from_id: int, limit: int) -> Page:
        books, before = self.books[symbol], self.world.now - self.lag
        # An id older than the oldest is answered with the oldest.
        at, ids = max(from_id, books.first_id), list[int]()
        while at < books.next_id and len(ids) < min(limit, self.page):
            made_at = books.made_at.get(at)
            if made_at is not None and not books.hidden[0] <= at <= books.hidden[1]:
                if made_at > before:
                    break
                ids.append(at)
            at += 1
        row = self._holed.get(symbol, 0)
        holed = row < HOLES_IN_A_ROW and len(ids) > 2 and self.dice.random() < self.holed
        self._holed[symbol] = row + 1 if holed else 0
        if holed:
            self.injected += 1
            start = self.dice.choice((0, len(ids) // 3))
            del ids[start : start + max(1, len(ids) // 3)]
        return Page([books.latest[trade_id] for trade_id in ids], [])

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        await asyncio.sleep(self.dice.uniform(0.005, 0.05))
        if self.refuse and self.dice.random() < self.refuse:
            raise Retry("refused", after=0.2)
        before = self.world.now - self.lag
        found = {}
        for symbol in symbols or self.books:
            books = self.books[symbol]
            seen = [i for i, made_at in books.made_at.items() if made_at <= before and i < books.next_id]
            found[symbol] = max(seen, default=-1)
        return found


def _first_id(dice: random.Random) -> int:
    bound = dice.choice((0, 1, *BOUNDS))
    return max(0, bound - dice.randint(0, 40)) if bound > 1 else bound
