"""Trades into id order, per symbol: in order, duplicate, or beyond a hole.

A symbol's trade ids are contiguous [rec], so a hole is seen at once. While one is open that symbol waits and the
others flow. What cannot be held is dropped: it is known by its id and will be read again from the exchange's history,
so memory is bounded by configuration and not by the length of an outage.

Two modes. *Passive* (a standby): every trade is held, the oldest give way. *Active*: trades in order are handed on,
only those beyond a hole, or behind a full next stage, are held, and the newest give way.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from ingest.core.errors import Reject
from ingest.core.trade import Trade, Void

RECENT: Final = 64
"""So many trades of each symbol a second delivery can be compared with; a power of two.

Their hashes are kept, not the trades: 64 trades of 300 symbols outgrow a core's cache, and to free one that has left
it costs as much as to sequence one.
"""

Freeze = Literal["id_reset", "giant_jump"]


class SymbolSequence:
    """One symbol's sequence. Only the sequencer changes it."""

    __slots__ = (
        "frozen",
        "gap_since",
        "gapped",
        "held",
        "highest",
        "jumped_to",
        "next_id",
        "recent",
        "refused",
        "symbol",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.next_id: int | None = None
        """The id that must come next; None until a position or a baseline is known."""
        self.highest = -1
        """The highest id known to exist."""
        self.held: dict[int, Trade] = {}
        """Trades that cannot leave yet, by id."""
        self.gapped = True
        """Whether the next trade must take the long way: held ones, a hole, a freeze or no start yet."""
        self.gap_since: float | None = None
        self.refused: Reject | None = None
        """Why the trade with ``next_id`` could not be encoded when it came."""
        self.frozen: Freeze | None = None
        self.jumped_to = -1
        """The id that froze the symbol."""
        self.recent = [0] * RECENT
        """The hash of the trade last handed on with an id of this remainder; 0 where there was none."""

    def gap_age(self, now: float) -> float:
        """Seconds since the hole opened, 0.0 where there is none."""
        return now - self.gap_since if self.gap_since is not None else 0.0

    @property
    def missing(self) -> int:
        """How many ids are between the next one and the lowest held one, or the highest known one."""
        if self.next_id is None or self.highest < self.next_id:
            return 0
        beyond = min(self.held, default=self.highest + 1)
        return max(0, beyond - self.next_id)


class Counts:
    """What happened since the last look; the owner moves these into metrics and sets them back."""

    __slots__ = ("backfilled", "duplicates", "gaps_filled", "gaps_found", "mismatches", "shed")

    def __init__(self) -> None:
        self.backfilled = self.duplicates = self.gaps_filled = self.gaps_found = self.mismatches = self.shed = 0


class Sequencer:
    """All symbols of a shard.

    ``accept(trade)`` takes a trade that is next in its symbol's order; it raises ``Reject`` if no exact record can be
    made of it, and the id then counts as missing until history or a void settles it. ``full()`` says that nothing more
    can be accepted now. ``mismatch(trade)`` gets a second delivery that differs from the first. ``gap_closed(seconds)``
    gets the age of each hole as it closes.
    """

    def __init__(
        self,
        *,
        accept: Callable[[Trade], None],
        full: Callable[[], bool],
        mismatch: Callable[[Trade], None],
        gap_closed: Callable[[float], None] = lambda _: None,
        refuse: Callable[[Trade, Reject], None] = lambda _trade, _error: None,
        limit: int,
        jump_limit: int = 1_000_000,
    ) -> None:
        self._accept = accept
        self._full = full
        self._mismatch = mismatch
        self._gap_closed = gap_closed
        self._refuse = refuse
        self._limit = limit
        self._jump_limit = jump_limit
        self._held = 0
        self.active = False
        self.lanes: dict[str, SymbolSequence] = {}
        self.open_gaps: dict[str, SymbolSequence] = {}
        """Symbols with a hole, oldest first."""
        self.blocked: dict[str, SymbolSequence] = {}
        """Symbols whose next trade is here and waits for room in the next stage."""
        self.counts = Counts()

    @property
    def held(self) -> int:
        """Trades held in all lanes together."""
        return self._held

    def add(self, symbol: str) -> SymbolSequence:
        """Begin to sequence a symbol (idempotent). Its trades are held until ``start`` names the first id."""
        lane = self.lanes.get(symbol)
        if lane is None:
            lane = self.lanes[symbol] = SymbolSequence(symbol)
        return lane

    def remove(self, symbol: str) -> None:
        """Stop sequencing a symbol and forget what is held of it; its position in Kafka stays."""
        lane = self.lanes.pop(symbol, None)
        if lane is not None:
            self._held -= len(lane.held)
            self.open_gaps.pop(symbol, None)
            self.blocked.pop(symbol, None)

    def offer(self, trades: Iterable[Trade], now: float) -> None:
        """Take trades in the order of arrival. ``now`` is monotonic seconds. Trades of unknown symbols are ignored."""
        if not self.active or self._full():
            for trade in trades:
                lane = self.lanes.get(trade.symbol)
                if lane is not None:
                    self._irregular(lane, trade, now)
            return
        lanes = self.lanes
        accept = self._accept
        for trade in trades:
            lane = lanes.get(trade.symbol)
            if lane is None:
                continue
            trade_id = trade.trade_id
            if trade_id == lane.next_id and not lane.gapped:
                try:
                    accept(trade)
                except Reject as error:
                    self._refused(lane, trade, error, now)
                    continue
                lane.next_id = trade_id + 1
                lane.recent[trade_id & (RECENT - 1)] = hash(trade)
            else:
                self._irregular(lane, trade, now)

    def _irregular(self, lane: SymbolSequence, trade: Trade, now: float) -> None:
        trade_id = trade.trade_id
        next_id = lane.next_id
        if next_id is not None and lane.highest < next_id - 1:
            lane.highest = next_id - 1  # the quick path counts in next_id alone
        if next_id is not None and trade_id < next_id:
            self._earlier(lane, trade, next_id)
            return
        twin = lane.held.get(trade_id)
        if twin is not None:
            self.counts.duplicates += 1
            if not twin.same_content(trade):
                self.counts.mismatches += 1
                self._mismatch(trade)
            return
        if lane.frozen is not None:
            self.counts.shed += 1
            lane.jumped_to = max(lane.jumped_to, trade_id) if lane.frozen == "giant_jump" else lane.jumped_to
            return
        if lane.highest >= 0 and trade_id - lane.highest > self._jump_limit:
            self._freeze(lane, "giant_jump", trade_id)
            return
        if trade_id > lane.highest:
            lane.highest = trade_id
        self._hold(lane, trade)
        self._settle(lane, now)

    def _earlier(self, lane: SymbolSequence, trade: Trade, next_id: int) -> None:
        if next_id - trade.trade_id > self._jump_limit:
            self._freeze(lane, "id_reset", trade.trade_id)
            return
        self.counts.duplicates += 1
        first = lane.recent[trade.trade_id & (RECENT - 1)] if next_id - trade.trade_id <= RECENT else 0
        if first and first != hash(trade):
            self.counts.mismatches += 1
            self._mismatch(trade)

    def _freeze(self, lane: SymbolSequence, reason: Freeze, trade_id: int) -> None:
        lane.frozen = reason
        lane.jumped_to = trade_id
        lane.gapped = True

    def _hold(self, lane: SymbolSequence, trade: Trade) -> None:
        if self._held >= self._limit:
            if self.active:
                # The one that the hole waits for must always find room, or a full house would stay full.
                if trade.trade_id != lane.next_id:
                    self.counts.shed += 1
                    return
            elif lane.held:
                del lane.held[next(iter(lane.held))]
                self._held -= 1
                self.counts.shed += 1
            else:
                self.counts.shed += 1
                return
        lane.held[trade.trade_id] = trade
        self._held += 1

    def _settle(self, lane: SymbolSequence, now: float) -> None:
        """Hand on what is in order now, and note whether a hole remains."""
        if self.active and lane.next_id is not None and lane.frozen is None:
            self._drain(lane, now)
        self._mark(lane, now)

    def _drain(self, lane: SymbolSequence, now: float) -> None:
        next_id = lane.next_id
        held = lane.held
        while next_id is not None and next_id in held and not self._full():
            trade = held.pop(next_id)
            self._held -= 1
            try:
                self._accept(trade)
            except Reject as error:
                self._refused(lane, trade, error, now)
                return
            lane.recent[next_id & (RECENT - 1)] = hash(trade)
            next_id += 1
            lane.next_id = next_id
            lane.refused = None

    def _refused(self, lane: SymbolSequence, trade: Trade, error: Reject, now: float) -> None:
        lane.refused = error
        lane.highest = max(lane.highest, trade.trade_id)
        self._refuse(trade, error)
        self._mark(lane, now)

    def _mark(self, lane: SymbolSequence, now: float) -> None:
        next_id = lane.next_id if self.active else None
        behind = next_id is not None and lane.highest >= next_id
        blocked = behind and next_id in lane.held and lane.frozen is None
        hole = behind and not blocked
        lane.gapped = next_id is None or behind or lane.frozen is not None
        if blocked:
            self.blocked[lane.symbol] = lane
        else:
            self.blocked.pop(lane.symbol, None)
        if hole and lane.gap_since is None:
            lane.gap_since = now
            self.open_gaps[lane.symbol] = lane
            self.counts.gaps_found += 1
        elif not hole and lane.gap_since is not None:
            self._gap_closed(now - lane.gap_since)
            lane.gap_since = None
            del self.open_gaps[lane.symbol]
            self.counts.gaps_filled += 1

    def start(self, symbol: str, next_id: int, now: float) -> None:
        """Name the first id of a symbol: a stored position's, or a baseline's. What is held below it is forgotten."""
        lane = self.lanes[symbol]
        lane.next_id = next_id
        lane.refused = None
        lane.recent = [0] * RECENT
        self._forget_below(lane, next_id)
        self._settle(lane, now)

    def activate(self, next_ids: Mapping[str, int], now: float) -> None:
        """Become active: every symbol with a position resumes at its next id."""
        self.active = True
        for symbol, lane in self.lanes.items():
            next_id = next_ids.get(symbol)
            if next_id is not None:
                self.start(symbol, next_id, now)
            elif lane.next_id is not None:
                self._settle(lane, now)

    def deactivate(self) -> None:
        """Become passive: hold everything, hand on nothing. Where each symbol stands, only Kafka knows now."""
        self.active = False
        for lane in self.lanes.values():
            if lane.next_id is not None:
                lane.highest = max(lane.highest, lane.next_id - 1)
            lane.next_id = None
            lane.gapped = True
            lane.gap_since = None
            lane.refused = None
            lane.recent = [0] * RECENT  # what is not handed on leaves no trace here
        self.open_gaps.clear()
        self.blocked.clear()

    def rewind(self, symbol: str, next_id: int, now: float) -> None:
        """Go back: ids from ``next_id`` on are not in Kafka after all and must come again."""
        lane = self.lanes[symbol]
        if lane.next_id is not None:
            lane.highest = max(lane.highest, lane.next_id - 1)
        lane.next_id = next_id
        lane.recent = [0] * RECENT  # of later ids, which come again
        self._settle(lane, now)

    def committed(self, symbol: str, last_id: int) -> None:
        """A standby learns how far the writer is: what is held up to there is not needed any more."""
        lane = self.lanes.get(symbol)
        if lane is not None and not self.active:
            lane.next_id = last_id + 1
            self._forget_below(lane, last_id + 1)

    def _forget_below(self, lane: SymbolSequence, next_id: int) -> None:
        held = lane.held
        if held:
            for trade_id in [trade_id for trade_id in held if trade_id < next_id]:
                del held[trade_id]
                self._held -= 1

    def void(self, void: Void, now: float) -> None:
        """Pass over a range that no trade will ever fill. It must begin at the symbol's next id (``ValueError``)."""
        lane = self.lanes[void.symbol]
        if void.first_id != lane.next_id or void.last_id < void.first_id:
            raise ValueError(f"{void.symbol}: a void of {void.first_id}..{void.last_id} where {lane.next_id} is next")
        for passed in range(max(void.first_id, void.last_id + 1 - RECENT), void.last_id + 1):
            lane.recent[passed & (RECENT - 1)] = 0
        lane.next_id = void.last_id + 1
        lane.refused = None
        self._forget_below(lane, lane.next_id)
        self._settle(lane, now)

    def notice(self, symbol: str, highest: int, now: float) -> None:
        """Learn from elsewhere (REST) that ids up to ``highest`` exist: what is missing becomes a hole."""
        lane = self.lanes.get(symbol)
        if lane is not None and lane.frozen is None and highest > lane.highest:
            lane.highest = highest
            self._settle(lane, now)

    def resume(self, now: float) -> None:
        """Hand on what had to wait while the next stage was full."""
        for lane in list(self.blocked.values()):
            self._settle(lane, now)

    def thaw(self, symbol: str, now: float) -> None:
        """Unfreeze a symbol: history, or an operator, has confirmed that its ids go on to the one that froze it."""
        lane = self.lanes[symbol]
        lane.frozen = None
        lane.highest = max(lane.highest, lane.jumped_to)
        self._settle(lane, now)

    def frozen(self) -> list[SymbolSequence]:
        """The symbols that wait for an operator."""
        return [lane for lane in self.lanes.values() if lane.frozen is not None]

    def next_ids(self) -> dict[str, int]:
        """Each started symbol's next id: a snapshot for the health check."""
        if self.active:
            return {symbol: lane.next_id for symbol, lane in self.lanes.items() if lane.next_id is not None}
        return {symbol: lane.highest + 1 for symbol, lane in self.lanes.items() if lane.highest >= 0}
