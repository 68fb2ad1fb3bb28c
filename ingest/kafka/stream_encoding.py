"""Records of the streams besides the trades: Avro in the Confluent wire format, byte for byte as fastavro writes them.

Each encoder is for one schema of this package (``agg_trade_v2.avsc`` and so on); property tests hold them to fastavro.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, BookSnapshot, Break, DepthUpdate, Level, Quote
from ingest.kafka.encoding import EARLIEST_US, EXCHANGE, LATEST_US, avro_decimal, avro_text, optional_time, zigzag

_NULL: Final = b"\x00"
_SECOND: Final = zigzag(1)
"""The second branch of a union with null."""
_CRYPTO: Final = zigzag(1)
_SIDES: Final = (zigzag(0), zigzag(1))
"""BUY and SELL, by whether the buyer is the maker."""
_QUOTE, _QUOTE_BREAK = zigzag(0), zigzag(1)
_SNAPSHOT, _UPDATE, _BOOK_BREAK = zigzag(0), zigzag(1), zigzag(2)
_EXCHANGE: Final = avro_text(EXCHANGE)
_NO_LEVELS: Final = b"\x00"


class _Symbol:
    """What is the same in all records of a symbol."""

    __slots__ = ("currency", "decimals", "identity", "name", "vendor")

    def __init__(self, symbol: str, base: str, quote: str) -> None:
        self.name = f"{EXCHANGE}-{symbol}-"
        self.identity = avro_text(symbol) + _EXCHANGE + _CRYPTO
        self.currency = avro_text(quote)
        pairs = avro_text("base_asset") + avro_text(base) + avro_text("quote_asset") + avro_text(quote)
        self.vendor = _NULL + _SECOND + zigzag(2) + pairs + b"\x00"
        """platform_sequence, which is null, and vendor_data."""
        self.decimals: dict[str, bytes] = {}
        """Prices and quantities as of late: of two quotes in a row most are the same."""


class StreamEncoder:
    """What the encoders share. Not thread-safe: one loop, one encoder."""

    def __init__(self, schema_id: int, assets: Mapping[str, tuple[str, str]]) -> None:
        """``assets``: symbol -> (base, quote), from the exchange's own list."""
        self._magic = b"\x00" + schema_id.to_bytes(4, "big")
        self._symbols: dict[str, _Symbol] = {}
        self._received = _NULL
        for symbol, (base, quote) in assets.items():
            self.add_symbol(symbol, base, quote)

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's events encodable."""
        self._symbols[symbol] = _Symbol(symbol, base, quote)

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here; 0: not known."""
        self._received = optional_time(receive_us)

    def _known(self, symbol: str) -> _Symbol:
        known = self._symbols.get(symbol)
        if known is None:
            raise Reject("unknown_symbol", f"{symbol!r} was not asked for")
        return known

    def _tail(self, known: _Symbol, ingestion_us: int, event_us: int) -> bytes:
        """From the ingestion timestamp to the receive timestamp, as all schemas have them."""
        event = optional_time(event_us if EARLIEST_US <= event_us <= LATEST_US else 0)
        return zigzag(ingestion_us) + known.vendor + event + self._received


def _time(time_us: int, what: str) -> bytes:
    if not EARLIEST_US <= time_us <= LATEST_US:
        raise Reject("implausible_time", f"{what} {time_us} is not microseconds of this century")
    return zigzag(time_us)


def _optional_id(number: int) -> bytes:
    return _SECOND + zigzag(number) if number >= 0 else _NULL


class AggTradeEncoder(StreamEncoder):
    """``AggTradeV2``."""

    def encode(self, event: AggTrade, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject``."""
        known = self._known(event.symbol)
        if event.last_trade_id < event.first_trade_id:
            raise Reject("implausible_range", f"trades {event.first_trade_id}..{event.last_trade_id}")
        return b"".join((
            self._magic,
            avro_text(f"{known.name}agg-{event.trade_id}"),
            known.identity,
            _time(event.trade_time_us, "trade time"),
            avro_decimal(event.price, "price"),
            avro_decimal(event.quantity, "quantity"),
            known.currency,
            _SIDES[event.buyer_is_maker],
            zigzag(event.first_trade_id),
            zigzag(event.last_trade_id),
            _SECOND,
            zigzag(event.trade_id),
            self._tail(known, ingestion_us, event.event_time_us),
        ))  # fmt: skip


