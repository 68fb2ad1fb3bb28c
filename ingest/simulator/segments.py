"""How the ledger keeps trades: in columns, 25 bytes each, by runs of consecutive ids."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

Row = tuple[int, int, int, int, bool]
"""id, price, quantity, time in microseconds, buyer is maker."""

INT64_MAX = 2**63 - 1
_COMPACT = 64  # forgotten rows that are worth moving the remaining ones for


def decimal(units: int) -> str:
    """Units of 1e-8 as a decimal string, padded to 8 decimals as Binance does."""
    if units < 0:
        return "-" + decimal(-units)
    digits = f"{units:09d}"
    return f"{digits[:-8]}.{digits[-8:]}"


class Aggregate(NamedTuple):
    """Consecutive trades of one price, time and side: what Binance calls an aggregate trade."""

    agg_id: int
    price: int
    quantity: int
    first_id: int
    last_id: int
    time_us: int
    buyer_is_maker: bool


class Columns(NamedTuple):
    """A run of trades with consecutive ids, column by column."""

    first_id: int
    prices: array[int]
    quantities: array[int]
    times: array[int]
    makers: bytearray


class Segment:
    """Trades with consecutive ids; `lo` and `cut` count from the segment's very first trade.

    Rows below `lo` are forgotten, rows below `cut` are also gone from memory.
    """

    __slots__ = ("agg_starts", "cut", "first_agg", "first_id", "lo", "makers", "prices", "quantities", "seq", "times")

    def __init__(self, first_id: int, seq: int, first_agg: int) -> None:
        self.first_id = first_id
        self.seq = seq
        self.first_agg = first_agg  # id of agg_starts[0]
        self.lo = 0
        self.cut = 0
        self.prices = array("q")
        self.quantities = array("q")
        self.times = array("q")
        self.makers = bytearray()
        self.agg_starts = array("q")

    @property
    def end(self) -> int:
        """One more than the index of the newest trade."""
        return self.cut + len(self.prices)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The trades with these indices, which must be in memory."""
        a, b = start - self.cut, stop - self.cut
        return zip(
            range(self.first_id + start, self.first_id + stop),
            self.prices[a:b],
            self.quantities[a:b],
            self.times[a:b],
            map(bool, self.makers[a:b]),
            strict=True,
        )

    def index_at(self, time_us: int) -> int:
        """Index of the first remembered trade at or after a time."""
        return self.cut + bisect_left(self.times, time_us, self.lo - self.cut)

    def forget(self, lo: int) -> None:
        """Forget the trades below an index; memory is given back once it is worth moving the others."""
        self.lo = lo
        gone = lo - self.cut
        if gone >= _COMPACT and gone * 2 >= len(self.prices):
            for column in (self.prices, self.quantities, self.times):
                del column[:gone]
            del self.makers[:gone]
            self.cut = lo
            whole = bisect_left(self.agg_starts, lo)
            del self.agg_starts[:whole]
            self.first_agg += whole

    def aggregates(self, start: int, stop: int) -> tuple[int, int]:
        """Positions in `agg_starts` of the aggregates that begin in [start, stop)."""
        return bisect_left(self.agg_starts, max(start, self.lo)), bisect_left(self.agg_starts, stop)

    def aggregate(self, position: int) -> Aggregate:
        """The aggregate at a position of `agg_starts`."""
        start = self.agg_starts[position]
        last = position + 1 == len(self.agg_starts)
        stop = self.end if last else self.agg_starts[position + 1]
        a = start - self.cut
        return Aggregate(
            self.first_agg + position,
            self.prices[a],
            sum(self.quantities[a : stop - self.cut]),
            self.first_id + start,
            self.first_id + stop - 1,
            self.times[a],
            bool(self.makers[a]),
        )
