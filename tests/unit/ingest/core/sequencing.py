"""A sequencer on a bench: what it releases, and what it was told."""

from ingest.core.errors import Reject
from ingest.core.sequence import Sequencer
from ingest.core.trade import Trade


def trade(trade_id: int, symbol: str = "BTCUSDT", price: str = "1.0", *, at: float = 0.0) -> Trade:
    return Trade(
        symbol=symbol,
        trade_id=trade_id,
        price=price,
        quantity="2",
        trade_time_us=1_700_000_000_000_000 + round(at * 1e6),
        buyer_is_maker=True,
    )


class Bench:
    """A sequencer whose accepted trades, refusals and mismatches can be looked at."""

    def __init__(self, *, limit: int = 1000, room: int | None = None, unusable: frozenset[int] = frozenset()) -> None:
        self.out: list[Trade] = []
        self.refused: list[int] = []
        self.mismatched: list[int] = []
        self.halted: list[str] = []
        self.room = room
        self.unusable = unusable
        self.sequencer = Sequencer(
            accept=self._accept,
            full=lambda: self.room is not None and len(self.out) >= self.room,
            mismatch=lambda t: self.mismatched.append(t.trade_id),
            refuse=lambda t, _: self.refused.append(t.trade_id),
            on_halt=lambda one: self.halted.append(one.symbol),
            limit=limit,
            jump_limit=1000,
        )
        self.sequencer.add("BTCUSDT")

    def _accept(self, item: Trade, symbol: str, trade_id: int) -> None:
        assert (item.symbol, item.trade_id) == (symbol, trade_id)
        if item.trade_id in self.unusable:
            raise Reject("bad_decimal", "NaN")
        self.out.append(item)

    def active(self, next_id: int) -> "Bench":
        self.sequencer.activate({"BTCUSDT": next_id}, 0.0)
        return self

    def history(self, *ids: int, now: float = 0.0) -> None:
        self.sequencer.process_history([trade(i) for i in ids], now)

    def offer(self, *ids: int, now: float = 0.0) -> None:
        self.sequencer.process([trade(i) for i in ids], now)

    @property
    def ids(self) -> list[int]:
        return [t.trade_id for t in self.out]
