"""What the records of the numbered streams besides trades must say: aggregates, block trades, closed bars."""

from collections.abc import Iterable
from typing import Any

from ingest.audit.content import EXCHANGE, Content, Record, majority, number_in, traded

FIGURES = (
    "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume",
)  # fmt: skip
"""Of a bar, in the order of ``LedgerBar.figures``."""


class StreamContent(Content):
    """Compares all fields one by one; there is no quick answer."""

    def same(self, key: bytes | None, record: Record, trade: Any, written_us: int) -> bool:
        """Whether nothing differs."""
        return not self.differences(key, record, trade.trade_id, trade, written_us)


class AggregateContent(StreamContent):
    """``AggTradeV2``."""

    INFIX = "agg-"

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        if trade is None:
            return {}
        return traded(trade) | {"first_trade_id": trade.first_trade_id, "last_trade_id": trade.last_trade_id}


class BlockContent(StreamContent):
    """``TradeV2`` of block trades."""

    INFIX = "block-"

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        fixed = {"trade_id": f"{EXCHANGE}-block-{trade_id}", "trade_conditions": ["BLOCK_TRADE"]}
        return fixed if trade is None else fixed | traded(trade)


class BarContent(StreamContent):
    """``BarV2`` of one interval: see ``bar_content``. History does not state the ids of a bar's trades."""

    TIME = "close_timestamp"
    interval = ""

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        fixed = {"interval": self.interval}
        if trade is None:
            return fixed
        return fixed | {"open_timestamp": trade.open_us, "trade_count": trade.count}

    def _amounts(self, trade: Any) -> Iterable[tuple[str, str]]:
        return zip(FIGURES, trade.figures, strict=True)

    def _differences(self, key: bytes | None, record: Record, trade_id: int, trade: Any) -> Any:
        yield from super()._differences(key, record, trade_id, trade)
        if trade is None:
            return
        closed = record.get("close_timestamp")
        if closed not in (trade.time_us, trade.time_us - 999):
            yield "close_timestamp", trade.time_us, closed
        ids = record.get("first_trade_id"), record.get("last_trade_id")
        wanted = (None, None) if trade.ids is not None and trade.ids[0] < 0 else trade.ids
        if wanted is not None and ids not in (wanted, (None, None)):
            yield "first_trade_id", wanted, ids


def bar_content(interval: str) -> type[Content]:
    """The comparison of an interval's bars."""
    return type("IntervalContent", (BarContent,), {"interval": interval, "INFIX": f"kline_{interval}-"})


def identify(key: str | None, record: Record) -> tuple[str, int] | None:
    """Symbol and number of a record of which not every field need be right: what the most of its fields say."""
    words = str(record.get("message_id")).split("-")
    symbols = [key, record.get("symbol"), words[1] if len(words) > 2 else None]
    numbers = [record.get("source_sequence"), number_in(words[-1])]
    symbol = majority([one for one in symbols if isinstance(one, str) and one])
    number = majority([one for one in numbers if isinstance(one, int)])
    return None if symbol is None or number is None else (symbol, number)


class BookContent(StreamContent):
    """``BookEventV2``, without its levels."""

    INFIX = "book-"

    def _identity(self, record: Record, trade_id: int) -> dict[str, Any]:
        kind = str(record.get("kind")).lower()
        return {"message_id": f"{self._prefix}{kind}-{trade_id}"}

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        return {}


class QuoteContent(StreamContent):
    """``QuoteV2``, without its prices."""

    INFIX = "quote-"

    def _identity(self, record: Record, trade_id: int) -> dict[str, Any]:
        infix = "break-" if record.get("kind") == "BREAK" else ""
        return {
            "message_id": f"{self._prefix}{infix}{trade_id}",
            "quote_id": f"{EXCHANGE}-{trade_id}",
            "source_sequence": trade_id,
        }

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        return {"timestamp": None}


def identify_book(key: str | None, record: Record) -> tuple[str, int] | None:
    """Symbol and id of a book event: an UPDATE's and a SNAPSHOT's last id, the first one after a BREAK."""
    last = record.get("final_update_id")
    number = last + 1 if isinstance(last, int) and record.get("kind") == "BREAK" else last
    return identify(key, {**record, "source_sequence": number})
