"""Whether the topics of a symbol's streams agree with each other: a proof that needs no ledger.

- an aggregate follows the one before, and its trades have its price, side and time, and quantities that sum to its own;
- a closed bar has the prices, volumes and number of its trades: the exchange's own statement that none is missing;
- the best prices at an update id are the top of the book that the updates make.

The exchange leaves out best prices that lasted for a few updates only: of 12,986 sides of a book that a recording of
BTCUSDT lets compare two are unequal, each where the best bid was removed and the next quote followed 13 and 3 ids
later. So one unequal comparison in ``UNEQUAL_QUOTES`` is no violation.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from ingest.audit.check_base import Totals
from ingest.audit.content import Record
from ingest.audit.levels import RebuiltBook, amount, side_of
from ingest.audit.model import Violation, Violations
from ingest.audit.stream_content import FIGURES
from ingest.audit.stream_ledger import bar_number

UNEQUAL_QUOTES = 1000
_SUM = 10**8
"""Price times quantity has twice the places of either."""


def digest(*values: Any) -> int:
    """A number of 64 bits that stands for values, so that millions of them fit into memory."""
    return hash(values)


class _Bar:
    """What a symbol's trades make of the interval that is open."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.prices: list[int] = []
        self.low = self.high = 0
        self.volume = self.quote = self.taker = self.taker_quote = self.count = 0
        self.first_id = self.last_id = 0

    def add(self, trade_id: int, price: int, quantity: int, *, bought: bool) -> None:
        if not self.count:
            self.prices, self.low, self.high, self.first_id = [price, price], price, price, trade_id
        self.prices[1], self.last_id = price, trade_id
        self.low, self.high = min(self.low, price), max(self.high, price)
        self.count += 1
        self.volume += quantity
        self.quote += price * quantity
        if bought:
            self.taker += quantity
            self.taker_quote += price * quantity

    def digest(self) -> int:
        opened, closed = self.prices
        figures = opened, self.high, self.low, closed, self.volume, self.quote // _SUM, self.taker
        return digest(*figures, self.taker_quote // _SUM, self.count)


class Agreement:
    """The streams of one symbol. Aggregates and bars are taken before trades, quotes before book events."""

    def __init__(self, symbol: str, violations: Violations) -> None:
        self.symbol = symbol
        self.totals = Totals()
        self.partition: int | None = None
        self.first_id: int | None = None
        self.last_id: int | None = None
        self.unequal_quotes = 0
        self._violations = violations
        self._first_ids, self._last_ids, self._digests = array("q"), array("q"), array("q")
        self._at = 0
        self._sum = 0
        self._whole = False
        self._bars: dict[str, dict[int, int]] = {}
        self._open: dict[str, _Bar] = {}
        self._begun: set[str] = set()
        self._quote_ids, self._quotes = array("q"), array("q")
        self._broken = array("q")
        self._book: RebuiltBook | None = None

    def aggregate(self, record: Record) -> None:
        """Take an aggregate."""
        first, last = record["first_trade_id"], record["last_trade_id"]
        if self._last_ids and first != self._last_ids[-1] + 1:
            self._wrong("first_trade_id", record["source_sequence"], self._last_ids[-1] + 1, first)
        self._first_ids.append(first)
        self._last_ids.append(last)
        price, quantity = amount(record["price"]), amount(record["quantity"])
        self._digests.append(digest(price, quantity, record["side"], record["timestamp"]))

    def bar(self, record: Record) -> None:
        """Take a closed bar; one without a trade says nothing."""
        if record["trade_count"]:
            figures = (amount(record[name]) for name in FIGURES)
            held = self._bars.setdefault(record["interval"], {})
            held[record["source_sequence"]] = digest(*figures, record["trade_count"])

    def trade(self, record: Record) -> None:
        """Take a trade, in the order of ids."""
        number, time_us, side = record["source_sequence"], record["timestamp"], record["side"]
        price, quantity = amount(record["price"]) or 0, amount(record["quantity"]) or 0
        self._of_aggregate(number, price, quantity, side, time_us)
        for interval, bars in self._bars.items():
            place = bar_number(interval, time_us)
            current = self._open.get(interval)
            if current is None or place != current.number:
                if current is not None:
                    self._close(interval, current, bars)
                current = self._open[interval] = _Bar(place)
            current.add(number, price, quantity, bought=side == "BUY")

    def _of_aggregate(self, number: int, price: int, quantity: int, side: str, time_us: int) -> None:
        while self._at < len(self._last_ids) and self._last_ids[self._at] < number:
            if self._whole or self._first_ids[self._at] > (self.first_id or 0):
                self._wrong("last_trade_id", self._last_ids[self._at], "its last trade", None)
            self._next()
        if self._at == len(self._last_ids) or number < self._first_ids[self._at]:
            return
        if number == self._first_ids[self._at]:
            self._sum, self._whole = 0, True
        self.first_id = number if self.first_id is None else self.first_id
        self._sum += quantity
        if number == self._last_ids[self._at]:
            if self._whole:
                self.totals.committed += 1
                if digest(price, self._sum, side, time_us) != self._digests[self._at]:
                    self._wrong("quantity", number, "its trades' price, side, time and sum", self._sum)
            self._next()

    def _next(self) -> None:
        self._at += 1
        self._sum, self._whole = 0, False

    def _close(self, interval: str, current: _Bar, bars: dict[int, int]) -> None:
        if interval not in self._begun:  # the topic begins within it
            self._begun.add(interval)
            return
        wanted = bars.get(current.number)
        if wanted is not None:
            self.totals.committed += 1
            if wanted != current.digest():
                self._wrong(f"bar {interval}", current.number, "the exchange's bar", f"{current.count} trades")

    def quote(self, record: Record) -> None:
        """Take a quote, or a BREAK of them."""
        if record["kind"] == "BREAK":
            self._broken.append(record["source_sequence"])
            return
        prices = [amount(record[name]) for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")]
        self._quote_ids.append(record["source_sequence"])
        self._quotes.append(digest(*prices))

    def event(self, record: Record) -> None:
        """Take a book event; after an update the top is compared with the newest quote up to its id."""
        kind, last = record["kind"], record["final_update_id"]
        if kind == "BREAK":
            self._book = None
            return
        bids, asks = side_of(record, "bids"), side_of(record, "asks")
        if kind == "SNAPSHOT":
            self._book = self._book or RebuiltBook(last, bids, asks)
        elif self._book is not None and last > self._book.update_id:
            self._book.apply(last, bids, asks)
            self._compare_top(self._book)

    def _compare_top(self, book: RebuiltBook) -> None:
        at = bisect_right(self._quote_ids, book.update_id) - 1
        if at < 0 or at + 1 == len(self._quote_ids):  # nothing is known of what the last one was followed by
            return
        if bisect_right(self._broken, book.update_id) != bisect_right(self._broken, self._quote_ids[at + 1]):
            return
        bid, ask = book.bids.best or 0, book.asks.best or 0
        top = digest(bid, book.bids.quantities.get(bid, 0), ask, book.asks.quantities.get(ask, 0))
        self.totals.snapshots += 1
        self.unequal_quotes += top != self._quotes[at]

    def finish(self) -> None:
        """Judge the quotes as a whole."""
        if self.unequal_quotes * UNEQUAL_QUOTES > self.totals.snapshots:
            self._wrong(
                "quotes", None, f"at most one in {UNEQUAL_QUOTES:,} unlike the book",
                f"{self.unequal_quotes:,} of {self.totals.snapshots:,}",
            )  # fmt: skip

    def _wrong(self, field: str, number: int | None, expected: Any, found: Any) -> None:
        self.totals.disagreement += 1
        self._violations.add(
            Violation("disagreement", self.symbol, number, field=field, expected=expected, found=found)
        )


TAKEN: dict[str, Callable[[Agreement, Record], None]] = {
    "aggTrade": Agreement.aggregate,
    "bars": Agreement.bar,
    "trade": Agreement.trade,
    "bookTicker": Agreement.quote,
    "depth": Agreement.event,
}
"""What takes the records of each topic, in the order in which topics must be read."""
