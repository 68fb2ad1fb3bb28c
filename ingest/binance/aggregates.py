"""``aggTrades``: trades of one taker order at one price, folded into one element [rest]. Pure.

An aggregate of one trade (``f`` equal to ``l``) is that trade: same id, price, quantity, time and side. One of several
trades states which ids exist, not how the quantity is split. A page of 1,000 costs a weight of 4 instead of 25.
"""

import itertools
from collections.abc import Mapping, Sequence

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade, WireInt, WireText

EARLIEST_US = 10**14
"""1973 as microseconds, 5138 as milliseconds: tells the units apart."""
LONGEST_PAGE = 1000


class Aggregate(msgspec.Struct, frozen=True, gc=False):
    """One element of ``aggTrades``."""

    price: WireText = msgspec.field(name="p")
    quantity: WireText = msgspec.field(name="q")
    first_id: WireInt = msgspec.field(name="f")
    last_id: WireInt = msgspec.field(name="l")
    time_us: WireInt = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")

    def trade(self, symbol: str) -> Trade | None:
        """Return the trade that this aggregate is, None where it folds several."""
        if self.first_id != self.last_id:
            return None
        return Trade(symbol, self.first_id, self.price, self.quantity, self.time_us, self.buyer_is_maker)


_decode = msgspec.json.Decoder(list[Aggregate]).decode


def parse_aggregates(body: bytes) -> list[Aggregate]:
    """Read a page of ``aggTrades``. Raises ``Reject`` where the page as a whole cannot be used."""
    try:
        found: list[Aggregate] = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Reject("malformed_json", f"{error}"[:200]) from error
    if len(found) > LONGEST_PAGE:
        raise Reject("not_an_event", f"more than {LONGEST_PAGE} elements")
    if any(each.last_id < each.first_id for each in found):
        raise Reject("not_an_event", "an aggregate ends before it begins")
    if any(later.first_id <= earlier.last_id for earlier, later in itertools.pairwise(found)):
        raise Reject("not_an_event", "ids do not ascend")
    if found and all(each.time_us < EARLIEST_US for each in found):
        raise Reject("implausible_time", "times are not in microseconds")
    return found


def trades_from_aggregates(symbol: str, found: Sequence[Aggregate], first_id: int, last_id: int) -> list[Trade]:
    """Return the trades from ``first_id`` to ``last_id`` that the aggregates give exactly."""
    trades = (each.trade(symbol) for each in found if first_id <= each.first_id <= last_id)
    return [trade for trade in trades if trade is not None]


def contradicted(symbol: str, found: Sequence[Aggregate], known: Mapping[int, Trade]) -> int | None:
    """Return the id of a known trade that an aggregate of one trade states differently, if there is one."""
    for each in found:
        trade = each.trade(symbol)
        twin = known.get(each.first_id) if trade is not None else None
        if trade is not None and twin is not None and not twin.same_content(trade):
            return trade.trade_id
    return None
