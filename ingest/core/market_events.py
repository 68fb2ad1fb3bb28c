"""Events of the streams besides the trades, with the exchange's own strings: no float, no rounding.

``trade_id`` of each is its number within its symbol's sequence, under the name that feed and sequencer use: an
aggregate's id, a bar's number, a book's update id. Field names on the wire are those of the streams [wss].
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, Self

import msgspec

from ingest.core.ordered_release import trade_content
from ingest.core.trade import WireInt, WireText, delivered_at

Level = tuple[WireText, WireText]
"""Price and the new total at that price; 0 deletes the level."""


CONTENTS: Final[dict[str, Callable[[Any], object]]] = {
    "AggTradeV2": attrgetter("price", "quantity", "trade_time_us", "buyer_is_maker", "first_trade_id", "last_trade_id"),
    "BarV2": attrgetter("figures", "count"),
    "TradeV2": trade_content,
}
"""Record -> what two deliveries of a numbered event must have in common."""


class _Numbered(msgspec.Struct, frozen=True, gc=False):
    """An event that two connections, or connection and history, may deliver with different times."""

    def same_content(self, other: Self) -> bool:
        """Whether both state the same fact."""
        return bool(delivered_at(self, 0) == delivered_at(other, 0))


class AggTrade(_Numbered, frozen=True, gc=False, tag_field="e", tag="aggTrade"):
    """Trades of one taker order at one price."""

    symbol: WireText = msgspec.field(name="s")
    trade_id: WireInt = msgspec.field(name="a")
    price: WireText = msgspec.field(name="p")
    quantity: WireText = msgspec.field(name="q")
    first_trade_id: WireInt = msgspec.field(name="f")
    last_trade_id: WireInt = msgspec.field(name="l")
    trade_time_us: WireInt = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    event_time_us: WireInt = msgspec.field(name="E", default=0)
    receive_time_us: int = msgspec.field(name="(received)", default=0)


class BlockTrade(_Numbered, frozen=True, gc=False, tag_field="e", tag="blockTrade"):
    """A trade that was negotiated outside of the book: a sequence of ids of its own [wss]."""

    symbol: WireText = msgspec.field(name="s")
    trade_id: WireInt = msgspec.field(name="t")
    price: WireText = msgspec.field(name="p")
    quantity: WireText = msgspec.field(name="q")
    trade_time_us: WireInt = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    event_time_us: WireInt = msgspec.field(name="E", default=0)
    receive_time_us: int = msgspec.field(name="(received)", default=0)


class Bar(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A closed bar. Two of them are equal if prices, volumes and times are: history does not state ids of trades."""

    symbol: str
    interval: str
    trade_id: int
    open_time_us: int
    trade_time_us: int
    """The closing time."""
    figures: tuple[str, str, str, str, str, str, str, str]
    """Open, high, low, close, volume, quote volume, taker buy volume and quote volume."""
    count: int
    first_trade_id: int = -1
    """-1: without a trade, or not stated."""
    last_trade_id: int = -1
    event_time_us: int = 0
    receive_time_us: int = 0

    def _content(self) -> tuple[Any, ...]:
        return (self.symbol, self.interval, self.trade_id, self.figures, self.count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bar) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def same_content(self, other: "Bar") -> bool:
        """Whether both state the same fact."""
        return self == other


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask; ``trade_id`` is the book's update id, which rises with gaps [wss]."""

    symbol: WireText = msgspec.field(name="s")
    trade_id: WireInt = msgspec.field(name="u")
    bid_price: WireText = msgspec.field(name="b")
    bid_quantity: WireText = msgspec.field(name="B")
    ask_price: WireText = msgspec.field(name="a")
    ask_quantity: WireText = msgspec.field(name="A")


class DepthUpdate(msgspec.Struct, frozen=True, tag_field="e", tag="depthUpdate"):
    """Changes of a book over the ids ``first_id`` to ``trade_id``, absolute quantities [wss]."""

    symbol: WireText = msgspec.field(name="s")
    first_id: WireInt = msgspec.field(name="U")
    trade_id: WireInt = msgspec.field(name="u")
    event_time_us: WireInt = msgspec.field(name="E")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")


class BookSnapshot(msgspec.Struct, frozen=True):
    """A whole book, as far as REST gives it: the best levels of each side, the best first [rest]."""

    last_update_id: WireInt = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class Break(msgspec.Struct, frozen=True):
    """An interruption of a stream that the exchange cannot fill."""

    symbol: str
    last_id: int | None
    """The last update id before it; None where there was none."""
    first_id: int
    """The first one after it."""
    from_us: int | None
    to_us: int
    reason: str
    evidence: str
    """A JSON object."""
