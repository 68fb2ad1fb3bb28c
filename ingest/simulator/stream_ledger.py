"""The ledger of the streams besides trades: what is true of each, in pages, to check what a client made of it.

Rows are arrays with prices and quantities as the exchange writes them and times in microseconds. Numbers are those of
the stream: aggregates' ids, block trades' ids, the time at which a bar opens, update ids of a book.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, NamedTuple

from ingest.simulator.derived_events import Sources, bare
from ingest.simulator.klines import INTERVALS, Candle, bounds
from ingest.simulator.ledger import SymbolLedger, decimal

Row = list[Any]


class Page(NamedTuple):
    """Rows from an id on, and the id where the next page begins; None at the head."""

    rows: list[Row]
    next_from_id: int | None
    floor_id: int
    """The lowest id that is remembered."""


class StreamLedger:
    """Pages of every stream that has a ledger."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def page(self, symbol: SymbolLedger, stream: str, from_id: int, limit: int) -> Page:
        """Up to ``limit`` rows with numbers from ``from_id`` on. Raises ValueError for a stream without a ledger."""
        recorded = self._sources.recorded.get(f"{symbol.symbol.lower()}@{stream}")
        if recorded is not None:
            first = bisect_left(recorded, from_id, key=lambda row: row[0])
            return _page(recorded[first : first + limit], limit, recorded[0][0])
        if stream.startswith("kline_") and stream.removeprefix("kline_") in INTERVALS:
            return self._bars(symbol, stream.removeprefix("kline_"), from_id, limit)
        match stream:
            case "aggTrade":
                return self._aggregates(symbol, from_id, limit)
            case "blockTrade":
                return self._blocks(symbol, from_id, limit)
            case "bookTicker":
                return self._quotes(symbol, from_id, limit)
            case "depth":
                return self._updates(symbol, from_id, limit)
            case _:
                raise ValueError(
                    f"{stream!r} has no ledger; trade, aggTrade, blockTrade, kline_1m, bookTicker and depth have"
                )

    def last_id(self, symbol: SymbolLedger, stream: str) -> int:
        """The number of a stream's newest row, -1 without one. Raises ValueError for a stream without a ledger."""
        recorded = self._sources.recorded.get(f"{symbol.symbol.lower()}@{stream}")
        if recorded is not None:
            return int(recorded[-1][0])
        match stream:
            case "aggTrade":
                newest = symbol.aggregates(1, newest=True)
                return newest[0].agg_id if newest else -1
            case "blockTrade":
                return self._sources.blocks(symbol).next_id - 1
            case "bookTicker":
                return self._sources.books.of(symbol).last_quote_id
            case "depth":
                return self._sources.books.of(symbol).update_id
            case _:
                settled_us, interval = self._sources.settled_us(), stream.removeprefix("kline_")
                closed = bounds(bounds(settled_us, interval)[0] - 1, interval)[0]
                found = self._bars(symbol, interval, closed, 1).rows
                return int(found[-1][0]) if found else -1

    def book(self, symbol: SymbolLedger, update_id: int | None) -> dict[str, Any]:
        """The book after an update, by default the newest one. Raises ValueError if it is not remembered."""
        book = self._sources.books.of(symbol)
        found = book.at(book.update_id if update_id is None else update_id)
        if found is None:
            raise ValueError(f"{symbol.symbol}: the book is remembered from {book.floor_id} to {book.update_id}")
        bids, asks = ([[decimal(price), decimal(quantity)] for price, quantity in side] for side in found)
        return {"update_id": book.update_id if update_id is None else update_id, "bids": bids, "asks": asks}

    def _aggregates(self, symbol: SymbolLedger, from_id: int, limit: int) -> Page:
        oldest = symbol.aggregates(1)
        rows: list[Row] = [
            [number, decimal(price), decimal(quantity), *others]
            for number, price, quantity, *others in symbol.aggregates(limit, from_agg=from_id)
        ]
        return _page(rows, limit, oldest[0].agg_id if oldest else 0)

    def _blocks(self, symbol: SymbolLedger, from_id: int, limit: int) -> Page:
        blocks = self._sources.blocks(symbol)
        rows: list[Row] = [
            [number, bare(price), bare(quantity), *others]
            for number, price, quantity, *others in blocks.page(from_id, limit)
        ]
        return _page(rows, limit, blocks.floor_id)

    def _quotes(self, symbol: SymbolLedger, from_id: int, limit: int) -> Page:
        book = self._sources.books.of(symbol)
        rows = [[one[0], *map(decimal, one[1:])] for one in book.quotes(from_id - 1, limit)]
        return _page(rows, limit, book.floor_id)

    def _updates(self, symbol: SymbolLedger, from_id: int, limit: int) -> Page:
        """Updates of one id are on one page."""
        book = self._sources.books.of(symbol)
        found = list(book.updates(from_id - 1, limit))
        if len(found) < limit:
            return Page([_update(*one) for one in found], None, book.floor_id)
        last = found[-1][0]
        rows = [_update(*one) for one in found if one[0] < last]
        rows += [_update(last, key, quantity) for key, quantity in book.changes(last - 1, last).items()]
        return Page(rows, last + 1, book.floor_id)

    def _bars(self, symbol: SymbolLedger, interval: str, from_id: int, limit: int) -> Page:
        """Closed bars of which no more trade can be a part."""
        candles, settled_us = self._sources.candles(symbol), self._sources.settled_us()
        oldest = candles.page(interval, 1, settled_us, start=0)
        floor_id = oldest[0].open_us if oldest else 0
        end = bounds(settled_us, interval)[0] - 1
        found = candles.page(interval, limit, end, start=max(from_id, floor_id)) if oldest else []
        rows = [_bar(one) for one in found if one.close_us < settled_us]
        return Page(rows, found[-1].close_us + 1 if len(rows) == limit else None, floor_id)


def _page(rows: list[Row], limit: int, floor_id: int) -> Page:
    return Page(rows, rows[-1][0] + 1 if len(rows) == limit else None, floor_id)


def _update(number: int, key: int, quantity: int) -> Row:
    return [number, "b" if key > 0 else "a", decimal(abs(key)), decimal(quantity)]


def _bar(one: Candle) -> Row:
    return [
        one.open_us, one.close_us, *map(decimal, (one.open, one.high, one.low, one.close, one.volume)),
        decimal(one.quote // 10**8), one.count, decimal(one.taker_volume), decimal(one.taker_quote // 10**8),
        one.first_id, one.last_id,
    ]  # fmt: skip
