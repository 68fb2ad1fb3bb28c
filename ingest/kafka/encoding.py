"""A trade as the bytes of its record: Avro ``TradeV2`` in the Confluent wire format (0x00, schema id, body).

``TradeEncoder`` is specialised for the one schema it knows and byte-identical to fastavro (a property test keeps it
so). ``GenericEncoder`` is for every other schema: slower, and it writes what the schema says.
"""

import io
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, Protocol

from ingest.core.errors import Reject
from ingest.core.trade import Trade

EXCHANGE = "BINANCE"
SCALE = 8
PRECISION = 38
EARLIEST_US = 1_483_228_800_000_000
"""2017-01-01: the exchange opened in July 2017. A time in milliseconds read as microseconds falls far below."""
LATEST_US = 4_102_444_800_000_000
"""2100-01-01. A time in nanoseconds read as microseconds lies far beyond."""

_LIMIT = 10**PRECISION
_CACHED_HIGH_PARTS = 65_536
_PAIRS = [bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(1 << 14)]
"""Two continued bytes of a variable-length integer for each value of 14 bits."""


class Encoder(Protocol):
    """Makes the value of a record."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the record; ``ingestion_us`` is microseconds since the epoch. Raises ``Reject``."""

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's trades encodable."""


def zigzag(number: int) -> bytes:
    """Avro's variable-length integer for any number of 64 bits."""
    number = number << 1 if number >= 0 else ((-number) << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(text: str) -> bytes:
    raw = text.encode()
    return zigzag(len(raw)) + raw


def unscaled(text: str, what: str) -> int:
    """The decimal in ``text`` times 10**8, exactly. Raises ``Reject("bad_decimal")`` where there is no such integer.

    The grammar is the exchange's: ASCII digits, a point, digits. No sign, no exponent, nothing that ``int`` or
    ``Decimal`` would let through besides.
    """
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and whole and (fraction or not point)):
        raise Reject("bad_decimal", f"{what} {text!r} is not a plain decimal")
    if len(fraction) > SCALE:
        if fraction[SCALE:].strip("0"):
            raise Reject("bad_decimal", f"{what} {text!r} has more than {SCALE} decimal places")
        digits = whole + fraction[:SCALE]
    value = int(digits) if len(fraction) >= SCALE else int(digits) * 10 ** (SCALE - len(fraction))
    if value >= _LIMIT:
        raise Reject("bad_decimal", f"{what} {text!r} has more than {PRECISION} digits")
    return value


def _check_time(trade: Trade) -> None:
    if not EARLIEST_US <= trade.trade_time_us <= LATEST_US:
        raise Reject("implausible_time", f"trade time {trade.trade_time_us} is not microseconds of this century")


class _Symbol:
    """Everything of a record that is the same for all trades of a symbol."""

    __slots__ = ("after_quantity", "before_time", "heads", "message_prefix", "tail")

    def __init__(self, symbol: str, base: str, quote: str) -> None:
        self.message_prefix = f"{EXCHANGE}-{symbol}-".encode()
        self.before_time = _text(symbol) + _text(EXCHANGE) + zigzag(1)
        # side (BUY 0, SELL 1), no conditions, then the non-null branch of source_sequence
        self.after_quantity = tuple(_text(quote) + zigzag(side) + b"\x00" + zigzag(1) for side in (0, 1))
        vendor = _text("base_asset") + _text(base) + _text("quote_asset") + _text(quote)
        self.tail = b"\x00" + zigzag(1) + zigzag(2) + vendor + b"\x00"
        self.heads: dict[int, tuple[bytes, bytes]] = {}


