"""What the exchange says about books and quotes: every update in the simulator's ledger, or a snapshot by REST."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

import msgspec

from ingest.audit.ledger import RestLedger
from ingest.audit.levels import RebuiltBook, amount
from ingest.audit.model import Entry, LedgerPage
from ingest.audit.stream_ledger import Page, SimulatorStreamLedger

SNAPSHOT_LEVELS = 1000
"""Weight 50."""


class Rows:
    """The rows of a ledger in step with the topic: they are fetched as ids go up, and dropped behind."""

    def __init__(self, fetch: Callable[[int], Page]) -> None:
        """``fetch`` returns the page that begins with an id."""
        self._fetch = fetch
        self._rows: list[list[Any]] = []
        self._floor = -1
        self._begin = self._next = -1

    def between(self, first: int, last: int) -> list[list[Any]] | None:
        """The rows with these ids; None where the ledger no longer has all of them."""
        if first < self._begin or self._begin < 0 or first > self._next:
            self._rows, self._begin, self._next = [], first, first
        while self._next <= last:
            page = self._fetch(self._next)
            self._rows += page.rows
            self._floor = max(self._floor, page.floor_id)
            if page.next_from_id is None:
                self._next = max(self._next, page.last_id + 1)
                break
            self._next = page.next_from_id
        start = bisect_left(self._rows, first, key=_number)
        del self._rows[:start]
        self._begin = first
        return None if first <= self._floor else self._rows[: bisect_right(self._rows, last, key=_number)]


def _number(row: list[Any]) -> int:
    return int(row[0])


class _Book(msgspec.Struct, frozen=True):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    update_id: int = msgspec.field(default=-1)
    last_update_id: int = msgspec.field(name="lastUpdateId", default=-1)

    def rebuilt(self, update_id: int) -> RebuiltBook:
        return RebuiltBook(update_id, _levels(self.bids), _levels(self.asks))


def _levels(side: list[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(amount(price) or 0, amount(quantity) or 0) for price, quantity in side]


class SimulatorBooks(SimulatorStreamLedger):
    """The simulator's ledger of books and of best prices."""

    def truth(self, symbol: str, limit: int) -> "SimulatorTruth":
        """What it says about a symbol; ``limit``: rows of one page."""
        return SimulatorTruth(self, symbol, limit)

    def rows(self, symbol: str, from_id: int, limit: int) -> Page:
        """One page."""
        return self._rows(symbol, from_id, min(limit, self.page_limit))

    def book(self, symbol: str, update_id: int) -> RebuiltBook | None:
        """The whole book after an update; None if the simulator no longer has it."""
        answer = self._http.get("/admin/book", {"symbol": symbol, "id": update_id})
        return None if answer.status_code == 400 else self._http.decode(answer, _Book).rebuilt(update_id)


class SimulatorTruth:
    """Everything that the simulator knows of a symbol's book or best prices."""

    def __init__(self, ledger: SimulatorBooks, symbol: str, limit: int) -> None:
        self._ledger = ledger
        self._symbol = symbol
        self._rows = Rows(lambda from_id: ledger.rows(symbol, from_id, limit))

    def changes(self, first_id: int, last_id: int) -> tuple[dict[int, int], dict[int, int]] | None:
        """See ``BookTruth``."""
        rows = self._rows.between(first_id, last_id)
        if rows is None:
            return None
        sides: dict[str, dict[int, int]] = {"b": {}, "a": {}}
        for _, side, price, quantity in rows:
            sides[side][amount(price) or 0] = amount(quantity) or 0
        return sides["b"], sides["a"]

    def book(self, update_id: int) -> RebuiltBook | None:
        """See ``BookTruth``."""
        return self._ledger.book(self._symbol, update_id)

    def snapshot(self) -> RebuiltBook | None:
        """Nothing: every single update is compared."""
        return None

    def quotes(self, first_id: int, last_id: int) -> dict[int, tuple[int, ...]] | None:
        """See ``QuoteTruth``."""
        rows = self._rows.between(first_id, last_id)
        return None if rows is None else {row[0]: tuple(amount(text) or 0 for text in row[1:]) for row in rows}


class RestBooks(RestLedger):
    """The exchange: assets, and a snapshot of each book. It keeps no history of books and quotes."""

    def truth(self, symbol: str, limit: int) -> "RestTruth":
        """What it says about a symbol."""
        return RestTruth(self, symbol)

    def newest(self, symbol: str) -> Entry | None:
        """Nothing: there is no history."""
        return None

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """Nothing: there is no history."""
        return LedgerPage([], None)

    def book(self, symbol: str) -> RebuiltBook:
        """The best levels now."""
        query: dict[str, str | int] = {"symbol": symbol, "limit": SNAPSHOT_LEVELS}
        found = self._http.read(lambda: self._get("/api/v3/depth", query), _Book)
        return found.rebuilt(found.last_update_id)


class RestTruth:
    """What the exchange's REST says about a symbol's book."""

    def __init__(self, ledger: RestBooks, symbol: str) -> None:
        self._ledger = ledger
        self._symbol = symbol

    def changes(self, first_id: int, last_id: int) -> tuple[dict[int, int], dict[int, int]] | None:
        """Not known."""
        return None

    def book(self, update_id: int) -> RebuiltBook | None:
        """Not known."""
        return None

    def snapshot(self) -> RebuiltBook | None:
        """The book now."""
        return self._ledger.book(self._symbol)

    def quotes(self, first_id: int, last_id: int) -> dict[int, tuple[int, ...]] | None:
        """Not known."""
        return None
