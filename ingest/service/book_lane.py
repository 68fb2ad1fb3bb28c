"""The lane of order books: a chain per symbol, breaks and snapshots. It keeps no book, only each one's last id."""

import logging
from decimal import Decimal
from typing import Any

from ingest.core.chain import Chain
from ingest.core.errors import Reject
from ingest.core.market_events import BookSnapshot, DepthUpdate
from ingest.core.trade import Position
from ingest.service.span_lane import SpanLane

log = logging.getLogger(__name__)


class BookLane(SpanLane):
    """All books of a shard."""

    def __init__(self, *, grace_seconds: float, **options: Any) -> None:
        """``grace_seconds``: how long missing ids may still arrive on another connection."""
        super().__init__(**options)
        self._grace = grace_seconds
        self._gapped: dict[str, Chain] = {}
        self._since_us: dict[str, int] = {}
        """Symbol -> when its last update was sent, by the exchange's clock."""
        self._shed: set[str] = set()
        self._snapshots: dict[str, bytes] = {}
        """Symbol -> the record of the snapshot that its chain has."""
        self._unsynced = 0
        self.activity: dict[str, int] = {}
        """Symbol -> updates since the service began: busy books get their snapshots first."""

    def make(self, symbol: str) -> Chain:
        """A new symbol's chain."""
        return Chain(
            symbol, release=self._release, broke=self._broke, placed=self._placed, contradicted=self.contradicted,
            jump_limit=self.stream.jump_limit, held=self.memory,
        )  # fmt: skip

    def take(self, state: Chain, event: DepthUpdate, now: float) -> int:
        """Give an update to its chain."""
        held = state.take(event, now, self._connection)
        if state.gap_since is not None:
            if state.dropped and self.room():
                held += self._expired(state, now, 0.0)
            else:
                self._gapped[state.symbol] = state
        return held

    def tick(self) -> None:
        """Declare the breaks that are due; several times a second."""
        if not self._active or not self._gapped:
            return
        self._now_us = self._time_ns() // 1000
        self._encoder.received(0)
        now = self._monotonic()
        for symbol, chain in list(self._gapped.items()):
            if chain.gap_since is None:
                del self._gapped[symbol]
            elif self.room():
                self._held += self._expired(chain, now, self._grace)

    def _expired(self, chain: Chain, now: float, grace: float) -> int:
        return -chain.expire(now, grace)

    def _release(self, update: DepthUpdate) -> bool:
        if not self.room():
            self._counters.count("shed")
            self._shed.add(update.symbol)
            return False
        value = self.encoded(update)
        if value is None:
            return False
        symbol = update.symbol
        self.put(symbol, "update", update.first_id, update.trade_id, value, update.event_time_us)
        self._since_us[symbol] = update.event_time_us
        self.activity[symbol] = self.activity.get(symbol, 0) + 1
        if not (update.bids and update.asks):
            self._counters.count("one_sided")
        return True

    def _broke(self, chain: Chain, first_id: int) -> None:
        symbol, last_id = chain.symbol, (chain.next_id or 0) - 1
        reason = "connection"
        if symbol in self._shed:
            reason = "shed"
        elif chain.dropped:
            reason = "unrepresentable"
        self._shed.discard(symbol)
        why = {"missing_first": last_id + 1, "missing_last": first_id - 1, "held": len(chain.waiting)}
        self.declare(symbol, last_id, first_id, self._since_us.get(symbol), reason, why)

    def _placed(self, chain: Chain, book: BookSnapshot) -> None:
        del book
        last_id = (chain.next_id or 0) - 1
        self.put(chain.symbol, "snapshot", last_id, last_id, self._snapshots.pop(chain.symbol), 0)
        self._counters.count("snapshot")

    def begin(self, state: Chain, position: Position | None, next_id: int | None) -> None:
        """Let a chain write from now on."""
        if position is not None and position.last_time_us is not None:
            self._since_us[state.symbol] = position.last_time_us
        now = self._monotonic()
        state.activate(next_id, position is not None and not position.unsynced, now)
        if state.gap_since is not None:
            self._gapped[state.symbol] = state

    def stand_by(self) -> None:
        """Another instance writes now: hold what comes."""
        super().stand_by()
        self._snapshots.clear()

    def remove(self, symbol: str) -> None:
        """Record a book no longer."""
        super().remove(symbol)
        for known in (self._gapped, self._since_us, self.activity, self._snapshots):
            known.pop(symbol, None)
        self._shed.discard(symbol)

    # --- snapshots ---

    def await_snapshot(self, symbol: str) -> bool:
        """Hold a book's updates until its snapshot is here; False where it does not write now."""
        chain: Chain | None = self.states.get(symbol)
        if chain is None or not chain.active or chain.next_id is None or chain.halted:
            return False
        chain.pause()
        return True

    def give_up(self, symbol: str) -> None:
        """No snapshot came: go on without."""
        chain: Chain | None = self.states.get(symbol)
        if chain is not None:
            self._settle(chain, None)

    def offer(self, symbol: str, book: BookSnapshot) -> bool:
        """Take a snapshot; False if it is older than what is written, or cannot be one: ask again."""
        chain: Chain | None = self.states.get(symbol)
        if chain is None or not chain.active:
            return True
        self._now_us = self._time_ns() // 1000
        self._encoder.received(self._now_us)
        problem = wrong_with(book)
        event = "crossed"
        try:
            self._snapshots[symbol] = self._encoder.encode_snapshot(symbol, book, self._now_us)
        except Reject as error:
            problem, event = problem or f"it has no exact record: {error}", "rejected"
        if problem is not None:
            self._counters.count(event)
            log.error("a snapshot is refused: %s", problem, extra={"symbol": symbol, "update_id": book.last_update_id})
            self._settle(chain, None)
            return False
        fits = self._settle(chain, book)
        if not fits:
            self._snapshots.pop(symbol, None)
            self._counters.count("snapshot_refused")
        return fits

    def _settle(self, chain: Chain, book: BookSnapshot | None) -> bool:
        before, now = len(chain.waiting), self._monotonic()
        fits = True
        if book is None:
            chain.resume(now)
        else:
            fits = chain.offer(book, now)
        self._held += len(chain.waiting) - before
        if chain.gap_since is not None:
            self._gapped[chain.symbol] = chain
        if self.outbox.ready():
            self.on_ready()
        return fits

    def gaps(self) -> int:
        """How many books wait for missing updates."""
        return len(self._gapped)

    def books(self) -> dict[str, int]:
        """How many books are recorded, and how many are in sync."""
        begun = [chain for chain in self.states.values() if chain.next_id is not None]
        return {"recorded": len(self.states), "begun": len(begun), "in_sync": sum(chain.synced for chain in begun)}

    @property
    def awaits_snapshots(self) -> bool:
        """Whether books have begun that are not in sync; as of the last second."""
        return self._unsynced > 0

    def publish(self) -> None:
        """Move counts into the metrics."""
        super().publish()
        books = self.books()
        self._unsynced = books["begun"] - books["in_sync"] if self._active else 0
        self._counters.count("overlapping", sum(chain.overlapping for chain in self.states.values()))
        for chain in self.states.values():
            chain.overlapping = 0
        self._counters.books(books["recorded"], books["in_sync"])


def wrong_with(book: BookSnapshot) -> str | None:
    """What makes a snapshot no book: sides that are not sorted, or cross. One side may be empty."""
    try:
        bids = [Decimal(price) for price, _ in book.bids]
        asks = [Decimal(price) for price, _ in book.asks]
    except ArithmeticError as error:
        return f"a price is no number: {error}"
    if sorted(bids, reverse=True) != bids or sorted(asks) != asks:
        return "its levels are not sorted"
    if bids and asks and bids[0] >= asks[0]:
        return f"it is crossed: bid {book.bids[0][0]} at or above ask {book.asks[0][0]}"
    return None
