"""The trade as it travels from the exchange's bytes to the record, and the ranges that no trade can fill."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

VoidReason = Literal["exchange_hole", "unrepresentable", "too_large", "operator"]

WireInt = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
WireText = Annotated[str, msgspec.Meta(max_length=64)]
"""Checked while decoding only: no number or name of the exchange comes near these bounds."""


_Event = TypeVar("_Event", bound=msgspec.Struct)


class Trade(msgspec.Struct, frozen=True, gc=False, tag_field="e", tag="trade"):
    """One spot trade, with the exchange's own strings: no float and no rounding ever touches a price.

    The field names on the wire are those of the ``trade`` stream [wss]; REST history is mapped onto them.
    Unknown keys are ignored: the exchange adds some without notice. The event type is checked while decoding: a
    ``blockTrade`` has the same keys and another sequence of ids [wss].
    """

    symbol: WireText = msgspec.field(name="s")
    trade_id: WireInt = msgspec.field(name="t")
    """Per symbol, contiguous; beyond 2**32 for busy symbols [rec]."""
    price: WireText = msgspec.field(name="p")
    quantity: WireText = msgspec.field(name="q")
    trade_time_us: WireInt = msgspec.field(name="T")
    """Microseconds since the epoch: the time unit is always requested explicitly."""
    buyer_is_maker: bool = msgspec.field(name="m")
    """True means that the taker sold."""
    event_time_us: int = msgspec.field(name="E", default=0)
    """When the exchange sent it, microseconds; 0: not stated, as in history. No part of what a trade states."""
    receive_time_us: int = msgspec.field(name="(received)", default=0)
    """When its bytes were read here, kept with a trade that waits; 0 before. Never on the wire."""

    def same_content(self, other: "Trade") -> bool:
        """Whether both state the same fact; two deliveries of one trade must."""
        return self == other or (  # two connections may deliver it with different times of sending
            self.trade_id == other.trade_id
            and self.price == other.price
            and self.quantity == other.quantity
            and self.trade_time_us == other.trade_time_us
            and self.buyer_is_maker == other.buyer_is_maker
            and self.symbol == other.symbol
        )

    def stated(self) -> "Trade":
        """The trade without the times of its delivery."""
        stated: Trade = delivered_at(self, 0)
        return stated


def delivered_at(trade: Any, event_time_us: int) -> Any:
    """The same trade as if it had been sent at this time; 0: not stated."""
    if trade.event_time_us == event_time_us and not trade.receive_time_us:
        return trade
    return msgspec.structs.replace(trade, event_time_us=event_time_us, receive_time_us=0)


def arrived(trade: _Event, receive_time_us: int) -> _Event:
    """Note on a trade when its bytes were read: in place, because only its holder has it."""
    msgspec.structs.force_setattr(trade, "receive_time_us", receive_time_us)
    return trade


class Void(msgspec.Struct, frozen=True):
    """A range of ids that no record will ever fill, and why: recorded, never skipped in silence."""

    symbol: str
    first_id: int
    last_id: int
    reason: VoidReason
    evidence: dict[str, str | int]

    @property
    def count(self) -> int:
        """How many ids it spans."""
        return self.last_id - self.first_id + 1


class DeadLetter(msgspec.Struct, frozen=True):
    """Bytes that could not become a record, as received, with the reason."""

    reason: str
    source: str
    raw: bytes
    detail: str = ""
    symbol: str | None = None
    trade_id: int | None = None


class Position(msgspec.Struct, frozen=True):
    """How far a symbol has been accounted for in Kafka: ids ``first_id``..``last_id``, of which ``count`` are trades.

    A symbol without a trade yet has ``last_id == first_id - 1`` and ``count == 0``.
    """

    first_id: int
    last_id: int
    count: int
    last_time_us: int | None = None
    """No trade up to ``last_id`` was traded later (exchange time); None if an older version wrote the position."""
    unsynced: bool = False
    """Of a book: no snapshot has been written since it began, or since its last break. Of quotes: never stored."""

    @property
    def next_id(self) -> int:
        """The id that must come next."""
        return self.last_id + 1
