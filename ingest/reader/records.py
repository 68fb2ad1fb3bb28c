"""What a reader yields, and where it may begin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from typing import Any, Self

EXACT = Context(prec=76, traps=[Inexact])
"""For arithmetic on prices and quantities: Python's own context rounds to 28 digits."""


_MOST = 2**63 - 1
"""The greatest offset and id: both are signed numbers of 64 bits."""


class ReaderError(Exception):
    """The topic cannot be read; the text says what is wrong, where, and what to do."""


class RecordError(ReaderError):
    """One record cannot be decoded. ``on_error="skip"`` yields it as ``Undecodable`` and goes on."""


BEGIN_AGAIN = "begin at a time or an id (Start.at_time, Start.at_id), or at the oldest record"
"""What to do with a position that its topic does not have."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One executed trade: the fields of TradeV2, and its place in the topic."""

    message_id: str
    trade_id: str
    symbol: str
    exchange: str
    asset_class: str
    timestamp: datetime
    price: Decimal
    quantity: Decimal
    currency: str
    side: str
    trade_conditions: list[str]
    source_sequence: int | None
    ingestion_timestamp: datetime
    platform_sequence: int | None
    vendor_data: dict[str, str] | None
    partition: int
    offset: int
    event_timestamp: datetime | None = None
    """When the exchange sent it; None from history, and in records of older versions."""
    receive_timestamp: datetime | None = None
    """When the service read it; None in records of older versions."""

    @property
    def value(self) -> Decimal:
        """Price times quantity, exact."""
        return EXACT.multiply(self.price, self.quantity)


@dataclass(frozen=True, slots=True)
class Void:
    """Ids that no record will ever fill: recorded by the service, with reason and evidence."""

    symbol: str
    first_id: int
    last_id: int
    reason: str
    evidence: object = None
    stream: str = "trade"


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids that are out of place: missing without a void or a break, doubled, or out of order."""

    symbol: str
    expected_id: int
    found_id: int
    stream: str = "trade"


@dataclass(frozen=True, slots=True)
class Deleted:
    """Offsets, both included, that the topic no longer has: deleted by retention or on request before they were read.

    Ids that were lost with them follow as a ``Gap`` where the next record of their sequence shows it. Some of the
    offsets may have held no records but the marks of transactions.
    """

    partition: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A record that cannot be decoded, under ``on_error="skip"``: it is in the topic and is not read."""

    partition: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin. Use the constructors below."""

    time: datetime | None = None
    ids: Mapping[str, int] = field(default_factory=dict)
    offsets: Mapping[int, int] | None = None
    newest: bool = False
    topic: str | None = None
    """The topic that the offsets are of; None if it is not known."""
    topic_id: str | None = None
    """Its id at the broker: a topic that is deleted and created again has another one."""

    @classmethod
    def earliest(cls) -> Self:
        """At the oldest record that the topic has."""
        return cls()

    @classmethod
    def latest(cls) -> Self:
        """After the newest record: only what comes from now on."""
        return cls(newest=True)

    @classmethod
    def at_time(cls, time: datetime) -> Self:
        """At the first record that was written at this time or later; at the end of a partition without one.

        Raises ``ReaderError`` without a time zone.
        """
        if time.tzinfo is None:
            raise ReaderError(f"start time {time.isoformat()} has no time zone: add one, e.g. {time.isoformat()}+00:00")
        return cls(time=time.astimezone(UTC))

    @classmethod
    def at_id(cls, ids: Mapping[str, int]) -> Self:
        """At a trade id of each symbol, that trade included."""
        return cls(ids=dict(ids))

    @classmethod
    def at_position(cls, position: Mapping[str, object]) -> Self:
        """Where another reader was: what its ``position()`` returned, which is plain JSON. Raises ``ReaderError``."""
        try:
            return cls(
                offsets={int(partition): _whole(offset) for partition, offset in _mapping(position, "offsets")},
                ids={str(symbol): _whole(next_id) for symbol, next_id in _mapping(position, "next_ids")},
                topic=_text(position, "topic"),
                topic_id=_text(position, "topic_id"),
            )
        except (TypeError, ValueError) as error:
            raise ReaderError(f"not a position of a reader: {position!r} ({error})") from error

    @classmethod
    def parse(cls, text: str, symbols: tuple[str, ...] = ()) -> Self:
        """``earliest``, ``latest``, ``id:4711`` (of the symbols) or a time as ISO 8601. Raises ``ReaderError``."""
        if text in ("earliest", "latest"):
            return cls(newest=text == "latest")
        if text.startswith("id:"):
            if not text[3:].isdecimal() or not symbols:
                raise ReaderError(f"{text!r}: expected id:<number>, and the symbols that it is meant for")
            return cls.at_id(dict.fromkeys(symbols, int(text[3:])))
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise ReaderError(
                f"{text!r} is not earliest, latest, id:<number> or a time such as 2026-01-31T12:00Z"
            ) from error
        return cls.at_time(time)


def _mapping(position: Mapping[str, object], name: str) -> list[tuple[Any, Any]]:
    found = position.get(name)
    if not isinstance(found, Mapping):
        raise TypeError(f"{name} is missing")
    return list(found.items())


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r} is not an offset or id")
    return value


def _text(position: Mapping[str, object], name: str) -> str | None:
    value = position.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value
