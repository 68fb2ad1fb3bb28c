"""Holds what cannot be released yet and releases what is next, per symbol; keeps the state of gaps and halts.

``sequence.Sequencer`` decides what a trade is; this is what happens to it then.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ingest.core.errors import Reject
from ingest.core.symbol_sequence import RECENT, UNKNOWN_TIME, Counts, HaltReason, SymbolSequence
from ingest.core.trade import Trade, arrived

_FIELDS: Final[Callable[[Trade], tuple[object, ...]]] = msgspec.structs.astuple
"""All fields at once: four fields one by one cost twice as much."""


def trade_content(trade: Trade) -> tuple[object, ...]:
    """What a trade states besides symbol and id: two deliveries differ in when they were sent."""
    return _FIELDS(trade)[2:6]  # price, quantity, trade_time_us, buyer_is_maker


class OrderedRelease:
    """The symbols of a shard and their pending trades.

    ``accept(trade, symbol, id)`` takes a trade that is next in its symbol's order; it raises ``Reject`` if no exact
    record can be made of it, and the id then counts as missing until history or a void settles it. ``full()``
    returns whether the next stage is full. ``mismatch(trade)`` gets a second delivery that differs from the first.
    ``gap_closed(seconds)`` gets the age of each gap as it closes. ``on_halt(sequence)`` is called when a symbol
    halts. ``received(us)`` is called before a trade is accepted that arrived at another time than the ones that are
    being processed. ``content(trade)`` is what two deliveries must have in common.
    """

    def __init__(
        self,
        *,
        accept: Callable[[Trade, str, int], None],
        full: Callable[[], bool],
        mismatch: Callable[[Trade], None],
        gap_closed: Callable[[float], None] = lambda _: None,
        refuse: Callable[[Trade, Reject], None] = lambda _trade, _error: None,
        received: Callable[[int], None] = lambda _: None,
        content: Callable[[Any], object] = trade_content,
        on_halt: Callable[[SymbolSequence], None] = lambda _: None,
        limit: int,
        jump_limit: int = 1_000_000,
    ) -> None:
        self._accept = accept
        self._full = full
        self._mismatch = mismatch
        self._gap_closed = gap_closed
        self._refuse = refuse
        self._received = received
        self._content = content
        self.received_us = 0
        """When the trades that are being processed were read here, microseconds; 0: not known."""
        self._on_halt = on_halt
        self._limit = limit
        self._jump_limit = jump_limit
        self._pending = 0
        self._active = False
        self._from_history = False
        """Whether the trades that are being processed come from history."""
        self.sequences: dict[str, SymbolSequence] = {}
        self.open_gaps: dict[str, SymbolSequence] = {}
        """Symbols with a gap, oldest first."""
        self.blocked: dict[str, SymbolSequence] = {}
        """Symbols whose next trade is here and waits for room in the next stage."""
        self.counts = Counts()

    @property
    def active(self) -> bool:
        """Whether trades in order are released."""
        return self._active

    @property
    def pending(self) -> int:
        """Trades held for all symbols together."""
        return self._pending

    def add(self, symbol: str) -> SymbolSequence:
        """Begin to sequence a symbol (idempotent). Its trades are held until ``start`` names the first id."""
        sequence = self.sequences.get(symbol)
        if sequence is None:
            sequence = self.sequences[symbol] = SymbolSequence(symbol)
        return sequence

    def remove(self, symbol: str) -> None:
        """Stop sequencing a symbol and drop its pending trades; its position in Kafka stays."""
        sequence = self.sequences.pop(symbol, None)
        if sequence is not None:
            self._pending -= len(sequence.pending)
            self.open_gaps.pop(symbol, None)
            self.blocked.pop(symbol, None)

    # --- holding and releasing ---

    def _raise_watermark(self, sequence: SymbolSequence, trade_id: int, time_us: int) -> None:
        if trade_id > sequence.high_watermark:
            sequence.high_watermark = trade_id
            sequence.watermark_time_us = time_us

    def _hold(self, sequence: SymbolSequence, trade: Trade) -> None:
        pending = sequence.pending
        if self._pending >= self._limit:
            if self._active:
                # The trade that the gap waits for must always find room, or a full buffer would stay full.
                if trade.trade_id != sequence.next_id:
                    self._drop(sequence, trade.trade_id)
                    return
            elif pending:
                oldest = next(iter(pending))
                del pending[oldest]
                self._pending -= 1
                self._drop(sequence, oldest)
            else:
                self._drop(sequence, trade.trade_id)
                return
        pending[trade.trade_id] = arrived(trade, self.received_us)
        self._pending += 1

    def _drop(self, sequence: SymbolSequence, trade_id: int) -> None:
        self.counts.dropped += 1
        sequence.dropped.add(trade_id)

    def _release_ready(self, sequence: SymbolSequence, now: float) -> None:
        """Release what is in order now, and note whether a gap remains."""
        if self._active and sequence.next_id is not None and sequence.halted is None:
            self._release_run(sequence, now)
        self._update_gap_state(sequence, now)

    def _release_run(self, sequence: SymbolSequence, now: float) -> None:
        next_id = sequence.next_id
        pending = sequence.pending
        while next_id is not None and next_id in pending and not self._full():
            trade = pending.pop(next_id)
            self._pending -= 1
            received_us, trade = trade.receive_time_us, arrived(trade, 0)
            try:
                self._received(received_us)
                self._accept(trade, sequence.symbol, next_id)
            except Reject as error:
                self._refused(sequence, trade, error, now)
                return
            finally:
                self._received(self.received_us)
            sequence.recent[next_id & (RECENT - 1)] = hash(self._content(trade))
            sequence.last_released = trade
            next_id += 1
            sequence.next_id = next_id
            sequence.refused = None

    def _refused(self, sequence: SymbolSequence, trade: Trade, error: Reject, now: float) -> None:
        sequence.refused = error
        self._raise_watermark(sequence, trade.trade_id, trade.trade_time_us)
        self._refuse(trade, error)
        self._update_gap_state(sequence, now)

    def _update_gap_state(self, sequence: SymbolSequence, now: float) -> None:
        next_id = sequence.next_id if self._active else None
        behind = next_id is not None and sequence.high_watermark >= next_id
        blocked = behind and next_id in sequence.pending and sequence.halted is None
        gap = behind and not blocked
        sequence.needs_slow_path = next_id is None or behind or sequence.halted is not None
        if blocked:
            self.blocked[sequence.symbol] = sequence
        else:
            self.blocked.pop(sequence.symbol, None)
        if gap and sequence.gap_since is None:
            sequence.gap_since = now
            self.open_gaps[sequence.symbol] = sequence
            self.counts.gaps_found += 1
        elif not gap and sequence.gap_since is not None:
            self._gap_closed(now - sequence.gap_since)
            sequence.gap_since = None
            if next_id is not None:
                sequence.dropped.forget_below(next_id)
            sequence.disputed.clear()
            del self.open_gaps[sequence.symbol]
            self.counts.gaps_filled += 1

    def _drop_below(self, sequence: SymbolSequence, next_id: int) -> None:
        pending = sequence.pending
        if pending:
            for trade_id in [trade_id for trade_id in pending if trade_id < next_id]:
                del pending[trade_id]
                self._pending -= 1

    def _lower_watermark(self, sequence: SymbolSequence, now: float) -> None:
        """Back to the highest id that a trade in memory or a released one proves."""
        released = -1 if sequence.next_id is None else sequence.next_id - 1
        highest = max(sequence.pending, default=released)
        proof = sequence.pending.get(highest)
        sequence.high_watermark = max(highest, released)
        sequence.watermark_time_us = UNKNOWN_TIME if proof is None else proof.trade_time_us
        self._release_ready(sequence, now)

    # --- halts ---

    def halt(self, symbol: str, reason: HaltReason, now: float, trade: Trade | None = None) -> None:
        """Release nothing more of a symbol until ``resume_symbol``. A no-op for a halted symbol."""
        sequence = self.sequences[symbol]
        if sequence.halted is not None:
            return
        sequence.halted = reason
        sequence.halted_by = trade
        sequence.halted_since = now
        sequence.contradictions = 0
        self._update_gap_state(sequence, now)
        self._on_halt(sequence)

    def resume_symbol(self, symbol: str, now: float) -> None:
        """End a halt: history, the stream or an operator has confirmed that the ids go on."""
        sequence = self.sequences[symbol]
        jumped_to = sequence.jumped_to
        sequence.clear_halt()
        if jumped_to > sequence.high_watermark:
            sequence.high_watermark = jumped_to
            sequence.watermark_time_us = UNKNOWN_TIME
        self._release_ready(sequence, now)

    def discard_jump(self, symbol: str, now: float) -> None:
        """End a halt whose jump is false: the ids go on, and not to the one that halted the symbol."""
        self.sequences[symbol].jumped_to = -1
        self.resume_symbol(symbol, now)

    def halted(self) -> list[SymbolSequence]:
        """The symbols that wait for history or an operator."""
        return [sequence for sequence in self.sequences.values() if sequence.halted is not None]
