"""The book of a seeded market: each trade takes what it takes from the best price, and orders come and go around it.

A trade at a price is possible only where that price is the best of its side and has enough to take. So the levels that
are better are withdrawn first and the quantity is made up if need be, each under an update id of its own, and then the
trade takes its quantity. After it a few orders are placed, changed and withdrawn, mostly near the top. What happens
depends on the seed and on the trades alone; the book is made when it is first looked at and follows the trades when it
is looked at again, so that a market whose books are of no interest costs nothing.
"""

from __future__ import annotations

import random

from ingest.simulator.book import Book, Level
from ingest.simulator.ledger import INT64_MAX, SymbolLedger
from ingest.simulator.rest_market import last_price, units

LEVELS = 200
"""Of one side, usually; half as many at least and half as many again at most."""
ORDERS = 4.0
"""That follow a trade, on average."""
MOST_BEHIND = 20_000
"""Trades after which a book that was not looked at begins again, instead of following each of them."""
IDS_PER_TRADE = 8
_IMPROVE, _ADD, _REMOVE = 15, 10, 6
"""Bounds of the sixteen equally likely kinds of order: above the first improves, ..., up to the last changes."""
_WIDE = 8
"""Ticks between the best prices from which every second order closes in on the other side."""


class SeededBook(Book):
    """The book that goes with a symbol's ledger."""

    def __init__(
        self, ledger: SymbolLedger, seed: int, *, price: int = 0, levels: int = LEVELS, orders: float = ORDERS
    ) -> None:
        """``price``: where the book begins if nothing has been traded yet; 0 leaves it empty until then."""
        self._draw = random.Random(f"{seed}:{ledger.symbol}:{ledger.first_id}:book")  # noqa: S311 - repeatable
        first_id = self._draw.randrange(2**30, 2**36)
        super().__init__(first_id + ledger.sent_trades * IDS_PER_TRADE)
        self.ledger = ledger
        self._levels = levels
        self._orders = orders
        self._tick = max(1, units(ledger.tick_size))
        self._step = max(1, units(ledger.step_size))
        self._cursor = ledger.sent_trades
        self._begin(last_price(ledger) or price)

    def follow(self) -> None:
        """Catch up with the trades."""
        ledger, due = self.ledger, self.ledger.sent_trades
        behind = due - self._cursor
        if not behind:
            return
        if behind > MOST_BEHIND:
            self.update_id += behind * IDS_PER_TRADE
            self._begin(last_price(ledger))
        else:
            for run in ledger.columns(range(self._cursor, due)):
                for price, quantity, maker in zip(run.prices, run.quantities, run.makers, strict=True):
                    self._trade(price, quantity, 1 if maker else -1)
        self._cursor = due

    def cross(self) -> int:
        """Bid more than the best ask, which no exchange allows; the price. The next trade clears it."""
        ask = self.top().ask
        price = min(INT64_MAX, (ask or last_price(self.ledger) or self._tick) + self._tick)
        self.set_level(price, self._quantity(price))
        return price

    def _begin(self, price: int) -> None:
        bids: list[Level] = []
        asks: list[Level] = []
        if price:
            self._fill(bids, price, -self._tick)
            self._fill(asks, price + self._tick, self._tick)
        self.load(self.update_id, bids, asks)

    def _fill(self, side: list[Level], price: int, tick: int) -> None:
        bits = self._draw.getrandbits(2 * self._levels)
        for _ in range(self._levels):
            if not 0 < price <= INT64_MAX:
                return
            side.append((price, self._quantity(price)))
            price += tick * (1, 1, 2, 5)[bits & 3]
            bits >>= 2

    def _trade(self, price: int, quantity: int, sign: int) -> None:
        """``sign``: 1 if a bid is taken, -1 if an ask is."""
        key = sign * price
        side, other = (self._bids, self._asks) if sign > 0 else (self._asks, self._bids)
        while side and side[-1] > key:
            self.set_level(side[-1], 0)
        while other and other[-1] >= -key:
            self.set_level(other[-1], 0)
        resting = self._quantities.get(key, 0)
        if resting < quantity:
            resting = quantity + (self._quantity(price) if self._draw.getrandbits(1) else 0)
            resting = min(resting, INT64_MAX)
            self.set_level(key, resting)
        self.set_level(key, resting - quantity)
        self._refill(price)
        whole = int(self._orders)
        for _ in range(whole + (self._draw.random() < self._orders - whole)):
            self._order()

    def _refill(self, price: int) -> None:
        """A side that has become empty begins again next to the other one."""
        for side, other, sign in ((self._bids, self._asks, 1), (self._asks, self._bids, -1)):
            if not side:
                self._place(sign, (-other[-1] if other else sign * price) - self._tick)

    def _order(self) -> None:
        bits = self._draw.getrandbits(40)
        sign = 1 if bits & 1 else -1
        side, other = (self._bids, self._asks) if sign > 0 else (self._asks, self._bids)
        if not side:
            return
        kind, near, far = bits >> 1 & 15, bits >> 5 & 4095, 1 + (bits >> 17 & 3)
        place = near * near * near * len(side) >> 36
        key = side[-1 - place]
        wide = bool(other) and -other[-1] - side[-1] > _WIDE * self._tick
        if wide and kind & 1:
            self._place(sign, -other[-1] - far * self._tick)
        elif len(side) * 2 < self._levels:
            self._place(sign, side[0] - far * self._tick)
        elif len(side) * 2 > self._levels * 3:
            self.set_level(side[0], 0)
        elif kind >= _IMPROVE:
            self._place(sign, side[-1] + self._tick)
        elif kind >= _ADD:
            self._place(sign, key - far * self._tick)
        elif kind >= _REMOVE and len(side) > 1:
            self.set_level(key, 0)
        else:
            self.set_level(key, self._quantity(abs(key)))

    def _place(self, sign: int, key: int) -> None:
        """An order at a price, unless that would cross the other side or is no price."""
        other = self._asks if sign > 0 else self._bids
        if 0 < sign * key <= INT64_MAX and not (other and other[-1] >= -key):
            self.set_level(key, self._quantity(abs(key)))

    def _quantity(self, price: int) -> int:
        usual = 10**18 // price // self._step  # as much as costs a hundred
        return min(INT64_MAX // 4, self._step * max(1, usual * (1 + self._draw.getrandbits(7)) >> 4))
