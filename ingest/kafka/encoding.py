"""A trade as the bytes of its record: Avro ``TradeV2`` in the Confluent wire format (0x00, schema id, body).

``TradeEncoder`` is specialised for the one schema it knows and byte-identical to fastavro (a property test keeps it
so). ``GenericEncoder`` is for every other schema: slower, and it writes what the schema says.
"""

import io
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any, Final, Protocol

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade

EXCHANGE: Final = "BINANCE"
SCALE: Final = 8
PRECISION: Final = 38

_LIMIT: Final = 10**PRECISION
_ID_BLOCK: Final = 10_000
"""Ids that differ in their last four digits only."""
_VARINT_BLOCK: Final = 1 << 13
"""Numbers that differ in the first two bytes of their variable-length integer only."""

EARLIEST_US: Final = 1_483_228_800_000_000 // _VARINT_BLOCK * _VARINT_BLOCK
"""2017-01-01: the exchange opened in July 2017. A time in milliseconds read as microseconds falls far below."""
LATEST_US: Final = 4_102_444_800_000_000 // _VARINT_BLOCK * _VARINT_BLOCK - 1
"""2100-01-01. A time in nanoseconds read as microseconds lies far beyond. Whole blocks, so that one check is enough."""

_FOUR_DIGITS: Final = [b"%04d" % low for low in range(_ID_BLOCK)]
_VARINT_STARTS: Final = [bytes((low << 1 & 0x7F | 0x80, low >> 6 | 0x80)) for low in range(_VARINT_BLOCK)]
"""The first two bytes for each place in such a block; more bytes must follow."""
_PRESENT: Final = b"\x02"
"""The second branch of a union with null."""
_ABSENT: Final = b"\x00"
_OPTIONAL_STARTS: Final = [_PRESENT + start for start in _VARINT_STARTS]
"""The same in a union with null."""


_FIELDS: Final[Callable[[Trade], tuple[str, int, str, str, int, bool, int, int]]] = msgspec.structs.astuple
"""Seven fields one by one cost three times as much."""


class Encoder(Protocol):
    """Makes the value of a record."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the record; ``ingestion_us`` is microseconds since the epoch. Raises ``Reject``."""

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here, microseconds since the epoch; 0: not known."""

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's trades encodable."""


def zigzag(number: int) -> bytes:
    """Avro's variable-length integer for any number of 64 bits."""
    return _unsigned(number << 1 if number >= 0 else ((-number) << 1) - 1)


def _unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = tuple(bytes((2 * size,)) for size in range(64))
"""Lengths of one byte."""


def _bytes(raw: bytes) -> bytes:
    return zigzag(len(raw)) + raw


def avro_text(text: str) -> bytes:
    """Avro's string: the length of its UTF-8 and the bytes."""
    raw = text.encode()
    size = len(raw)
    return _SHORT[size] + raw if size < 64 else _bytes(raw)


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


_ASCII: Final[Callable[[str], bool]] = str.isascii
"""Looked up once: the compiler knows ``isdigit`` and not this one."""


def avro_decimal(text: str, what: str) -> bytes:
    """Avro's bytes of a decimal, with their length. Raises ``Reject("bad_decimal")``."""
    # The exchange always sends eight decimal places; the general way is for what is not written like that.
    digits = text.replace(".", "", 1)
    plain = 9 < len(text) <= PRECISION and text[-9] == "." and digits.isdigit() and _ASCII(digits)
    value = int(digits) if plain else unscaled(text, what)
    length = (value.bit_length() + 8) >> 3
    return (value + _LENGTHS[length]).to_bytes(length + 1, "big")  # cheaper than joining the length to the bytes


_LENGTHS: Final = [zigzag(length)[0] << 8 * length for length in range(20)]
"""What puts the length of a number in front of it."""


def _check_time(trade: Trade) -> None:
    if not EARLIEST_US <= trade.trade_time_us <= LATEST_US:
        raise Reject("implausible_time", f"trade time {trade.trade_time_us} is not microseconds of this century")


