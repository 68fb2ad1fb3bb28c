"""The streams that the auditor can judge: their topics, schemas, checks, and where the truth about them is.

Written without the writer's code: what is declared here is what a consumer was promised.
"""

from collections.abc import Callable
from typing import Any

from ingest.audit.book_check import BookCheck
from ingest.audit.book_truth import RestBooks, SimulatorBooks
from ingest.audit.decode import FIELDS
from ingest.audit.http import Transport
from ingest.audit.ledger import Ledger, RestLedger, SimulatorLedger
from ingest.audit.quote_check import QuoteCheck
from ingest.audit.run import Audited
from ingest.audit.stream_content import (
    FIGURES,
    AggregateContent,
    BlockContent,
    BookContent,
    QuoteContent,
    bar_content,
    identify,
    identify_book,
)
from ingest.audit.stream_ledger import INTERVALS_US, RestStreamLedger, SimulatorStreamLedger

COMMON = frozenset((
    "message_id", "symbol", "exchange", "asset_class", "currency", "ingestion_timestamp", "platform_sequence",
    "vendor_data", "event_timestamp", "receive_timestamp",
))  # fmt: skip
AGGREGATE = COMMON | {
    "timestamp", "price", "quantity", "side", "first_trade_id", "last_trade_id", "source_sequence",
}  # fmt: skip
BAR = COMMON | set(FIGURES) | {
    "interval", "open_timestamp", "close_timestamp", "trade_count", "first_trade_id", "last_trade_id",
    "source_sequence",
}  # fmt: skip
BOOK = COMMON | {"kind", "timestamp", "first_update_id", "final_update_id", "bids", "asks", "break_detail"}
QUOTE = COMMON | {
    "kind", "quote_id", "timestamp", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "source_sequence",
    "break_detail",
}  # fmt: skip


def _truth(ledger: Any, symbol: str, page: int) -> Any:
    return ledger.truth(symbol, page)


STREAMS: dict[str, Audited] = {
    "trade": Audited(),
    "aggTrade": Audited("aggTrade", "aggregates", "agg_trades", AGGREGATE, AggregateContent, identify),
    "blockTrade": Audited("blockTrade", "block trades", "block_trades", FIELDS, BlockContent, identify),
    **{
        f"kline_{interval}": Audited(
            f"kline_{interval}", "bars", "bars", BAR, bar_content(interval), identify, of_interval=interval
        )
        for interval in INTERVALS_US
    },
    "bookTicker": Audited(
        "bookTicker", "quotes", "quotes", QUOTE, QuoteContent, identify, QuoteCheck, _truth, numbered=False
    ),
    "depth": Audited("depth", "updates", "books", BOOK, BookContent, identify_book, BookCheck, _truth, numbered=False),
}
"""By the name that ``K2_BINANCE_STREAMS`` has for them."""


def simulator_ledger(url: str, stream: str, transport: Transport) -> Ledger:
    """The simulator's ledger of a stream."""
    if stream == "trade":
        return SimulatorLedger(url, transport=transport)
    made: Callable[..., Ledger] = SimulatorStreamLedger if STREAMS[stream].numbered else SimulatorBooks
    return made(url, stream, transport=transport)


def rest_ledger(url: str, stream: str, transport: Transport, weight_limit: int) -> Ledger:
    """What the exchange's REST says about a stream."""
    if not STREAMS[stream].numbered:
        return RestBooks(url, transport=transport, weight_limit=weight_limit)
    if stream == "trade":
        return RestLedger(url, transport=transport, weight_limit=weight_limit)
    return RestStreamLedger(url, stream, transport=transport, weight_limit=weight_limit)


def topic_of_trades(topic: str, kind: str) -> str:
    """The topic of trades that belongs to another one: ``a.books.b`` -> ``a.trades.b``, ``a.books`` -> ``a``."""
    parts = topic.split(".")
    if kind not in parts or kind == "trades":
        return topic
    place = parts.index(kind)
    return ".".join(parts[:-1] if place == len(parts) - 1 else [*parts[:place], "trades", *parts[place + 1 :]])


def topic_of(trades: str, kind: str) -> str:
    """The topic of a kind that belongs to one of trades: ``a.trades.b`` -> ``a.books.b``, ``a`` -> ``a.books``."""
    parts = trades.split(".")
    if kind == "trades":
        return trades
    place = parts.index("trades") if "trades" in parts else len(parts)
    return ".".join([*parts[:place], kind, *parts[place + 1 :]])
