"""A window onto one symbol's ledger, moved along in step with the topic."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator

from ingest.audit.ledger import Ledger
from ingest.audit.model import Inconclusive, LedgerPage, LedgerTrade

TRADES_IN_MEMORY = 300_000
"""Over the pages of all symbols together."""


class _Page:
    """A window onto the ledger; within it, ids that are not there do not exist."""

    __slots__ = ("first", "index", "last", "open", "trades")

    def __init__(self, from_id: int, page: LedgerPage) -> None:
        self.trades = page.trades
        self.first = from_id
        self.open = page.next_from_id is None
        newest = page.trades[-1].trade_id if page.trades else from_id - 1
        self.last = newest if page.next_from_id is None else max(newest, page.next_from_id - 1)
        self.index = 0


class Cursor:
    """One symbol's trades, paged in as they are asked for: quick in order, possible in any.

    Two pages at most: the one that follows the topic and one for what is out of order.
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
        self._fruitless = 1000 if ledger.lag_seconds == 0 else 10

    def at(self, trade_id: int) -> LedgerTrade | None:
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

    def _find(self, trade_id: int) -> LedgerTrade | None:
        page = self._page_with(trade_id)
        if trade_id > page.last:
            page = self._ask_head(trade_id, page)
        trades = page.trades
        index = bisect_left(trades, trade_id, key=lambda trade: trade.trade_id)
        if index < len(trades) and trades[index].trade_id == trade_id:
            page.index = index + 1
            return trades[index]
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
        return _Page(from_id, self._ledger.page(self._symbol, from_id, self._limit))

    def _ask_head(self, trade_id: int, page: _Page) -> _Page:
        """The id is beyond what the ledger had when it was asked: ask again, it may have grown since."""
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

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        """Iterate over the trades from ``first_id`` to ``last_id`` inclusive."""
        due: int | None = first_id
        while due is not None and due <= last_id:
            page = self._ledger.page(self._symbol, due, min(self._limit, last_id - due + 1))
            for trade in page.trades:
                if trade.trade_id > last_id:
                    return
                yield trade
            if page.next_from_id is not None and page.next_from_id <= due:
                raise Inconclusive(
                    f"the ledger of {self._symbol} does not go on after {due}: next_from_id is no greater"
                )
            due = page.next_from_id


class NoTrades:
    """The lookup of a symbol that the exchange does not have."""

    def at(self, trade_id: int) -> LedgerTrade | None:
        """None."""
        return None

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        """Nothing."""
        return iter(())


def page_size(symbols: int) -> int:
    """Trades per page such that the pages of all symbols fit into memory."""
    return max(500, min(100_000, TRADES_IN_MEMORY // max(1, symbols)))