class _Symbol:
    """Of a record, what is the same for all trades of a symbol, and what was the same for its last ones.

    Consecutive ids differ in their last digits only, and the price often repeats (in six of ten recorded trades).
    """

    __slots__ = (
        "after_quantity",
        "before_id",
        "before_time",
        "first",
        "high",
        "id_tail",
        "low",
        "magic",
        "message_prefix",
        "price",
        "price_bytes",
        "shift",
        "tail",
        "trade_prefix",
    )

    def __init__(self, magic: bytes, symbol: str, base: str, quote: str) -> None:
        self.magic = magic
        self.message_prefix = f"{EXCHANGE}-{symbol}-".encode()
        self.before_time = avro_text(symbol) + avro_text(EXCHANGE) + zigzag(1)
        # side (BUY 0, SELL 1), no conditions, then the non-null branch of source_sequence
        self.after_quantity = tuple(avro_text(quote) + zigzag(side) + b"\x00" + zigzag(1) for side in (0, 1))
        vendor = avro_text("base_asset") + avro_text(base) + avro_text("quote_asset") + avro_text(quote)
        self.tail = b"\x00" + zigzag(1) + zigzag(2) + vendor + b"\x00"
        self.price: str | None = None
        self.price_bytes = b""
        self.first = self.low = self.high = self.shift = 0
        self.before_id = self.trade_prefix = self.id_tail = b""

    def enter(self, trade_id: int) -> int:
        """Prepare for ids around this one, at least ``_ID_BLOCK``; returns its distance from ``first``."""
        high_digits = b"%d" % (trade_id // _ID_BLOCK)
        length = len(high_digits) + 4
        self.before_id = self.magic + zigzag(len(self.message_prefix) + length) + self.message_prefix + high_digits
        self.trade_prefix = zigzag(len(EXCHANGE) + 1 + length) + EXCHANGE.encode() + b"-" + high_digits
        self.id_tail = _unsigned(trade_id // _VARINT_BLOCK)
        self.first = trade_id - trade_id % _ID_BLOCK
        self.shift = self.first - (trade_id - trade_id % _VARINT_BLOCK)
        self.low, self.high = max(0, -self.shift), min(_ID_BLOCK, _VARINT_BLOCK - self.shift)
        return trade_id - self.first


class TradeEncoder:
    """The specialised encoder for ``trade_v2.avsc``. Not thread-safe: one loop, one encoder."""

    def __init__(self, schema_id: int, assets: Mapping[str, tuple[str, str]]) -> None:
        """``assets``: symbol -> (base, quote), from the exchange's own list."""
        self._magic = b"\x00" + schema_id.to_bytes(4, "big")
        self._symbols: dict[str, _Symbol] = {}
        self._time_first = -_VARINT_BLOCK
        self._time_tail = b""
        self._ingestion_us = 0
        self._ingestion = zigzag(0)
        self._event_first = -_VARINT_BLOCK
        self._event_tail = b""
        self._received = _ABSENT
        self._after_event = b""
        for symbol, (base, quote) in assets.items():
            self.add_symbol(symbol, base, quote)

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's trades encodable."""
        self._symbols[symbol] = _Symbol(self._magic, symbol, base, quote)

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here; see ``Encoder``."""
        self._received = optional_time(receive_us)
        self._after_event = self._event_tail + self._received

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject`` (bad_decimal, implausible_time, unknown_symbol)."""
        symbol, trade_id, price, amount, trade_time_us, buyer_is_maker, event_time_us, _ = _FIELDS(trade)
        known = self._symbols.get(symbol)
        if known is None:
            raise Reject("unknown_symbol", f"{symbol!r} was not asked for")
        if price != known.price:
            known.price_bytes = avro_decimal(price, "price")
            known.price = price
        quantity = avro_decimal(amount, "quantity")
        time = trade_time_us - self._time_first
        if not 0 <= time < _VARINT_BLOCK:
            time = self._at(trade)
        if ingestion_us != self._ingestion_us:
            self._ingestion = zigzag(ingestion_us)
            self._ingestion_us = ingestion_us
        event = event_time_us - self._event_first
        if 0 <= event < _VARINT_BLOCK:
            event_start, after_event = _OPTIONAL_STARTS[event], self._after_event
        else:
            event_start, after_event = self._event(event_time_us)
        place = trade_id - known.first
        if not known.low <= place < known.high:
            if trade_id < _ID_BLOCK:
                return self._early(known, trade, quantity, event_start + after_event)
            place = known.enter(trade_id)
        last_digits = _FOUR_DIGITS[place]
        return b"".join(
            (
                known.before_id,
                last_digits,
                known.trade_prefix,
                last_digits,
                known.before_time,
                _VARINT_STARTS[time],
                self._time_tail,
                known.price_bytes,
                quantity,
                known.after_quantity[buyer_is_maker],
                _VARINT_STARTS[place + known.shift],
                known.id_tail,
                self._ingestion,
                known.tail,
                event_start,
                after_event,
            )
        )

    def _event(self, event_us: int) -> tuple[bytes, bytes]:
        """Prepare for event times around this one; returns all that follows the tail, in two parts."""
        if not EARLIEST_US <= event_us <= LATEST_US:
            return _ABSENT, self._received
        self._event_first = event_us - event_us % _VARINT_BLOCK
        self._event_tail = _unsigned(event_us // _VARINT_BLOCK)
        self._after_event = self._event_tail + self._received
        return _OPTIONAL_STARTS[event_us - self._event_first], self._after_event

    def _at(self, trade: Trade) -> int:
        """Prepare for times around this trade's; returns its distance from ``_time_first``."""
        _check_time(trade)
        number = trade.trade_time_us
        self._time_first = number - number % _VARINT_BLOCK
        self._time_tail = _unsigned(number // _VARINT_BLOCK)
        return number - self._time_first

    def _early(self, known: _Symbol, trade: Trade, quantity: bytes, rest: bytes) -> bytes:
        """One of the first trades of a symbol: a few in all, and shorter than the blocks above assume."""
        digits = b"%d" % trade.trade_id
        return b"".join(
            (
                known.magic,
                _bytes(known.message_prefix + digits),
                _bytes(EXCHANGE.encode() + b"-" + digits),
                known.before_time,
                zigzag(trade.trade_time_us),
                known.price_bytes,
                quantity,
                known.after_quantity[trade.buyer_is_maker],
                zigzag(trade.trade_id),
                self._ingestion,
                known.tail,
                rest,
            )
        )


def optional_time(time_us: int) -> bytes:
    """A time in a union with null, 0 being none."""
    return _PRESENT + zigzag(time_us) if time_us else _ABSENT


def record(trade: Trade, base: str, quote: str, ingestion_us: int, receive_us: int = 0) -> dict[str, Any]:
    """The record as a dictionary, for any Avro library. Raises ``Reject``. A time of 0 is null."""
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
        # A time of another unit is no time: the trade is good nevertheless.
        "event_timestamp": trade.event_time_us if EARLIEST_US <= trade.event_time_us <= LATEST_US else None,
        "receive_timestamp": receive_us or None,
    }


class GenericEncoder:
    """Any schema that a record of ours fits, by fastavro."""

    def __init__(self, schema_id: int, schema: Any, assets: Mapping[str, tuple[str, str]]) -> None:
        import fastavro  # seldom needed, and every start would pay for it

        self._magic = b"\x00" + schema_id.to_bytes(4, "big")
        self._write = fastavro.schemaless_writer
        self._schema = fastavro.parse_schema(schema)
        self._assets = dict(assets)
        self._receive_us = 0

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here; see ``Encoder``."""
        self._receive_us = receive_us

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
            self._write(out, self._schema, record(trade, *assets, ingestion_us, self._receive_us))
        except (ValueError, TypeError) as error:  # a decimal beyond the schema's precision or scale; another schema
            raise Reject("bad_decimal", str(error)) from error
        return out.getvalue()
