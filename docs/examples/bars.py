"""Bars of a minute, or of a second, from exact decimals, in bounded memory: one open bar per symbol.

    python docs/examples/bars.py --symbol BTCUSDT --from 2026-01-31T00:00Z --csv bars.csv

    python docs/examples/bars.py --symbol BTCUSDT --compare

A bar is written when the first trade of a later minute of its symbol comes; the last ones at the head of the topic are
still open and are written only without ``--follow``. ``--compare`` compares every whole minute (``--interval 1s``:
second) with the exchange's own bar, from the topic of bars, instead of writing it: an independent proof that no trade
of that time is missing. Exit code 1: one differs; 2: there was nothing to compare.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trades import options, reader

from ingest.reader import EXACT, ReaderError, Record, Trade, sibling
from ingest.reader import Bar as ExchangeBar

INTERVALS = {"1m": {"second": 0, "microsecond": 0}, "1s": {"microsecond": 0}}
"""Interval -> what of a time is set to 0 at its beginning."""
COLUMNS = ("symbol", "minute", "open", "high", "low", "close", "volume", "vwap", "trades")


@dataclass
class Bar:
    """One minute of one symbol."""

    symbol: str
    minute: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    trades: int = 0

    def add(self, trade: Trade) -> None:
        """Add a trade; trades come in the order of their ids."""
        self.high, self.low, self.close = max(self.high, trade.price), min(self.low, trade.price), trade.price
        self.volume = EXACT.add(self.volume, trade.quantity)
        self.value = EXACT.add(self.value, trade.value)
        self.trades += 1

    def row(self) -> tuple[object, ...]:
        """Its columns; VWAP is rounded to eight places, everything else is exact."""
        vwap = (self.value / self.volume).quantize(Decimal("1e-8"))
        return (
            self.symbol, self.minute.isoformat(), self.open, self.high, self.low, self.close, self.volume, vwap,
            self.trades,
        )  # fmt: skip


def bars(records: Iterable[Record], interval: str = "1m") -> Iterator[Bar]:
    """Bars in the order in which they end; a minute without a trade has none."""
    current: dict[str, Bar] = {}
    for trade in records:
        if not isinstance(trade, Trade):
            continue
        minute = trade.timestamp.replace(**INTERVALS[interval])
        bar = current.get(trade.symbol)
        if bar is None or minute > bar.minute:
            if bar is not None:
                yield bar
            price = trade.price
            bar = current[trade.symbol] = Bar(trade.symbol, minute, price, price, price, price)
        bar.add(trade)
    yield from current.values()


def exchange_bars(arguments: argparse.Namespace) -> dict[tuple[str, datetime], ExchangeBar]:
    """The exchange's bars, by symbol and opening time. Raises ``ReaderError``."""
    topic = argparse.Namespace(**{**vars(arguments), "topic": sibling(arguments.topic, "bars"), "start": "earliest"})
    found = {}
    with reader(topic) as records:
        for record in records:
            if isinstance(record, ExchangeBar) and record.interval == arguments.interval:
                found[record.symbol, record.open_timestamp] = record
    return found


def difference(own: Bar, theirs: ExchangeBar) -> list[str]:
    """What is not equal; nothing on a sound topic."""
    pairs = {
        "open": (own.open, theirs.open),
        "high": (own.high, theirs.high),
        "low": (own.low, theirs.low),
        "close": (own.close, theirs.close),
        "volume": (own.volume, theirs.volume),
        "trades": (own.trades, theirs.trade_count),
    }
    return [f"{name} {ours}, the exchange has {other}" for name, (ours, other) in pairs.items() if ours != other]


def compare(arguments: argparse.Namespace) -> int:
    """Compare with the exchange's bars; the exit code. Raises ``ReaderError``."""
    wanted = exchange_bars(arguments)
    begun: set[str] = set()
    equal = wrong = 0
    with reader(arguments) as records:
        for bar in bars(records, arguments.interval):
            theirs = wanted.get((bar.symbol, bar.minute))
            if bar.symbol not in begun or theirs is None:  # the topic begins within it, or it is still open
                begun.add(bar.symbol)
                continue
            unequal = difference(bar, theirs)
            equal, wrong = equal + (not unequal), wrong + bool(unequal)
            for text in unequal:
                sys.stdout.write(f"{bar.symbol} {bar.minute.isoformat()}: {text}\n")
    sys.stdout.write(f"{equal} bars equal the exchange's, {wrong} do not\n")
    return 1 if wrong else 0 if equal else 2


def main() -> int:
    """Print, write or compare bars."""
    parser = options("One-minute bars.")
    parser.add_argument("--csv", help="write them here instead of printing them")
    parser.add_argument("--interval", choices=INTERVALS, default="1m", help="length of a bar (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="compare them with the exchange's, in the topic of bars")
    arguments = parser.parse_args()
    if arguments.compare:
        try:
            return compare(arguments)
        except ReaderError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    count = 0
    with ExitStack() as stack:
        try:
            records = stack.enter_context(reader(arguments))
            target = stack.enter_context(open(arguments.csv, "w", newline="")) if arguments.csv else sys.stdout
            writer = csv.writer(target)
            writer.writerow(COLUMNS)
            for bar in bars(records, arguments.interval):
                writer.writerow(bar.row())
                count += 1
        except (ReaderError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 2
    if not count:
        wanted = ", ".join(arguments.symbol) or "any symbol"
        sys.stderr.write(f"no trade of {wanted} in {arguments.topic}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
