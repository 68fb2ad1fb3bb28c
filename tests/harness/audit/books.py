"""An exchange's books in memory, and the records that a flawless writer makes of them."""

from collections.abc import Iterator
from typing import Any

from ingest.audit.model import LedgerTrade

BASE, QUOTE = "BTC", "USDT"
SYMBOL = BASE + QUOTE


def trade(trade_id: int, price: str | None = None, quantity: str = "0.00012000") -> LedgerTrade:
    return LedgerTrade(
        trade_id, price or f"{60_000 + trade_id % 977}.{trade_id % 10**8:08d}", quantity,
        1_700_000_000_000_000 + 1_000 * trade_id, trade_id % 3 == 0,
    )  # fmt: skip


def unscaled(text: str) -> bytes:
    number = int(text.replace(".", ""))
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def record(of: LedgerTrade, symbol: str = SYMBOL) -> dict[str, Any]:
    """Decoded fields; decimals as the bytes that Avro holds."""
    base = symbol.removesuffix(QUOTE)
    return {
        "message_id": f"BINANCE-{symbol}-{of.trade_id}",
        "trade_id": f"BINANCE-{of.trade_id}",
        "symbol": symbol,
        "exchange": "BINANCE",
        "asset_class": "crypto",
        "timestamp": of.time_us,
        "price": unscaled(of.price),
        "quantity": unscaled(of.quantity),
        "currency": QUOTE,
        "side": "SELL" if of.buyer_is_maker else "BUY",
        "trade_conditions": [],
        "source_sequence": of.trade_id,
        "ingestion_timestamp": of.time_us + 40_000,
        "platform_sequence": None,
        "vendor_data": {"base_asset": base, "quote_asset": QUOTE},
    }


WRITTEN_US = 10**18
"""A record's time in Kafka, later than that of every trade here."""


class Books:
    """One symbol's trades by id."""

    def __init__(self, trades: list[LedgerTrade]) -> None:
        self.trades = {one.trade_id: one for one in trades}
        self.unknown: list[tuple[int, int]] = []
        """Ids of which this history shows nothing."""

    def at(self, trade_id: int) -> LedgerTrade | None:
        return self.trades.get(trade_id)

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        return (self.trades[n] for n in sorted(self.trades) if first_id <= n <= last_id)

    def unknowable(self, first_id: int, last_id: int) -> list[tuple[int, int]]:
        return [
            (max(first_id, first), min(last_id, last))
            for first, last in self.unknown
            if first <= last_id >= first_id <= last
        ]

    def newest(self) -> LedgerTrade | None:
        return max(self.trades.values(), key=lambda one: (one.time_us, one.trade_id), default=None)
