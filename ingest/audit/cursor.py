"""Random access to one symbol's trades in the ledger, page by page, in step with the topic."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator

from ingest.audit.ledger import Ledger
from ingest.audit.model import Entry, Inconclusive, LedgerPage
from ingest.audit.ranges import Range, merged, split

TRADES_IN_MEMORY = 300_000
"""Over the pages of all symbols together."""
CONFIRMATIONS = 2
"""Further replies that must lack an id before a history counts as evidence that it does not exist."""
MOST_CONFIRMED = 20
"""Absent ids of a symbol that are confirmed so; from then on one reply is enough."""


class _Page:
    """A window onto the ledger; within it, ids that are not there do not exist."""

    __slots__ = ("first", "index", "last", "open", "trades")

    def __init__(self, from_id: int, page: LedgerPage) -> None:
        self.trades = page.trades
        self.first = from_id
        self.open = page.next_from_id is None
        newest = page.trades[-1].trade_id if page.trades else from_id - 1
        self.last = newest if page.next_from_id is None else max(newest, page.next_from_id - 1)
        """Up to here the page is complete."""
        self.index = 0


class Cursor:
    """One symbol's trades, read page by page on demand: fast in order, possible in any order.

    Two pages at most: one that follows the topic, and one for records that are out of order.
    """

    def __init__(
        self,
        ledger: Ledger,
        symbol: str,
        limit: int,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._symbol = symbol
        self._limit = min(limit, ledger.page_limit)
        self._sleep = sleep
        self._main: _Page | None = None
        self._other: _Page | None = None
        self._fruitless = 1000 if ledger.complete else 2
        self._unconfirmed = 0 if ledger.complete else MOST_CONFIRMED
        self._floor: int | None = None
        self._floor_checks = MOST_CONFIRMED * 2
        self._newest_id = -1

    def at(self, trade_id: int) -> Entry | None:
        """Return the trade with this id; None if the exchange has none."""
        main = self._main
        if main is not None:
            index = main.index
            if index < len(main.trades):
                trade = main.trades[index]
                if trade.trade_id == trade_id:
                    main.index = index + 1
                    return trade
        return self._find(trade_id)

    def _find(self, trade_id: int) -> Entry | None:
        page = self._page_with(trade_id)
        if trade_id > page.last:
            page = self._ask_head(trade_id, page)
        trade = _in(page, trade_id)
        if trade is None and trade_id < page.last and self._unconfirmed > 0 and trade_id >= self._floor_at(trade_id):
            self._unconfirmed -= 1
            trade = self._confirm(trade_id)
        return trade

    def _confirm(self, trade_id: int) -> Entry | None:
        """Ask again for an id that a reply has left out: a history's reply may have a hole for a while."""
        for _ in range(CONFIRMATIONS):
            page = self._fetch(trade_id)
            trade = _in(page, trade_id)
            if trade is not None:
                self._main = page
                return trade
        return None

    def _page_with(self, trade_id: int) -> _Page:
        main, other = self._main, self._other
        for page in (main, other):
            if page is not None and page.first <= trade_id and (trade_id <= page.last or page.open):
                return page
        fetched = self._fetch(trade_id)
        if main is None or trade_id > main.last:
            self._main = fetched
        else:
            self._other = fetched
        return fetched

    def _fetch(self, from_id: int) -> _Page:
        return _Page(from_id, self._ask(from_id, self._limit))

    def _ask(self, from_id: int, limit: int) -> LedgerPage:
        page = self._ledger.page(self._symbol, from_id, limit)
        if page.trades:
            self._newest_id = max(self._newest_id, page.trades[-1].trade_id)
        return page

    def _ask_head(self, trade_id: int, page: _Page) -> _Page:
        """The id is beyond the end of the page: ask again, the ledger may have grown since."""
        waited = 0.0
        while self._fruitless > 0:
            fetched = self._fetch(trade_id)
            if fetched.last >= trade_id:
                self._main = fetched
                return fetched
            if waited >= self._ledger.lag_seconds:
                self._fruitless -= 1
                break
            self._sleep(1.0)
            waited += 1.0
        return page

    def between(self, first_id: int, last_id: int) -> Iterator[Entry]:
        """Iterate over the trades from ``first_id`` to ``last_id`` inclusive.

        A history is read twice where it leaves something out: one reply may have a hole.
        """
        if self._ledger.complete:
            yield from self._scan(first_id, last_id)
            return
        due = first_id
        for trade in self._scan(first_id, last_id):
            if trade.trade_id > due:
                yield from self._scan(due, trade.trade_id - 1)
            yield trade
            due = trade.trade_id + 1
        if due <= last_id:
            yield from self._scan(due, last_id)

    def _scan(self, first_id: int, last_id: int) -> Iterator[Entry]:
        due = first_id
        while due <= last_id:
            page = self._ask(due, min(self._limit, last_id - due + 1))
            for trade in page.trades:
                if trade.trade_id > last_id:
                    return
                yield trade
            goes_on = page.next_from_id
            if goes_on is None:
                if self._ledger.complete or not page.trades:
                    return
                goes_on = page.trades[-1].trade_id + 1  # a short reply is no proof that nothing follows
            if goes_on <= due:
                raise Inconclusive(
                    f"the ledger of {self._symbol} does not go on after {due}: next_from_id is no greater"
                )
            due = goes_on

    def unknowable(self, first_id: int, last_id: int) -> list[Range]:
        """Parts of a range, of which no trade was found, that lie before or behind what the history has."""
        if self._ledger.complete:
            gone = merged(self._ledger.forgotten(self._symbol))
            return [part for part, inside in split((first_id, last_id), gone) if inside]
        floor = self._floor_at(first_id)
        below = (first_id, min(last_id, floor - 1))
        above = (max(first_id, floor, self._newest_id + 1), last_id)
        return [part for part in (below, above) if part[0] <= part[1]]

    def _floor_at(self, trade_id: int) -> int:
        """The first id of the history; requested again where it may have moved past the id."""
        if self._floor is None or (trade_id >= self._floor and self._floor_checks > 0):
            self._floor_checks -= 1
            oldest = self._ask(0, 1).trades
            self._floor = oldest[0].trade_id if oldest else self._newest_id + 1
        return self._floor

    def newest(self) -> Entry | None:
        """The trade that happened last."""
        return self._ledger.newest(self._symbol)


class NoTrades:
    """The lookup of a symbol that the ledger does not list.

    ``complete``: the exchange never had it; else the history may have had it once.
    """

    def __init__(self, *, complete: bool) -> None:
        self._complete = complete

    def at(self, trade_id: int) -> Entry | None:
        """None."""
        return None

    def between(self, first_id: int, last_id: int) -> Iterator[Entry]:
        """Nothing."""
        return iter(())

    def unknowable(self, first_id: int, last_id: int) -> list[Range]:
        """All of it, unless the ledger is complete."""
        return [] if self._complete else [(first_id, last_id)]

    def newest(self) -> Entry | None:
        """None."""
        return None


def _in(page: _Page, trade_id: int) -> Entry | None:
    index = bisect_left(page.trades, trade_id, key=lambda trade: trade.trade_id)
    if index < len(page.trades) and page.trades[index].trade_id == trade_id:
        page.index = index + 1
        return page.trades[index]
    return None


def page_size(symbols: int) -> int:
    """Trades per page such that the pages of all symbols fit into memory."""
    return max(500, min(100_000, TRADES_IN_MEMORY // max(1, symbols)))
