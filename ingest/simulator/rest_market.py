"""Market summaries of the simulated REST API: 24-hour tickers, last prices, averages and the order book.

Tickers follow the ledger lazily, in whole minutes: a call costs what has been traded since the last one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import mul

from ingest.simulator.book import Book, Level
from ingest.simulator.ledger import SymbolLedger, decimal

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
AVERAGE_MINUTES = 5


@dataclass(slots=True)
class _Bucket:
    """One minute's trades; the quote volume is in units of 1e-16."""

    minute: int
    first_id: int
    last_id: int
    count: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int


class DayWindow:
    """One symbol's rolling 24 hours. The far end moves by whole minutes; trades forgotten unseen do not count."""

    def __init__(self, ledger: SymbolLedger) -> None:
        self._ledger = ledger
        self._cursor = 0
        self._buckets: deque[_Bucket] = deque()
        self._count = 0
        self._volume = 0
        self._quote_volume = 0
        self._high = 0
        self._low = 0
        self._before = 0  # the last price before the window
        self._last = (0, 0)  # price and quantity

    def body(self, now_us: int, time_divisor: int, *, mini: bool, top: Sequence[str] = ()) -> str:
        """The ticker's JSON object; without a trade in 24 hours both ids are -1 and prices are the last known.

        ``top``: the best prices, see ``top_text``; a mini ticker has none.
        """
        self._advance()
        self._expire(now_us - DAY_US)
        buckets = self._buckets
        last, last_quantity = self._last
        opened = buckets[0].open if buckets else last
        high, low = (self._high, self._low) if buckets else (last, last)
        first_id, last_id = (buckets[0].first_id, buckets[-1].last_id) if buckets else (-1, -1)
        tail = (
            f'"openPrice":"{decimal(opened)}","highPrice":"{decimal(high)}","lowPrice":"{decimal(low)}",'
            + (f'"lastPrice":"{decimal(last)}",' if mini else "")
            + f'"volume":"{decimal(self._volume)}","quoteVolume":"{decimal(self._quote_volume // 10**8)}",'
            f'"openTime":{(now_us - DAY_US) // time_divisor},"closeTime":{now_us // time_divisor},'
            f'"firstId":{first_id},"lastId":{last_id},"count":{self._count}}}'
        )
        if mini:
            return f'{{"symbol":"{self._ledger.symbol}",{tail}'
        average = self._quote_volume // self._volume if self._volume else last
        percent = (last - opened) * 100 / opened if opened else 0.0
        bid, bid_quantity, ask, ask_quantity = top or _NOTHING * 2
        return (
            f'{{"symbol":"{self._ledger.symbol}","priceChange":"{decimal(last - opened)}",'
            f'"priceChangePercent":"{percent:.3f}","weightedAvgPrice":"{decimal(average)}",'
            f'"prevClosePrice":"{decimal(self._before or opened)}","lastPrice":"{decimal(last)}",'
            f'"lastQty":"{decimal(last_quantity)}","bidPrice":"{bid}","bidQty":"{bid_quantity}",'
            f'"askPrice":"{ask}","askQty":"{ask_quantity}",{tail}'
        )

    def _advance(self) -> None:
        ledger = self._ledger
        for run in ledger.columns(range(self._cursor, ledger.sent_trades)):
            times, start = run.times, 0
            while start < len(times):
                minute = times[start] // MINUTE_US
                stop = max(start + 1, bisect_left(times, (minute + 1) * MINUTE_US, start))
                self._add(minute, run.first_id + start, run.prices[start:stop], run.quantities[start:stop])
                start = stop
        self._cursor = ledger.sent_trades

    def _add(self, minute: int, first_id: int, prices: array[int], quantities: array[int]) -> None:
        high, low = max(prices), min(prices)
        volume, quote_volume = sum(quantities), sum(map(mul, prices, quantities))
        last_id = first_id + len(prices) - 1
        if not self._buckets:
            self._high, self._low = high, low
        else:
            self._high, self._low = max(self._high, high), min(self._low, low)
        if self._buckets and self._buckets[-1].minute >= minute:
            bucket = self._buckets[-1]
            bucket.last_id = last_id
            bucket.count += len(prices)
            bucket.high, bucket.low = max(bucket.high, high), min(bucket.low, low)
            bucket.close = prices[-1]
            bucket.volume += volume
            bucket.quote_volume += quote_volume
        else:
            self._buckets.append(
                _Bucket(minute, first_id, last_id, len(prices), prices[0], high, low, prices[-1], volume, quote_volume)
            )
        self._count += len(prices)
        self._volume += volume
        self._quote_volume += quote_volume
        self._last = (prices[-1], quantities[-1])

    def _expire(self, before_us: int) -> None:
        buckets = self._buckets
        extremes = False
        while buckets and (buckets[0].minute + 1) * MINUTE_US <= before_us:
            gone = buckets.popleft()
            self._count -= gone.count
            self._volume -= gone.volume
            self._quote_volume -= gone.quote_volume
            self._before = gone.close
            extremes = extremes or gone.high == self._high or gone.low == self._low
        if extremes and buckets:
            self._high = max(bucket.high for bucket in buckets)
            self._low = min(bucket.low for bucket in buckets)


def top_text(book: Book) -> tuple[str, str, str, str]:
    """Bid price, bid quantity, ask price and ask quantity at the top of the book."""
    _, bid, bid_quantity, ask, ask_quantity = book.newest_quote()
    return decimal(bid), decimal(bid_quantity), decimal(ask), decimal(ask_quantity)


def depth(book: Book, limit: int) -> str:
    """A snapshot of the book, with the id of its newest update."""
    return depth_text(book.update_id, book.side(bids=True, limit=limit), book.side(bids=False, limit=limit))


def depth_text(update_id: int, bids: Sequence[Level], asks: Sequence[Level]) -> str:
    """A snapshot as REST has it: on both sides the best level is first."""
    return f'{{"lastUpdateId":{update_id},"bids":[{_levels(bids)}],"asks":[{_levels(asks)}]}}'


def last_price(ledger: SymbolLedger) -> int:
    """The price of the newest trade; 0 without one."""
    newest = ledger.newest(1)
    return newest[0][1] if newest else 0


def average_price(ledger: SymbolLedger, now_us: int, time_divisor: int) -> str:
    """The volume-weighted price of the last 5 minutes; the last price when nothing was traded in them."""
    volume = quote_volume = 0
    start = ledger.sequence_at(now_us - AVERAGE_MINUTES * MINUTE_US)
    for run in ledger.columns(range(start, ledger.sent_trades)):
        volume += sum(run.quantities)
        quote_volume += sum(map(mul, run.prices, run.quantities))
    newest = ledger.newest(1)
    price = quote_volume // volume if volume else last_price(ledger)
    closed = newest[0][3] // time_divisor if newest else 0
    return f'{{"mins":{AVERAGE_MINUTES},"price":"{decimal(price)}","closeTime":{closed}}}'


_NOTHING = (decimal(0), decimal(0))


def _levels(side: Sequence[Level]) -> str:
    return ",".join(f'["{decimal(price)}","{decimal(quantity)}"]' for price, quantity in side)


@lru_cache(maxsize=1024)
def units(text: str) -> int:
    """A decimal in units of 1e-8."""
    return int(Decimal(text).scaleb(8))
