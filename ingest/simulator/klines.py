"""Candles of a symbol, made from its trades: those of REST and of the streams agree with each other and with trades.

An interval without a trade has the price before it four times and no volume. Candles of a minute are kept as trades
come; longer ones are made of them, and those of a second of the trades themselves.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ingest.simulator.ledger import SymbolLedger, decimal

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
MONDAY_US = 4 * DAY_US
"""The first Monday of the epoch."""
INTERVALS = {
    "1s": SECOND_US, "1m": MINUTE_US, "3m": 3 * MINUTE_US, "5m": 5 * MINUTE_US, "15m": 15 * MINUTE_US,
    "30m": 30 * MINUTE_US, "1h": HOUR_US, "2h": 2 * HOUR_US, "4h": 4 * HOUR_US, "6h": 6 * HOUR_US, "8h": 8 * HOUR_US,
    "12h": 12 * HOUR_US, "1d": DAY_US, "3d": 3 * DAY_US, "1w": WEEK_US, "1M": 0,
}  # fmt: skip
"""Lengths in microseconds; that of a month differs."""
MOST_MINUTES = 7 * 24 * 60
"""Of one symbol: so far back do candles reach."""
_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::(\d{2}))?")


@dataclass(slots=True)
class Candle:
    """One interval. Amounts in units of 1e-8, quote amounts in 1e-16; ids are -1 without a trade."""

    open_us: int
    close_us: int
    """The last microsecond."""
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    count: int = 0
    taker_volume: int = 0
    taker_quote: int = 0
    first_id: int = -1
    last_id: int = -1

    def add(self, other: Candle) -> None:
        """Append a later candle that lies within this one."""
        if not other.count:
            return
        if not self.count:
            self.open, self.high, self.low, self.first_id = other.open, other.high, other.low, other.first_id
        self.high, self.low, self.close = max(self.high, other.high), min(self.low, other.low), other.close
        self.volume += other.volume
        self.quote += other.quote
        self.count += other.count
        self.taker_volume += other.taker_volume
        self.taker_quote += other.taker_quote
        self.last_id = other.last_id

    def row(self, divisor: int) -> str:
        """The array of 12 that REST has."""
        return (
            f'[{self.open_us // divisor},"{decimal(self.open)}","{decimal(self.high)}","{decimal(self.low)}",'
            f'"{decimal(self.close)}","{decimal(self.volume)}",{self.close_us // divisor},'
            f'"{decimal(self.quote // 10**8)}",{self.count},"{decimal(self.taker_volume)}",'
            f'"{decimal(self.taker_quote // 10**8)}","0"]'
        )

    def event(self, symbol: str, interval: str, now_us: int, divisor: int, *, closed: bool) -> bytes:
        """The event of a stream."""
        return (
            f'{{"e":"kline","E":{now_us // divisor},"s":"{symbol}","k":{{"t":{self.open_us // divisor},'
            f'"T":{self.close_us // divisor},"s":"{symbol}","i":"{interval}","f":{self.first_id},"L":{self.last_id},'
            f'"o":"{decimal(self.open)}","c":"{decimal(self.close)}","h":"{decimal(self.high)}",'
            f'"l":"{decimal(self.low)}","v":"{decimal(self.volume)}","n":{self.count},'
            f'"x":{"true" if closed else "false"},"q":"{decimal(self.quote // 10**8)}",'
            f'"V":"{decimal(self.taker_volume)}","Q":"{decimal(self.taker_quote // 10**8)}","B":"0"}}}}'
        ).encode()


def zone_us(text: str) -> int | None:
    """The offset of ``timeZone`` (``8``, ``-1:00``, ``05:45``) in microseconds; None for one that does not exist."""
    found = _ZONE.fullmatch(text)
    if found is None:
        return None
    minutes = int(found[2]) * 60 + int(found[3] or 0)
    minutes = -minutes if found[1] == "-" else minutes
    return minutes * MINUTE_US if -12 * 60 <= minutes <= 14 * 60 and int(found[3] or 0) < 60 else None


def bounds(time_us: int, interval: str, zone: int = 0) -> tuple[int, int]:
    """First and last microsecond of the interval that a time lies in."""
    local = time_us + zone
    if interval == "1M":
        return _month(local, zone)
    length = INTERVALS[interval]
    origin = MONDAY_US if interval == "1w" else 0
    opened = local - (local - origin) % length - zone
    return opened, opened + length - 1


def _month(local: int, zone: int) -> tuple[int, int]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = (epoch + timedelta(microseconds=local)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    opened, after = ((one - epoch) // timedelta(microseconds=1) - zone for one in (first, following))
    return opened, after - 1


class Candles:
    """All candles of one symbol."""

    def __init__(self, ledger: SymbolLedger) -> None:
        self.ledger = ledger
        self._cursor = ledger.held.start
        self._minutes: list[Candle] = []
        self.corrected: dict[tuple[int, int], int] = {}
        """Volumes that the exchange itself has changed after the bar was closed, by its first and last microsecond."""

    def page(
        self, interval: str, limit: int, now_us: int, *, start: int | None = None, end: int | None = None, zone: int = 0
    ) -> list[Candle]:
        """Up to ``limit`` candles that open within these times: the oldest if ``start`` is given, else the newest."""
        self._advance()
        if not self._minutes:
            return []
        first = bounds(self._minutes[0].open_us, interval, zone)[0]
        last = min(now_us if end is None else end, now_us)
        if start is None:
            due = last
            for _ in range(limit - 1):
                due = bounds(bounds(due, interval, zone)[0] - 1, interval, zone)[0]
            due = bounds(due, interval, zone)[0]
        else:
            due = bounds(start, interval, zone)[0]
            due = due if due == start else bounds(start, interval, zone)[1] + 1
        due = max(first, due)
        found: list[Candle] = []
        while due <= last and len(found) < limit:
            opened, closed = bounds(due, interval, zone)
            found.append(self.candle(opened, closed))
            due = closed + 1
        return found

    def candle(self, open_us: int, close_us: int) -> Candle:
        """The candle of any interval."""
        self._advance()
        before = self._price_before(open_us)
        whole = Candle(open_us, close_us, before, before, before, before)
        parts = self._minute_parts if close_us - open_us >= MINUTE_US - 1 else self._trade_parts
        for part in parts(open_us, close_us):
            whole.add(part)
        if self.corrected:
            whole.volume = self.corrected.get((open_us, close_us), whole.volume)
        return whole

    def _minute_parts(self, open_us: int, close_us: int) -> Iterator[Candle]:
        at = bisect_left(self._minutes, open_us, key=lambda one: one.open_us)
        for place in range(at, len(self._minutes)):
            if self._minutes[place].open_us > close_us:
                return
            yield self._minutes[place]

    def _trade_parts(self, open_us: int, close_us: int) -> Iterator[Candle]:
        ledger = self.ledger
        within = range(ledger.sequence_at(open_us), ledger.sequence_at(close_us + 1))
        for columns in ledger.columns(within):
            ids = range(columns.first_id, columns.first_id + len(columns.prices))
            for one in zip(ids, columns.prices, columns.quantities, columns.makers, strict=True):
                yield _single(open_us, close_us, *one)

    def _price_before(self, open_us: int) -> int:
        """The last price before a time; the first price of all where there is none."""
        at = bisect_left(self._minutes, open_us // MINUTE_US * MINUTE_US, key=lambda one: one.open_us) - 1
        price = self._minutes[at].close if at >= 0 else (self._minutes[0].open if self._minutes else 0)
        for part in self._trade_parts(open_us // MINUTE_US * MINUTE_US, open_us - 1) if open_us % MINUTE_US else ():
            price = part.close
        return price

    def _advance(self) -> None:
        ledger = self.ledger
        for columns in ledger.columns(range(self._cursor, ledger.sent_trades)):
            rows = zip(columns.times, columns.prices, columns.quantities, columns.makers, strict=True)
            for number, (time_us, price, quantity, maker) in enumerate(rows, columns.first_id):
                self._take(time_us, _single(0, 0, number, price, quantity, maker))
        self._cursor = ledger.sent_trades

    def _take(self, time_us: int, trade: Candle) -> None:
        opened = time_us // MINUTE_US * MINUTE_US
        if self._minutes and self._minutes[-1].open_us >= opened:
            self._minutes[-1].add(trade)
        else:
            self._minutes.append(replace(trade, open_us=opened, close_us=opened + MINUTE_US - 1))
            if len(self._minutes) > 2 * MOST_MINUTES:
                del self._minutes[:MOST_MINUTES]


def _single(open_us: int, close_us: int, trade_id: int, price: int, quantity: int, maker: int) -> Candle:
    """A candle of one trade: the taker buys unless the buyer is the maker."""
    quote = price * quantity
    taker, taker_quote = (0, 0) if maker else (quantity, quote)
    return Candle(
        open_us, close_us, price, price, price, price, quantity, quote, 1, taker, taker_quote, trade_id, trade_id
    )
