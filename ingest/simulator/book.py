"""A limit-order book with its history: levels of both sides, every update by its id, and every change of the top.

Prices and quantities are integers in units of 1e-8. A level is keyed by its price, positive for a bid and negative for
an ask, so that on both sides a greater key is a better price. Binance's update ids count every change of a book;
depth events and best prices name the ones they contain.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Level = tuple[int, int]
"""Price and quantity."""


class Quote(NamedTuple):
    """The top of the book after an update; price and quantity are 0 on a side that is empty."""

    update_id: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int


class Book:
    """One symbol's book. ``set_level`` changes it; what it remembers goes back to ``floor_id``."""

    def __init__(self, update_id: int) -> None:
        self.update_id = update_id
        """Of the newest update; that of the state before the first one at the start."""
        self.floor_id = update_id
        """The state at this id, and every update after it, are remembered."""
        self._bids: list[int] = []
        self._asks: list[int] = []
        self._quantities: dict[int, int] = {}
        self._floor: dict[int, int] = {}
        self._ids = array("q")
        self._keys = array("q")
        self._after = array("q")
        """Ids, keys and quantities of the updates since the floor."""
        self._quotes = [array("q") for _ in Quote._fields]

    def __len__(self) -> int:
        """Updates that are remembered."""
        return len(self._ids)

    # The state.

    def side(self, *, bids: bool, limit: int) -> list[Level]:
        """Up to ``limit`` levels of a side, the best first."""
        keys = self._bids if bids else self._asks
        return [(abs(key), self._quantities[key]) for key in keys[: -limit - 1 : -1]]

    def newest_quote(self) -> Quote:
        """The best prices now; of a recording the last ones that it has, which may be newer than its levels."""
        ids = self._quotes[0]
        newer = bool(ids) and ids[-1] > self.update_id
        return Quote(*(column[-1] for column in self._quotes)) if newer else self.top()

    @property
    def last_quote_id(self) -> int:
        """The id of the newest change of the top that is remembered; -1 without one."""
        return self._quotes[0][-1] if self._quotes[0] else -1

    def top(self) -> Quote:
        """The best prices by the levels."""
        bid = self._bids[-1] if self._bids else 0
        ask = self._asks[-1] if self._asks else 0
        get = self._quantities.get
        return Quote(self.update_id, bid, get(bid, 0), -ask, get(ask, 0))

    def at(self, update_id: int) -> tuple[list[Level], list[Level]] | None:
        """Both sides as they were after an update, the best first; None if that is not remembered."""
        if not self.floor_id <= update_id <= self.update_id:
            return None
        state = dict(self._floor)
        for key, quantity in self.changes(self.floor_id, update_id).items():
            _put(state, key, quantity)
        keys = sorted(state, reverse=True)
        return [(key, state[key]) for key in keys if key > 0], [(-key, state[key]) for key in keys if key < 0]

    # The history.

    def changes(self, after: int, up_to: int) -> dict[int, int]:
        """Every level that was touched after one id and not after another, and its quantity then; 0 is none."""
        first, end = bisect_right(self._ids, after), bisect_right(self._ids, up_to)
        return dict(zip(self._keys[first:end], self._after[first:end], strict=True))

    def updates(self, after: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """Id, key and quantity of the oldest updates after an id."""
        first = bisect_right(self._ids, after)
        part = slice(first, first + limit)
        return zip(self._ids[part], self._keys[part], self._after[part], strict=True)

    def quotes(self, after: int, limit: int) -> Iterator[Quote]:
        """The oldest changes of the top after an id."""
        first = bisect_right(self._quotes[0], after)
        return map(Quote, *(column[first : first + limit] for column in self._quotes))

    # Changes.

    def set_level(self, key: int, quantity: int) -> None:
        """Update one level under the next id."""
        self.update_id += 1
        self._change(key, quantity)

    def apply(self, update_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Update many levels under one id, as a recorded event does; an id that is not higher changes nothing."""
        if update_id <= self.update_id:
            return
        self.update_id = update_id
        for sign, levels in ((1, bids), (-1, asks)):
            for price, quantity in levels:
                self._note(sign * price, quantity)

    def quote(self, quote: Quote) -> None:
        """Remember a recorded change of the top; one that is not newer than the last is left out."""
        if not self._quotes[0] or quote.update_id > self._quotes[0][-1]:
            for column, value in zip(self._quotes, quote, strict=True):
                column.append(value)

    def load(self, update_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Begin again with this state; nothing before it is remembered."""
        self._quantities = dict(bids)
        self._quantities |= {-price: quantity for price, quantity in asks}
        self._bids = sorted(key for key in self._quantities if key > 0)
        self._asks = sorted(key for key in self._quantities if key < 0)
        self._floor = dict(self._quantities)
        self.update_id = self.floor_id = update_id
        for column in (self._ids, self._keys, self._after, *self._quotes):
            del column[:]

    def trim(self, keep: int) -> None:
        """Forget all but the newest ``keep`` updates, and changes of the top as old as those."""
        gone = len(self._ids) - keep
        if gone <= 0:
            return
        floor_id = self._ids[gone - 1]
        gone = bisect_right(self._ids, floor_id)  # one event has many levels under one id
        for key, quantity in zip(self._keys[:gone], self._after[:gone], strict=True):
            _put(self._floor, key, quantity)
        for column in (self._ids, self._keys, self._after):
            del column[:gone]
        old = bisect_right(self._quotes[0], floor_id)
        for column in self._quotes:
            del column[:old]
        self.floor_id = floor_id

    def _change(self, key: int, quantity: int) -> None:
        """Update a level and remember the top if that has changed."""
        side = self._bids if key > 0 else self._asks
        at_top = not side or key >= side[-1]
        self._note(key, quantity)
        if at_top:
            self.quote(self.top())

    def _note(self, key: int, quantity: int) -> None:
        quantities = self._quantities
        side = self._bids if key > 0 else self._asks
        if not quantity:
            if quantities.pop(key, None) is not None:
                del side[bisect_right(side, key) - 1]
        else:
            if key not in quantities:
                insort(side, key)
            quantities[key] = quantity
        self._ids.append(self.update_id)
        self._keys.append(key)
        self._after.append(quantity)


def _put(state: dict[int, int], key: int, quantity: int) -> None:
    if quantity:
        state[key] = quantity
    else:
        state.pop(key, None)
