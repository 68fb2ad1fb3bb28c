"""Compares a record with the exchange's trade, field by field, prices as exact decimals."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from ingest.audit.model import Entry

EXCHANGE = "BINANCE"
ASSET_CLASS = "crypto"
SCALE = 8
"""Decimal places of price and quantity in the record's schema."""
PRECISION = 38
EARLIEST_US, LATEST_US = 1_483_228_800_000_000, 4_102_444_800_000_000
"""2017 to 2100: a time outside is not one in microseconds."""

_EXACT = Context(prec=100)
"""Enough digits that nothing is rounded; the default context has 28."""

CLOCK_TOLERANCE_SECONDS = 60.0
"""How far the writer's clock may be from the exchange's and the broker's."""

Record = Mapping[str, Any]
Difference = tuple[str, Any, Any]
"""Field, expected, found."""


def exact(value: Any) -> Decimal | None:
    """A record's decimal: two's complement bytes of ``SCALE`` places, or a Decimal; None if it is neither."""
    if isinstance(value, bytes):
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-SCALE, _EXACT)
    return value if isinstance(value, Decimal) else None


def representable(trade: Entry) -> bool:
    """Whether the record's schema can hold this trade without loss."""
    for text in trade.amounts:
        try:
            scaled = Decimal(text).scaleb(SCALE, _EXACT)
        except InvalidOperation:
            return False
        if not scaled.is_finite() or scaled < 0 or scaled != int(scaled) or scaled >= 10**PRECISION:
            return False
    return EARLIEST_US <= trade.time_us <= LATEST_US


def identify(key: str | None, record: Record) -> tuple[str, int] | None:
    """Symbol and id of a record of which not every field need be right: what the most of its fields say."""
    head, _, tail = str(record.get("message_id")).rpartition("-")
    symbols = [key, record.get("symbol"), head.removeprefix(f"{EXCHANGE}-")]
    ids = [record.get("source_sequence"), number_in(str(record.get("trade_id")).rpartition("-")[2]), number_in(tail)]
    symbol = majority([s for s in symbols if isinstance(s, str) and s])
    number = majority([n for n in ids if isinstance(n, int)])
    return None if symbol is None or number is None else (symbol, number)


def number_in(text: str) -> int | None:
    """A whole number in a text; None if it is none."""
    return int(text) if text.isascii() and text.isdigit() else None


def majority(values: list[Any]) -> Any:
    """What most of the values say; None without any."""
    return max(values, key=values.count) if values else None  # the first one where all differ


