"""Records of the streams besides trades, typed: aggregates, bars, quotes, and the events of a book."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from ingest.reader.records import Trade


class Level(NamedTuple):
    """A price of a book and what is offered at it; 0 removes the level."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    message_id: str
    symbol: str
    exchange: str
    asset_class: str
    currency: str
    ingestion_timestamp: datetime
    platform_sequence: int | None
    vendor_data: dict[str, str] | None
    event_timestamp: datetime | None
    """When the exchange sent it; None from history."""
    receive_timestamp: datetime | None
    """When the service read it."""
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AggTrade(_Common):
    """Trades of one taker order at one price: the fields of AggTradeV2."""

    timestamp: datetime
    price: Decimal
    quantity: Decimal
    side: str
    first_trade_id: int
    last_trade_id: int
    source_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar(_Common):
    """A closed bar as the exchange states it: the fields of BarV2."""

    interval: str
    open_timestamp: datetime
    close_timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    trade_count: int
    first_trade_id: int | None
    last_trade_id: int | None
    source_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(_Common):
    """The best bid and ask: the fields of QuoteV2."""

    quote_id: str
    timestamp: datetime | None
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    source_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookUpdate(_Common):
    """Levels of a book that have changed, from ``first_update_id`` to ``final_update_id``."""

    timestamp: datetime | None
    first_update_id: int
    final_update_id: int
    bids: list[Level]
    asks: list[Level]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot(_Common):
    """The best levels of a book at ``final_update_id``; the update that holds the next id follows."""

    first_update_id: int
    final_update_id: int
    bids: list[Level]
    asks: list[Level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(_Common):
    """A declared interruption: what lies between ``last_update_id`` and ``first_update_id`` is, or may be, missing.

    Of a book everything between them is missing, and the book is unknown until the next snapshot.
    """

    last_update_id: int | None
    """The last id before it; None where there was none."""
    first_update_id: int
    """The first id after it."""
    from_timestamp: datetime | None
    to_timestamp: datetime
    reason: str
    evidence: str


MarketRecord = AggTrade | Bar | Quote | BookUpdate | BookSnapshot | Break


class Sequenced(NamedTuple):
    """A record, its stream, and its place in the sequence of its symbol."""

    record: Trade | MarketRecord
    stream: str
    """As ``K2_BINANCE_STREAMS`` names it."""
    first: int | None
    """The number, or the first of a range; None for a record without one."""
    last: int | None
    contract: str
    """``numbered``, ``chained`` or ``latest``."""


def sequenced(schema: str, data: dict[str, Any], partition: int, offset: int) -> Sequenced:
    """A decoded record, typed by the name of its schema. Raises ``TypeError`` or ``KeyError`` for another form."""
    make = _MAKERS.get(schema)
    if make is None:
        raise TypeError(f"no record of this reader: {schema}")
    return make(data, {"partition": partition, "offset": offset})


def _trade(data: dict[str, Any], place: Mapping[str, Any]) -> Sequenced:
    record = _of(Trade, data, place)
    number = record.source_sequence
    block = record.trade_conditions == ["BLOCK_TRADE"]
    return Sequenced(record, "blockTrade" if block else "trade", number, number, "numbered")


def _aggregate(data: dict[str, Any], place: Mapping[str, Any]) -> Sequenced:
    record = _of(AggTrade, data, place)
    return Sequenced(record, "aggTrade", record.source_sequence, record.source_sequence, "numbered")


def _bar(data: dict[str, Any], place: Mapping[str, Any]) -> Sequenced:
    record = _of(Bar, data, place)
    return Sequenced(record, f"kline_{record.interval}", record.source_sequence, record.source_sequence, "numbered")


def _quote(data: dict[str, Any], place: Mapping[str, Any]) -> Sequenced:
    if data["kind"] == "BREAK":
        return _break(data, place, "bookTicker", "latest")
    record = _of(Quote, data, place)
    return Sequenced(record, "bookTicker", record.source_sequence, record.source_sequence, "latest")


def _book(data: dict[str, Any], place: Mapping[str, Any]) -> Sequenced:
    kind = data["kind"]
    if kind == "BREAK":
        return _break(data, place, "depth", "chained")
    levels = {side: [Level(level["price"], level["quantity"]) for level in data[side]] for side in ("bids", "asks")}
    record: BookUpdate | BookSnapshot
    record = _of(BookSnapshot if kind == "SNAPSHOT" else BookUpdate, data | levels, place)
    return Sequenced(record, "depth", record.first_update_id, record.final_update_id, "chained")


def _break(data: dict[str, Any], place: Mapping[str, Any], stream: str, contract: str) -> Sequenced:
    record = _of(Break, data | data["break_detail"], place)
    return Sequenced(record, stream, record.first_update_id, record.first_update_id - 1, contract)


def _of(kind: type[Any], data: Mapping[str, Any], place: Mapping[str, Any]) -> Any:
    """What the class has of the record: fields that a later schema adds are left out.

    Raises ``KeyError`` for a missing field, unless the class has a default for records of an older schema.
    """
    given = {**data, **place}
    optional = {one.name for one in fields(kind) if one.default is not MISSING}
    return kind(**{one.name: given[one.name] for one in fields(kind) if one.name in given or one.name not in optional})


_MAKERS: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], Sequenced]] = {
    "TradeV2": _trade,
    "AggTradeV2": _aggregate,
    "BarV2": _bar,
    "QuoteV2": _quote,
    "BookEventV2": _book,
}
