"""The books of all symbols, each made when it is first looked at, within bounds of memory for their history."""

from __future__ import annotations

from collections.abc import Callable

from ingest.simulator.book import Book
from ingest.simulator.ledger import Ledger, SymbolLedger
from ingest.simulator.seeded_book import LEVELS, ORDERS, SeededBook

LEAST_KEPT = 2_000
"""Updates of each book that are remembered in any case."""
BYTES_PER_UPDATE = 48
"""An update, and its share of what is remembered of the top."""


class Books:
    """Books by symbol: seeded ones, or those that a recording fills."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        seed: int = 1,
        levels: int = LEVELS,
        orders: float = ORDERS,
        price: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """``price``: where the book of a symbol begins before anything is traded."""
        self._ledger = ledger
        self._seed = seed
        self._levels = levels
        self._orders = orders
        self._price = price
        self._seeded: dict[str, SeededBook] = {}
        self.recorded: dict[str, Book] = {}
        """Books that a recording has; they go before seeded ones."""

    def of(self, symbol: SymbolLedger) -> Book:
        """The book of a symbol as it is now."""
        recorded = self.recorded.get(symbol.symbol)
        return self.seeded(symbol) if recorded is None else recorded

    def seeded(self, symbol: SymbolLedger) -> SeededBook:
        """The seeded book of a symbol as it is now."""
        book = self._seeded.get(symbol.symbol)
        if book is None or book.ledger is not symbol:  # delisted and listed again
            book = SeededBook(
                symbol, self._seed, price=self._price(symbol.symbol), levels=self._levels, orders=self._orders
            )
            self._seeded[symbol.symbol] = book
        book.follow()
        return book

    def known(self, symbol: str) -> Book | None:
        """The book of a symbol if it has been looked at before; what is traded since is not in it."""
        return self.recorded.get(symbol) or self._seeded.get(symbol)

    def trim(self, memory_mb: float) -> None:
        """Forget the oldest updates beyond a bound over all books."""
        books = [*self.recorded.values(), *self._seeded.values()]
        held = sum(map(len, books))
        most = memory_mb * 2**20 / BYTES_PER_UPDATE
        if held > most:
            for book in books:
                book.trim(max(LEAST_KEPT, int(len(book) * most / held)))