class Content:
    """Compares the records of one symbol: trades here, what other streams have in classes derived from it.

    ``assets`` are base and quote as the exchange lists them. Where they are not known, they must make up the symbol
    together, and the first record's pair binds all others.
    """

    TIME = "timestamp"
    """The field with the time of what is recorded."""
    INFIX = ""
    """Between the symbol and the number in a record's identity."""

    def __init__(
        self,
        symbol: str,
        assets: tuple[str, str] | None = None,
        *,
        clock_tolerance_seconds: float = CLOCK_TOLERANCE_SECONDS,
    ) -> None:
        self.symbol = symbol
        self._tolerance_us = round(clock_tolerance_seconds * 1e6)
        self._key = symbol.encode()
        self._prefix = f"{EXCHANGE}-{symbol}-{self.INFIX}"
        self._vendor: dict[str, str] | None = None
        self._quote: str | None = None
        if assets is not None:
            self._bind(*assets)

    def _bind(self, base: str, quote: str) -> None:
        self._vendor = {"base_asset": base, "quote_asset": quote}
        self._quote = quote

    def same(self, key: bytes | None, record: Record, trade: Any, written_us: int) -> bool:
        """Quick answer for the usual record; False only means that ``differences`` has to look.

        ``written_us`` is the record's own time in Kafka: the ingestion time lies before it and after the trade, up to
        the clocks' tolerance.
        """
        number, price, quantity = trade.trade_id, trade.price, trade.quantity
        ingested, tolerance = record["ingestion_timestamp"], self._tolerance_us
        return (
            record["source_sequence"] == number
            and type(record["price"]) is type(record["quantity"]) is bytes
            and price[-9:-8] == "."
            and quantity[-9:-8] == "."
            and int.from_bytes(record["price"], "big", signed=True) == int(price[:-9] + price[-8:])
            and int.from_bytes(record["quantity"], "big", signed=True) == int(quantity[:-9] + quantity[-8:])
            and record["timestamp"] == trade.time_us
            and type(ingested) is int
            and trade.time_us - tolerance <= ingested <= written_us + tolerance
            and _within(record.get("event_timestamp"), trade.time_us - tolerance, ingested + tolerance)
            and _within(record.get("receive_timestamp"), trade.time_us - tolerance, ingested + tolerance)
            and record["side"] == ("SELL" if trade.buyer_is_maker else "BUY")
            and record["message_id"] == f"{self._prefix}{number}"
            and record["trade_id"] == f"BINANCE-{number}"
            and record["symbol"] == self.symbol
            and record["vendor_data"] == self._vendor
            and record["currency"] == self._quote
            and key == self._key
            and record["exchange"] == EXCHANGE
            and record["asset_class"] == ASSET_CLASS
            and record["trade_conditions"] == []
            and record["platform_sequence"] is None
        )

    def differences(
        self, key: bytes | None, record: Record, trade_id: int, trade: Entry | None, written_us: int
    ) -> list[Difference]:
        """Everything that is not as it must be. Without ``trade`` only what the id and the symbol determine."""
        return [
            *self._differences(key, record, trade_id, trade),
            *self._ingestion_differences(record, trade, written_us),
        ]

    def _ingestion_differences(self, record: Record, trade: Entry | None, written_us: int) -> Iterator[Difference]:
        found = record.get("ingestion_timestamp")
        traded_us = trade.time_us if trade is not None else record.get("timestamp")
        if type(found) is not int:
            yield "ingestion_timestamp", "microseconds since 1970", found
        elif type(traded_us) is int and found < traded_us - self._tolerance_us:
            yield "ingestion_timestamp", f"at least {traded_us}, the time of the trade", found
        elif found > written_us + self._tolerance_us:
            yield "ingestion_timestamp", f"at most {written_us}, the time of the record", found
        yield from self._delivery_differences(record, traded_us, found)

    def _delivery_differences(self, record: Record, traded_us: Any, ingested_us: Any) -> Iterator[Difference]:
        """The exchange sends a trade after it, it is read then, and ingested last: up to the clocks' tolerance."""
        if type(traded_us) is not int or type(ingested_us) is not int:
            return
        for field in ("event_timestamp", "receive_timestamp"):
            found = record.get(field)
            if found is None:
                continue  # read from history; or a schema without the field
            if type(found) is not int:
                yield field, "microseconds since 1970", found
            elif not traded_us - self._tolerance_us <= found <= ingested_us + self._tolerance_us:
                yield field, f"from {traded_us}, the time of the trade, to {ingested_us}, its ingestion", found

    def _differences(
        self, key: bytes | None, record: Record, trade_id: int, trade: Entry | None
    ) -> Iterator[Difference]:
        if key != self._key:
            yield "key", self.symbol, None if key is None else key.decode(errors="replace")
        expected = {
            "symbol": self.symbol,
            "exchange": EXCHANGE,
            "asset_class": ASSET_CLASS,
            "platform_sequence": None,
            **self._identity(record, trade_id),
            **self._expected(trade_id, trade),
        }
        for field, value in expected.items():
            if record.get(field) != value:
                yield field, value, record.get(field)
        yield from self._asset_differences(record)
        for field, text in () if trade is None else self._amounts(trade):
            found = exact(record.get(field))
            if found is None or found != _decimal(text):
                yield field, text, repr(record.get(field)) if found is None else f"{found:f}"

    def _identity(self, record: Record, trade_id: int) -> dict[str, Any]:
        return {"message_id": f"{self._prefix}{trade_id}", "source_sequence": trade_id}

    def _expected(self, trade_id: int, trade: Any) -> dict[str, Any]:
        """Further fields that must be equal. Without ``trade`` only what the id determines."""
        fixed = {"trade_id": f"{EXCHANGE}-{trade_id}", "trade_conditions": []}
        return fixed if trade is None else fixed | traded(trade)

    def _amounts(self, trade: Any) -> Iterable[tuple[str, str]]:
        """Fields that are exact decimals."""
        return zip(("price", "quantity"), trade.amounts, strict=True)

    def _asset_differences(self, record: Record) -> Iterator[Difference]:
        vendor, currency = record.get("vendor_data"), record.get("currency")
        if self._vendor is None and isinstance(vendor, dict):
            base, quote = vendor.get("base_asset"), vendor.get("quote_asset")
            if base and quote and base + quote == self.symbol and currency == quote:
                self._bind(base, quote)
        if self._vendor is None:
            yield "vendor_data", f"base_asset and quote_asset that make up {self.symbol}", vendor
            return
        if vendor != self._vendor:
            yield "vendor_data", self._vendor, vendor
        if currency != self._quote:
            yield "currency", self._quote, currency


def _within(found: Any, earliest: int, latest: int) -> bool:
    """Whether a time that may be absent is not outside."""
    return found is None or (type(found) is int and earliest <= found <= latest)


def traded(trade: Any) -> dict[str, Any]:
    """Time and side as a record has them."""
    return {"timestamp": trade.time_us, "side": "SELL" if trade.buyer_is_maker else "BUY"}


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
