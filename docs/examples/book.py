"""Rebuild order books from any place of the topic of books, and say when each one is in sync.

    python docs/examples/book.py --symbol BTCUSDT --from 2026-01-31T12:00Z
    python docs/examples/book.py --symbol BTCUSDT --follow --every 100

A book is in sync from the first snapshot on. Every later snapshot verifies it, as far as both are known: a snapshot
holds the best levels, and says nothing of those beyond them. After a break the book is unknown until the next snapshot.
Exit code 0: every book is in sync; 1: one is not, or a snapshot differed from it; 2: nothing could be read.
"""

import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from trades import options, reader

from ingest.reader import BookSnapshot, BookUpdate, Break, Deleted, Gap, Level, ReaderError, Record

WHOLE = 1000
"""A snapshot with fewer levels on a side has all of that side: the service requests this many."""
Side = dict[Decimal, Decimal]


class Book:
    """One symbol's book, made of the records of the topic in their order."""

    def __init__(self) -> None:
        self.bids: Side = {}
        self.asks: Side = {}
        self.update_id: int | None = None
        self.in_sync = False
        self.verified = self.differing = self.updates = self.breaks = 0
        self._known: list[Decimal | None] = [None, None]
        self._pending: Book | None = None

    def take(self, record: Record) -> None:
        """Take the next record of this symbol."""
        match record:
            case BookUpdate():
                self._update(record)
            case BookSnapshot():
                self._snapshot(record)
            case Break() | Gap() | Deleted():
                self.breaks += 1
                self.in_sync, self._pending = False, None
            case _:
                pass

    def best(self) -> tuple[Decimal | None, Decimal | None]:
        """The best bid and ask."""
        return max(self.bids, default=None), min(self.asks, default=None)

    def _update(self, update: BookUpdate) -> None:
        self.updates += 1
        if self.in_sync and self.update_id is not None and update.final_update_id > self.update_id:
            self._apply(update)
            self._verify(update)

    def _apply(self, update: BookUpdate) -> None:
        for side, levels in ((self.bids, update.bids), (self.asks, update.asks)):
            for price, quantity in levels:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)  # a level that was never known may be removed
        self.update_id = update.final_update_id

    def _snapshot(self, snapshot: BookSnapshot) -> None:
        fresh = Book()
        fresh._fill(snapshot)
        if not self.in_sync:
            self._become(fresh)
        elif self.update_id is not None and snapshot.final_update_id >= self.update_id:
            self._pending = fresh
            self._verify(None)

    def _fill(self, snapshot: BookSnapshot) -> None:
        self.bids, self.asks = dict(snapshot.bids), dict(snapshot.asks)
        self.update_id, self.in_sync = snapshot.final_update_id, True
        self._known = [_edge(snapshot.bids, worst=min), _edge(snapshot.asks, worst=max)]

    def _become(self, other: "Book") -> None:
        self.bids, self.asks, self._known = other.bids, other.asks, other._known
        self.update_id, self.in_sync, self._pending = other.update_id, True, None

    def _verify(self, update: BookUpdate | None) -> None:
        """Compare with a snapshot once the updates have reached its id; from then on it is the book."""
        pending = self._pending
        if pending is None or pending.update_id is None or (self.update_id or 0) < pending.update_id:
            return
        if update is not None and update.final_update_id > pending.update_id:
            pending._apply(update)
        same = _same(self.bids, pending.bids, max, self._known[0], pending._known[0])
        same = same and _same(self.asks, pending.asks, min, self._known[1], pending._known[1])
        self.verified, self.differing = self.verified + same, self.differing + (not same)
        self._become(pending)


def _edge(levels: list[Level], *, worst: Any) -> Decimal | None:
    return worst(level.price for level in levels) if len(levels) >= WHOLE else None


def _same(one: Side, other: Side, best: Any, *edges: Decimal | None) -> bool:
    """Whether two sides are equal as far as both are known."""
    bounds = [edge for edge in edges if edge is not None]
    if not bounds:
        return one == other
    bound = best(bounds)
    inside = [{p: q for p, q in side.items() if best(p, bound) == p} for side in (one, other)]
    return inside[0] == inside[1]


def books(records: Iterable[Record], every: int = 0) -> dict[str, Book]:
    """The book of each symbol at the end; prints when one gets in sync or loses it, and each ``every`` updates."""
    found: dict[str, Book] = {}
    for record in records:
        # What was deleted can be of any symbol.
        for symbol in tuple(found) if isinstance(record, Deleted) else (record.symbol,):
            book = found.setdefault(symbol, Book())
            before = book.in_sync
            book.take(record)
            if book.in_sync != before:
                sys.stdout.write(f"{symbol} {'in sync at' if book.in_sync else 'lost after'} {book.update_id}\n")
            if every and isinstance(record, BookUpdate) and book.in_sync and book.updates % every == 0:
                bid, ask = book.best()
                sys.stdout.write(f"{symbol} {book.update_id} bid {bid} ask {ask}\n")
    return found


def main() -> int:
    """Rebuild and report."""
    parser = options("Order books.", "books")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="print the best prices after every N updates")
    arguments = parser.parse_args()
    try:
        with reader(arguments) as records:
            found = books(records, arguments.every)
    except ReaderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    for symbol, book in sorted(found.items()):
        bid, ask = book.best()
        state = "in sync" if book.in_sync else "not in sync"
        sys.stdout.write(
            f"{symbol} {state} at {book.update_id}: bid {bid} ask {ask}, {len(book.bids)} and {len(book.asks)} levels, "
            f"{book.updates} updates, {book.breaks} breaks, {book.verified} snapshots equal, {book.differing} not\n"
        )
    if not found:
        return 2
    return 0 if all(book.in_sync and not book.differing for book in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
