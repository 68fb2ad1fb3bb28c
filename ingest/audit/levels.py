"""A book as the auditor rebuilds it: prices and quantities in units of 1e-8, and how far it is known."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ingest.audit.content import SCALE, exact

WHOLE = 1000
"""A snapshot with fewer levels on a side has all of that side: snapshots are requested with this many at least."""

Changes = list[tuple[int, int]]
"""Price and quantity of levels; 0 removes one."""


def amount(value: Any) -> int | None:
    """A decimal in units of 1e-8: bytes of a record, text of the exchange; None if it is neither."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "big", signed=True)
    found = Decimal(value) if isinstance(value, str) else exact(value)
    return None if found is None else int(found.scaleb(SCALE))


def side_of(record: Mapping[str, Any], name: str) -> Changes:
    """The levels of a record's side. Raises ``ValueError`` for one that is none."""
    found = []
    for level in record[name]:
        price, quantity = amount(level["price"]), amount(level["quantity"])
        if price is None or quantity is None or price <= 0 or quantity < 0:
            raise ValueError(f"{name} has the level {level}")
        found.append((price, quantity))
    return found


class Side:
    """One side of a book. ``sign`` is 1 for bids and -1 for asks: a greater ``sign * price`` is better."""

    def __init__(self, sign: int, levels: Iterable[tuple[int, int]] = ()) -> None:
        self._sign = sign
        self.quantities = dict(levels)
        self._keys = sorted(sign * price for price in self.quantities)
        self.known = self._keys[0] if len(self._keys) >= WHOLE else None
        """The worst key that the snapshot had; beyond it a level is known only once it has changed. None: no bound."""

    @property
    def best(self) -> int | None:
        """The best price; None on an empty side."""
        return self._sign * self._keys[-1] if self._keys else None

    def apply(self, changes: Changes) -> None:
        """Set levels; what is not there need not be removed."""
        for price, quantity in changes:
            key = self._sign * price
            if quantity:
                if price not in self.quantities:
                    insort(self._keys, key)
                self.quantities[price] = quantity
            elif self.quantities.pop(price, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def difference(self, other: "Side") -> tuple[int, int, int] | None:
        """Return the best level at which two books differ, with both quantities, as far as both are known."""
        bounds = [one.known for one in (self, other) if one.known is not None]
        bound = max(bounds) if bounds else None
        unequal = [
            self._sign * price
            for price in self.quantities.keys() | other.quantities.keys()
            if self.quantities.get(price, 0) != other.quantities.get(price, 0)
            and (bound is None or self._sign * price >= bound)
        ]
        if not unequal:
            return None
        price = self._sign * max(unequal)
        return price, self.quantities.get(price, 0), other.quantities.get(price, 0)


class RebuiltBook:
    """Both sides, and the id up to which updates are in them."""

    def __init__(self, update_id: int, bids: Changes, asks: Changes) -> None:
        self.update_id = update_id
        self.bids = Side(1, bids)
        self.asks = Side(-1, asks)

    def apply(self, update_id: int, bids: Changes, asks: Changes) -> None:
        """Take an update."""
        self.bids.apply(bids)
        self.asks.apply(asks)
        self.update_id = update_id

    @property
    def crossed(self) -> bool:
        """Whether a bid is not below every ask."""
        bid, ask = self.bids.best, self.asks.best
        return bid is not None and ask is not None and bid >= ask

    def difference(self, other: "RebuiltBook") -> str | None:
        """The best level that is not equal, as text; None where all are."""
        for name, mine, others in (("bid", self.bids, other.bids), ("ask", self.asks, other.asks)):
            found = mine.difference(others)
            if found is not None:
                price, here, there = (f"{Decimal(one).scaleb(-SCALE):f}" for one in found)
                return f"{name} {price}: {here} here, {there} there"
        return None
