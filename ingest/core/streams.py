"""The streams of the spot market as declarations: what each one promises, how it is numbered, and what repairs it.

The core knows three contracts and no stream by name; a stream is data. Facts of the exchange are those of its
documentation [wss][rest] and of recordings [rec].
"""

from enum import StrEnum
from typing import Final, Literal

import msgspec

Contract = Literal["numbered", "chained", "latest"]
"""What a topic promises:

- ``numbered``: contiguous numbers per symbol; each exactly once and in order, or a declared void;
- ``chained``: ranges of ids that follow each other; each exactly once and in order, every break declared in the topic
  and followed by a snapshot;
- ``latest``: ids that rise, with gaps by design; each at most once, and every interval without a listener declared.
"""


class Priority(StrEnum):
    """Who gives way under pressure: quotes first, then books, trades never."""

    NEVER_SHED = "never_shed"
    SHED_LAST = "shed_last"
    SHED_FIRST = "shed_first"


class Request(msgspec.Struct, frozen=True):
    """A REST request that repairs a stream, or takes a snapshot of it [rest]."""

    path: str
    weight: int
    """Request weight of one page."""
    page: int
    """Most elements of one answer."""
    starts_at: str = ""
    """The parameter that names the first element; empty for a snapshot."""


class Stream(msgspec.Struct, frozen=True):
    """One stream. Field names in ``number``, ``time`` and ``decimals`` are those on the wire."""

    name: str
    """As ``K2_BINANCE_STREAMS`` names it; position keys are ``position:<name>:<symbol>`` (trades: no name)."""
    wire: str
    """Behind ``<symbol>@``."""
    event: str | None
    """The value of ``e``; None where the exchange sends none."""
    contract: Contract
    kind: str
    """Of the topic ``market.crypto.<kind>.binance``."""
    record: str
    """The name of the Avro schema."""
    number: tuple[str, ...]
    """The number, or the first and the last id of a range."""
    time: str | None
    """The exchange's own time; None where it states none."""
    decimals: tuple[str, ...]
    """Fields that must be exact decimals, not negative."""
    priority: Priority
    repair: Request | None = None
    snapshot: Request | None = None
    stride_us: int = 0
    """Of a bar: its length in microseconds; 0 for no bar, and for the month, which has no fixed length."""
    jump_limit: int = 1_000_000
    """A number this far ahead is not plausible."""
    most_levels: int = 0
    """Levels of one side that one message may have at most; 0: it has none."""

    @property
    def is_trade(self) -> bool:
        """Whether this is the stream whose names carry no prefix."""
        return self.name == "trade"

    def sequence_name(self, symbol: str) -> str:
        """What batches and positions call the sequence of a symbol: unique over all streams."""
        return symbol if self.is_trade else f"{self.name}{SEPARATOR}{symbol}"


SEPARATOR: Final = ":"
"""Between stream and symbol; no symbol contains it [rest]."""

INTERVALS_US: Final = {
    "1s": 1_000_000,
    **{f"{n}m": n * 60_000_000 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3_600_000_000 for n in (1, 2, 4, 6, 8, 12)},
    **{f"{n}d": n * 86_400_000_000 for n in (1, 3)},
    "1w": 604_800_000_000,
    "1M": 0,
}
"""Bar intervals -> length in microseconds [wss]; 0: a calendar month."""

TRADE: Final = Stream(
    "trade", "trade", "trade", "numbered", "trades", "TradeV2", ("t",), "T", ("p", "q"), Priority.NEVER_SHED,
    repair=Request("/api/v3/historicalTrades", 25, 1000, "fromId"),
)  # fmt: skip
AGG_TRADE: Final = Stream(
    "aggTrade", "aggTrade", "aggTrade", "numbered", "agg_trades", "AggTradeV2", ("a",), "T", ("p", "q"),
    Priority.NEVER_SHED, repair=Request("/api/v3/aggTrades", 4, 1000, "fromId"),
)  # fmt: skip
BLOCK_TRADE: Final = Stream(
    "blockTrade", "blockTrade", "blockTrade", "numbered", "block_trades", "TradeV2", ("t",), "T", ("p", "q"),
    Priority.NEVER_SHED, repair=Request("/api/v3/historicalBlockTrades", 25, 1000, "fromId"),
)  # fmt: skip
BOOK_TICKER: Final = Stream(
    "bookTicker", "bookTicker", None, "latest", "quotes", "QuoteV2", ("u",), None, ("b", "B", "a", "A"),
    Priority.SHED_FIRST,
)  # fmt: skip
DEPTH: Final = Stream(
    "depth", "depth@100ms", "depthUpdate", "chained", "books", "BookEventV2", ("U", "u"), "E", ("b", "a"),
    Priority.SHED_LAST, snapshot=Request("/api/v3/depth", 50, 1000), most_levels=5000,
)  # fmt: skip


def bars(interval: str) -> Stream:
    """The closed bars of an interval. Raises ``KeyError`` for an interval that the exchange does not have."""
    stride = INTERVALS_US[interval]
    return Stream(
        f"kline_{interval}", f"kline_{interval}", "kline", "numbered", "bars", "BarV2", ("t",), "T",
        ("o", "h", "l", "c", "v", "q", "V", "Q"), Priority.NEVER_SHED,
        repair=Request("/api/v3/klines", 2, 1000, "startTime"), stride_us=stride,
    )  # fmt: skip


STREAMS: Final[dict[str, Stream]] = {
    one.name: one
    for one in (TRADE, AGG_TRADE, BLOCK_TRADE, *(bars(interval) for interval in INTERVALS_US), BOOK_TICKER, DEPTH)
}
"""Every stream that can be recorded, by name."""


def split_name(name: str) -> tuple[str, str]:
    """Stream and symbol of a sequence's name (see ``Stream.sequence_name``)."""
    stream, separator, symbol = name.partition(SEPARATOR)
    return (stream, symbol) if separator else (TRADE.name, stream)


MONTHS: Final = 12


def bar_number(stride_us: int, year: int, month: int, open_us: int) -> int:
    """The number of a bar: its opening time divided by its length; months since 1970 for the month."""
    return open_us // stride_us if stride_us else (year - 1970) * MONTHS + month - 1
