"""What the exchange really had of a numbered stream besides trades: the simulator's ledger, or history by REST."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ingest.audit.http import Transport
from ingest.audit.ledger import RestLedger, SimulatorLedger
from ingest.audit.model import Entry, LedgerAggregate, LedgerBar, LedgerPage, LedgerSymbol, LedgerTrade

MONTHS = 12
INTERVALS_US = {
    "1s": 1_000_000,
    **{f"{n}m": n * 60_000_000 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3_600_000_000 for n in (1, 2, 4, 6, 8, 12)},
    **{f"{n}d": n * 86_400_000_000 for n in (1, 3)},
    "1w": 604_800_000_000,
    "1M": 0,
}
"""Lengths of bars; 0: a calendar month."""
Row = Sequence[Any]


def bar_number(interval: str, open_us: int) -> int:
    """The number of the bar that opens then: its time divided by its length, or months since 1970."""
    length = INTERVALS_US[interval]
    if length:
        return open_us // length
    opened = datetime.fromtimestamp(open_us / 1e6, UTC)
    return (opened.year - 1970) * MONTHS + opened.month - 1


def bar_time(interval: str, number: int) -> int:
    """When the bar with a number opens, in microseconds."""
    length = INTERVALS_US[interval]
    if length:
        # Weeks begin on Mondays; the first one of the epoch is its fifth day.
        return number * length + (4 * 86_400_000_000 if interval == "1w" else 0)
    return int(datetime(1970 + number // MONTHS, number % MONTHS + 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


class Page(msgspec.Struct, frozen=True):
    """One page of the simulator's ledger of a stream."""

    rows: list[list[Any]]
    next_from_id: int | None
    floor_id: int
    last_id: int


class SimulatorStreamLedger(SimulatorLedger):
    """The simulator's admin API: what is true of one stream, without lag."""

    page_limit = 20_000

    def __init__(self, url: str, stream: str, *, transport: Transport | None = None) -> None:
        super().__init__(url, transport=transport)
        self._stream = stream
        self._listed: dict[str, LedgerSymbol] = {}
        self._interval = stream.removeprefix("kline_") if stream.startswith("kline_") else ""

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """Nothing: the last number of each symbol would be a request of its own."""
        return None

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """The state of one symbol now."""
        if symbol not in self._listed:
            self._listed = super().symbols() or {}
            if symbol not in self._listed:
                return None
        return LedgerSymbol(self._number(self._rows(symbol, 0, 1).last_id), assets=self._listed[symbol].assets)

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        """Numbers that the simulator no longer keeps, if it ever had them."""
        return [(0, self._number(self._rows(symbol, 0, 1).floor_id) - 1)]

    def newest(self, symbol: str) -> Entry | None:
        """The row with the last number."""
        found = self._rows(symbol, self._rows(symbol, 0, 1).last_id, 1).rows
        return self._entry(found[-1]) if found else None

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of the ledger."""
        page = self._rows(symbol, bar_time(self._interval, from_id) if self._interval else from_id, limit)
        due = page.next_from_id
        rows = [self._entry(row) for row in page.rows]
        return LedgerPage(rows, None if due is None else rows[-1].trade_id + 1)

    def _rows(self, symbol: str, from_id: int, limit: int) -> Page:
        query: dict[str, str | int] = {
            "symbol": symbol, "stream": self._stream, "from_id": max(0, from_id), "limit": limit,
        }  # fmt: skip
        return self._http.read(lambda: self._http.get("/admin/ledger", query), Page)

    def _number(self, number: int) -> int:
        return bar_number(self._interval, number) if self._interval and number >= 0 else number

    def _entry(self, row: Row) -> Entry:
        if self._interval:
            opened, closed, *figures, count, taker, taker_quote, first, last = row
            texts = (*figures, taker, taker_quote)
            return LedgerBar(bar_number(self._interval, opened), opened, closed, texts, count, (first, last))
        return LedgerAggregate(*row) if self._stream == "aggTrade" else LedgerTrade(*row)


class RestStreamLedger(RestLedger):
    """The exchange's history of one stream: ``aggTrades``, ``historicalBlockTrades`` or ``klines``."""

    def __init__(self, url: str, stream: str, **options: Any) -> None:
        """``options``: those of ``RestLedger``."""
        super().__init__(url, **options)
        self._interval = stream.removeprefix("kline_") if stream.startswith("kline_") else ""
        paths = {"aggTrade": "/api/v3/aggTrades", "blockTrade": "/api/v3/historicalBlockTrades"}
        self._path = paths.get(stream, "/api/v3/klines")
        self._make: Callable[[Any], Entry] = {"aggTrade": _aggregate, "blockTrade": _block}.get(stream, self._bar)
        self._blocks = stream == "blockTrade"

    def newest(self, symbol: str) -> Entry | None:
        """The last entry of the history; None without one. That of block trades has no such request."""
        if self._blocks:
            return None
        query: dict[str, str | int] = {"symbol": symbol, "limit": 2 if self._interval else 1}
        if self._interval:
            query["interval"] = self._interval
        found = self._list(query)
        return found[0] if found else None  # the newer one of two bars is still open

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of history."""
        query: dict[str, str | int] = {"symbol": symbol, "limit": min(limit, self.page_limit)}
        if self._interval:
            query |= {"interval": self._interval, "startTime": bar_time(self._interval, from_id)}
        else:
            query["fromId"] = from_id
        found = self._list(query)
        full = len(found) >= limit
        if self._interval and found and found[-1].time_us >= self._clock_ns() // 1000:
            found = found[:-1]
        return LedgerPage(found, found[-1].trade_id + 1 if full and found else None)

    def _list(self, query: dict[str, str | int]) -> list[Entry]:
        rows = self._http.read(lambda: self._get(self._path, query), list[Any])
        return [self._make(row) for row in rows]

    def _bar(self, row: Row) -> Entry:
        opened, o, high, low, close, volume, closed, quote, count, taker, taker_quote, _ = row
        figures = (o, high, low, close, volume, quote, taker, taker_quote)
        return LedgerBar(bar_number(self._interval, opened), opened, closed, figures, count)


def _aggregate(row: Any) -> Entry:
    return LedgerAggregate(row["a"], row["p"], row["q"], row["f"], row["l"], row["T"], row["m"])


def _block(row: Any) -> Entry:
    return LedgerTrade(row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"])