class TradeEncoder:
    """The specialised encoder for ``trade_v2.avsc``. Not thread-safe: one loop, one encoder."""

    def __init__(self, schema_id: int, assets: Mapping[str, tuple[str, str]]) -> None:
        """``assets``: symbol -> (base, quote), from the exchange's own list."""
        self._magic = b"\x00" + schema_id.to_bytes(4, "big")
        self._symbols: dict[str, _Symbol] = {}
        self._high: dict[int, bytes] = {}
        self._ingestion = (0, zigzag(0))
        for symbol, (base, quote) in assets.items():
            self.add_symbol(symbol, base, quote)

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's trades encodable."""
        self._symbols[symbol] = _Symbol(symbol, base, quote)

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject`` (bad_decimal, implausible_time, unknown_symbol)."""
        known = self._symbols.get(trade.symbol)
        if known is None:
            raise Reject("unknown_symbol", f"{trade.symbol!r} was not asked for")
        price, quantity, time_us = trade.price, trade.quantity, trade.trade_time_us
        # The exchange always sends eight decimal places; the general way is for what is not written like that.
        digits = price[:-9] + price[-8:]
        scaled_price = (
            int(digits)
            if price[-9:-8] == "." and digits.isdigit() and digits.isascii() and 8 < len(digits) <= PRECISION
            else unscaled(price, "price")
        )
        digits = quantity[:-9] + quantity[-8:]
        scaled_quantity = (
            int(digits)
            if quantity[-9:-8] == "." and digits.isdigit() and digits.isascii() and 8 < len(digits) <= PRECISION
            else unscaled(quantity, "quantity")
        )
        if not EARLIEST_US <= time_us <= LATEST_US:
            _check_time(trade)
        if ingestion_us != self._ingestion[0]:
            self._ingestion = (ingestion_us, zigzag(ingestion_us))
        trade_id = b"%d" % trade.trade_id
        head = known.heads.get(len(trade_id)) or self._head(known, len(trade_id))
        price_length = (scaled_price.bit_length() + 8) >> 3
        quantity_length = (scaled_quantity.bit_length() + 8) >> 3
        number = time_us << 1
        high = number >> 28
        time_tail = self._high.get(high) or self._remember(high)
        sequence = trade.trade_id << 1
        high = sequence >> 28
        return b"".join(
            (
                head[0],
                trade_id,
                head[1],
                trade_id,
                known.before_time,
                _PAIRS[number & 0x3FFF],
                _PAIRS[number >> 14 & 0x3FFF],
                time_tail,
                _LENGTHS[price_length],
                scaled_price.to_bytes(price_length, "big"),
                _LENGTHS[quantity_length],
                scaled_quantity.to_bytes(quantity_length, "big"),
                known.after_quantity[trade.buyer_is_maker],
                (
                    _PAIRS[sequence & 0x3FFF]
                    + _PAIRS[sequence >> 14 & 0x3FFF]
                    + (self._high.get(high) or self._remember(high))
                    if high
                    else _unsigned(sequence)
                ),
                self._ingestion[1],
                known.tail,
            )
        )

    def _head(self, known: _Symbol, digits: int) -> tuple[bytes, bytes]:
        """What stands before each of the two places of an id with so many digits."""
        head = (
            self._magic + zigzag(len(known.message_prefix) + digits) + known.message_prefix,
            zigzag(len(EXCHANGE) + 1 + digits) + EXCHANGE.encode() + b"-",
        )
        known.heads[digits] = head
        return head

    def _remember(self, high: int) -> bytes:
        """The last bytes of a long integer: they change every two minutes (times) or never (ids)."""
        if len(self._high) >= _CACHED_HIGH_PARTS:
            self._high.clear()
        encoded = self._high[high] = _unsigned(high)
        return encoded


_LENGTHS = [zigzag(length) for length in range(20)]


def record(trade: Trade, base: str, quote: str, ingestion_us: int) -> dict[str, Any]:
    """The record as a dictionary, for any Avro library. Raises ``Reject``."""
    _check_time(trade)
    exact = Context(prec=PRECISION)
    return {
        "message_id": f"{EXCHANGE}-{trade.symbol}-{trade.trade_id}",
        "trade_id": f"{EXCHANGE}-{trade.trade_id}",
        "symbol": trade.symbol,
        "exchange": EXCHANGE,
        "asset_class": "crypto",
        "timestamp": trade.trade_time_us,
        "price": Decimal(unscaled(trade.price, "price")).scaleb(-SCALE, exact),
        "quantity": Decimal(unscaled(trade.quantity, "quantity")).scaleb(-SCALE, exact),
        "currency": quote,
        "side": "SELL" if trade.buyer_is_maker else "BUY",
        "trade_conditions": [],
        "source_sequence": trade.trade_id,
        "ingestion_timestamp": ingestion_us,
        "platform_sequence": None,
        "vendor_data": {"base_asset": base, "quote_asset": quote},
    }


class GenericEncoder:
    """Any schema that a record of ours fits, by fastavro."""

    def __init__(self, schema_id: int, schema: Any, assets: Mapping[str, tuple[str, str]]) -> None:
        import fastavro  # seldom needed, and every start would pay for it

        self._magic = b"\x00" + schema_id.to_bytes(4, "big")
        self._write = fastavro.schemaless_writer
        self._schema = fastavro.parse_schema(schema)
        self._assets = dict(assets)

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's trades encodable."""
        self._assets[symbol] = (base, quote)

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject``."""
        assets = self._assets.get(trade.symbol)
        if assets is None:
            raise Reject("unknown_symbol", f"{trade.symbol!r} was not asked for")
        out = io.BytesIO()
        out.write(self._magic)
        try:
            self._write(out, self._schema, record(trade, *assets, ingestion_us))
        except (ValueError, TypeError) as error:  # a decimal beyond the schema's precision or scale; another schema
            raise Reject("bad_decimal", str(error)) from error
        return out.getvalue()