class BlockTradeEncoder(StreamEncoder):
    """``TradeV2``, of block trades."""

    def encode(self, event: BlockTrade, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject``."""
        known = self._known(event.symbol)
        return b"".join((
            self._magic,
            avro_text(f"{known.name}block-{event.trade_id}"),
            avro_text(f"{EXCHANGE}-block-{event.trade_id}"),
            known.identity,
            _time(event.trade_time_us, "trade time"),
            avro_decimal(event.price, "price"),
            avro_decimal(event.quantity, "quantity"),
            known.currency,
            _SIDES[event.buyer_is_maker],
            zigzag(1),
            avro_text("BLOCK_TRADE"),
            b"\x00",
            _SECOND,
            zigzag(event.trade_id),
            self._tail(known, ingestion_us, event.event_time_us),
        ))  # fmt: skip


class BarEncoder(StreamEncoder):
    """``BarV2``."""

    def encode(self, event: Bar, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject``."""
        known = self._known(event.symbol)
        return b"".join((
            self._magic,
            avro_text(f"{known.name}kline_{event.interval}-{event.trade_id}"),
            known.identity,
            avro_text(event.interval),
            _time(event.open_time_us, "opening time"),
            _time(event.trade_time_us, "closing time"),
            *(avro_decimal(figure, "a figure of the bar") for figure in event.figures),
            zigzag(event.count),
            _optional_id(event.first_trade_id),
            _optional_id(event.last_trade_id),
            known.currency,
            _SECOND,
            zigzag(event.trade_id),
            self._tail(known, ingestion_us, event.event_time_us),
        ))  # fmt: skip


def _break_detail(found: Break) -> bytes:
    last = -1 if found.last_id is None else found.last_id
    since = _NULL if found.from_us is None else _SECOND + zigzag(found.from_us)
    return b"".join((
        _SECOND, _optional_id(last), zigzag(found.first_id), since, zigzag(found.to_us), avro_text(found.reason),
        avro_text(found.evidence),
    ))  # fmt: skip


KEPT_DECIMALS: Final = 32
"""Decimals kept of a symbol."""


def _optional_decimal(kept: dict[str, bytes], text: str, what: str) -> bytes:
    """A decimal in the second branch of a union with null. Raises ``Reject``."""
    value = _SECOND + avro_decimal(text, what)
    if len(kept) >= KEPT_DECIMALS:
        kept.clear()
    kept[text] = value
    return value


class QuoteEncoder(StreamEncoder):
    """``QuoteV2``."""

    _ingestion: tuple[int, bytes] = (-1, b"")
    """The time of the last quote: those of one read have the same."""

    def encode(self, event: Quote, ingestion_us: int) -> bytes:
        """Return the value of the record. Raises ``Reject``."""
        known = self._symbols.get(event.symbol) or self._known(event.symbol)
        if self._ingestion[0] != ingestion_us:
            self._ingestion = ingestion_us, zigzag(ingestion_us)
        number, kept = event.trade_id, known.decimals
        get = kept.get
        bid, bids, ask, asks = event.bid_price, event.bid_quantity, event.ask_price, event.ask_quantity
        return b"".join((
            self._magic,
            avro_text(f"{known.name}quote-{number}"),
            _QUOTE,
            avro_text(f"{EXCHANGE}-{number}"),
            known.identity,
            _NULL,
            get(bid) or _optional_decimal(kept, bid, "bid price"),
            get(bids) or _optional_decimal(kept, bids, "bid quantity"),
            get(ask) or _optional_decimal(kept, ask, "ask price"),
            get(asks) or _optional_decimal(kept, asks, "ask quantity"),
            known.currency,
            _SECOND,
            zigzag(number),
            self._ingestion[1],
            known.vendor,
            _NULL,
            self._received,
            _NULL,
        ))  # fmt: skip

    def encode_break(self, found: Break, ingestion_us: int) -> bytes:
        """Return the value of a declared interruption."""
        known = self._known(found.symbol)
        return b"".join((
            self._magic,
            avro_text(f"{known.name}quote-break-{found.first_id}"),
            _QUOTE_BREAK,
            avro_text(f"{EXCHANGE}-{found.first_id}"),
            known.identity,
            _NULL * 5,
            known.currency,
            _SECOND,
            zigzag(found.first_id),
            self._tail(known, ingestion_us, 0),
            _break_detail(found),
        ))  # fmt: skip


class BookEncoder(StreamEncoder):
    """``BookEventV2``."""

    def encode(self, event: DepthUpdate, ingestion_us: int) -> bytes:
        """Return the value of an UPDATE. Raises ``Reject``."""
        known = self._known(event.symbol)
        time = _SECOND + _time(event.event_time_us, "event time")
        ids = zigzag(event.first_id) + zigzag(event.trade_id)
        sides = levels(event.bids) + levels(event.asks)
        tail = self._tail(known, ingestion_us, event.event_time_us)
        return self._record(known, f"update-{event.trade_id}", _UPDATE, time, ids, sides, tail, _NULL)

    def encode_snapshot(self, symbol: str, book: BookSnapshot, ingestion_us: int) -> bytes:
        """Return the value of a SNAPSHOT. Raises ``Reject``."""
        known, number = self._known(symbol), book.last_update_id
        ids = zigzag(number) * 2
        sides = levels(book.bids) + levels(book.asks)
        tail = self._tail(known, ingestion_us, 0)
        return self._record(known, f"snapshot-{number}", _SNAPSHOT, _NULL, ids, sides, tail, _NULL)

    def encode_break(self, found: Break, ingestion_us: int) -> bytes:
        """Return the value of a BREAK."""
        known = self._known(found.symbol)
        first = found.first_id if found.last_id is None else found.last_id + 1
        ids = zigzag(first) + zigzag(found.first_id - 1)
        tail = self._tail(known, ingestion_us, 0)
        detail = _break_detail(found)
        return self._record(known, f"break-{found.first_id}", _BOOK_BREAK, _NULL, ids, _NO_LEVELS * 2, tail, detail)

    def _record(self, known: _Symbol, identity: str, kind: bytes, *parts: bytes) -> bytes:
        time, ids, sides, tail, detail = parts
        name = avro_text(f"{known.name}book-{identity}")
        return b"".join((self._magic, name, kind, known.identity, time, ids, sides, known.currency, tail, detail))


def levels(side: Sequence[Level]) -> bytes:
    """One side of a book as an Avro array. Raises ``Reject``."""
    if not side:
        return _NO_LEVELS
    return zigzag(len(side)) + b"".join(_pairs(side)) + b"\x00"


def _pairs(side: Iterable[Level]) -> Iterable[bytes]:
    for price, quantity in side:
        yield avro_decimal(price, "price")
        yield avro_decimal(quantity, "quantity")


ENCODERS: Final[dict[str, type[Any]]] = {
    "aggTrade": AggTradeEncoder,
    "blockTrade": BlockTradeEncoder,
    "bookTicker": QuoteEncoder,
    "depth": BookEncoder,
}
"""By stream; bars of every interval share one."""


def encoder_for(stream: str) -> type[Any]:
    """The encoder of a stream."""
    return ENCODERS.get(stream, BarEncoder)
