"""Puts trades into id order, per symbol: in order, duplicate, or beyond a gap.

A symbol's trade ids are contiguous [rec], so a gap is detected at once. While one is open that symbol waits and the
others flow. A trade that cannot be held is dropped: its id is known and will be read again from the exchange's history,
so memory is bounded by configuration and not by the length of an outage.

Ids and trade times rise together. A lower id with a newer trade time is therefore another trade than the one that was
released under that id: the exchange restarted its ids, or the message is wrong. The symbol halts until history or an
operator decides. An id alone never makes a trade a duplicate.

Two modes. *Passive* (a standby): every trade is held, the oldest are dropped first. *Active*: trades in order are
released, only those beyond a gap, or behind a full next stage, are held, and the newest are dropped first.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ingest.core.errors import Reject
from ingest.core.ordered_release import OrderedRelease
from ingest.core.symbol_sequence import RECENT, UNKNOWN_TIME, HaltReason, SymbolSequence
from ingest.core.trade import Trade, Void

DIFFERING_LIMIT: Final = 8
"""So many differing second deliveries in a row, with no trade released between them, halt the symbol."""
STRAY_LIMIT: Final = 1000
"""So many ids below the next one in a row that cannot be compared halt the symbol at once,"""
STRAY_LIMIT_SLOW: Final = 20
"""and so many if they arrive over at least"""
STRAY_SECONDS: Final = 5.0
CONTRADICTIONS: Final = 2
"""So many live trades that contradict a giant jump end the halt."""
DISORDER_US: Final = 2_000_000
"""A pending trade that is older than the last released one by more than this contradicts it."""
HALTED_SHARE: Final = 8
"""A halted symbol may hold at most this fraction (1/8) of all trades that may be held."""


class Sequencer(OrderedRelease):
    """All symbols of a shard: decides what each trade is."""

    # --- trades ---

    def process(self, trades: Iterable[Trade], now: float) -> None:
        """Take trades in the order of arrival. ``now`` is monotonic seconds. Trades of unknown symbols are ignored."""
        if not self._active or self._full():
            for trade in trades:
                sequence = self.sequences.get(trade.symbol)
                if sequence is not None:
                    self._handle_out_of_order(sequence, trade, now)
            return
        sequences = self.sequences
        accept, content = self._accept, self._content
        for trade in trades:
            sequence = sequences.get(trade.symbol)
            if sequence is None:
                continue
            trade_id = trade.trade_id
            if trade_id == sequence.next_id and not sequence.needs_slow_path:
                try:
                    accept(trade, sequence.symbol, trade_id)
                except Reject as error:
                    self._refused(sequence, trade, error, now)
                    continue
                sequence.next_id = trade_id + 1
                sequence.last_released = trade
                sequence.recent[trade_id & (RECENT - 1)] = hash(content(trade))
            else:
                self._handle_out_of_order(sequence, trade, now)

    def process_history(self, trades: Iterable[Trade], now: float) -> None:
        """Take a page of history in ascending order: it also settles what the stream cannot."""
        self._from_history = True
        try:
            self.process(trades, now)
        finally:
            self._from_history = False

    def _handle_out_of_order(self, sequence: SymbolSequence, trade: Trade, now: float) -> None:
        trade_id = trade.trade_id
        next_id = sequence.next_id
        if next_id is not None and sequence.high_watermark < next_id - 1:
            sequence.high_watermark = next_id - 1  # the fast path counts in next_id alone
        if next_id is not None and trade_id < next_id:
            self._handle_duplicate(sequence, trade, next_id, now)
            return
        twin = sequence.pending.get(trade_id)
        if twin is not None:
            self._handle_twin(sequence, twin, trade)
            return
        if next_id is not None and trade_id - sequence.high_watermark > self._jump_limit:
            self._handle_jump(sequence, trade, now)
            return
        if sequence.halted is not None:
            self._handle_while_halted(sequence, trade, now)
            return
        sequence.strays = 0
        self._raise_watermark(sequence, trade_id, trade.trade_time_us)
        if not self._from_history and (trade_id in sequence.disputed or trade_id in sequence.dropped):
            # There is nothing left to compare this delivery with: history has the trade.
            self.counts.dropped += 1
            self._update_gap_state(sequence, now)
            return
        self._hold(sequence, trade)
        self._release_ready(sequence, now)

    def _handle_twin(self, sequence: SymbolSequence, twin: Trade, trade: Trade) -> None:
        """Two deliveries of a pending trade: the same content is a duplicate; where it differs, history decides."""
        self.counts.duplicates += 1
        if twin.same_content(trade):
            return
        self.counts.mismatches += 1
        self._mismatch(trade)
        del sequence.pending[trade.trade_id]
        self._pending -= 1
        sequence.disputed.add(trade.trade_id)

    def _handle_duplicate(self, sequence: SymbolSequence, trade: Trade, next_id: int, now: float) -> None:
        distance = next_id - trade.trade_id
        first = sequence.recent[trade.trade_id & (RECENT - 1)] if distance <= RECENT else 0
        if first and first == hash(self._content(trade)):
            self.counts.duplicates += 1
            return
        if trade.trade_time_us > sequence.last_time_us or distance > self._jump_limit:
            self._halt_by(sequence, "id_reset", trade, now)
            return
        self.counts.duplicates += 1
        if sequence.run_next_id != next_id:
            sequence.begin_run(next_id, now)
        if first:
            self.counts.mismatches += 1
            self._mismatch(trade)
            sequence.differing += 1
            if sequence.differing >= DIFFERING_LIMIT:
                self._halt_by(sequence, "content", trade, now)
        elif self._active:
            sequence.strays += 1
            slow = now - sequence.run_since >= STRAY_SECONDS
            if sequence.strays >= (STRAY_LIMIT_SLOW if slow else STRAY_LIMIT):
                self._halt_by(sequence, "id_reset", trade, now)

    def _handle_jump(self, sequence: SymbolSequence, trade: Trade, now: float) -> None:
        if sequence.halted in (None, "giant_jump"):
            sequence.jumped_to = max(sequence.jumped_to, trade.trade_id)
        self._halt_by(sequence, "giant_jump", trade, now)

    def _handle_while_halted(self, sequence: SymbolSequence, trade: Trade, now: float) -> None:
        """Keep what continues the old sequence, within a share of the memory: the halt may be ended."""
        self._raise_watermark(sequence, trade.trade_id, trade.trade_time_us)
        if len(sequence.pending) < max(1, self._limit // HALTED_SHARE):
            self._hold(sequence, trade)
        else:
            sequence.withheld += 1
            sequence.dropped.add(trade.trade_id)
        halted_by = sequence.halted_by
        if sequence.halted == "giant_jump" and halted_by is not None:
            sequence.contradictions += trade.trade_time_us > halted_by.trade_time_us
            if sequence.contradictions >= CONTRADICTIONS:
                self.discard_jump(sequence.symbol, now)

    def _halt_by(self, sequence: SymbolSequence, reason: HaltReason, trade: Trade, now: float) -> None:
        """Halt because of a trade; a trade that would halt a halted symbol again is counted only."""
        sequence.withheld += 1
        if sequence.halted is None:
            self.halt(sequence.symbol, reason, now, trade)

    # --- positions and roles ---

    def start(self, symbol: str, next_id: int, now: float, last_time_us: int = UNKNOWN_TIME) -> None:
        """Name the first id of a symbol: a stored position's, or a baseline's. Pending trades below it are dropped.

        ``last_time_us``: no trade below ``next_id`` was traded later.
        """
        sequence = self.sequences[symbol]
        sequence.next_id = next_id
        sequence.learn_time(last_time_us)
        sequence.refused = None
        sequence.recent = [0] * RECENT
        if sequence.halted in ("position_lost", "position_ahead", "records_unknown"):
            sequence.clear_halt()
        self._drop_below(sequence, next_id)
        self._release_ready(sequence, now)

    def activate(self, next_ids: Mapping[str, int], now: float, last_times: Mapping[str, int] | None = None) -> None:
        """Become active: every symbol with a position resumes at its next id."""
        self._active = True
        times = last_times or {}
        for symbol, sequence in self.sequences.items():
            next_id = next_ids.get(symbol)
            if next_id is not None:
                self.start(symbol, next_id, now, times.get(symbol, UNKNOWN_TIME))
            elif sequence.next_id is not None:
                self._release_ready(sequence, now)

    def deactivate(self) -> None:
        """Become passive: hold everything, release nothing. Only Kafka knows now how far each symbol is."""
        self._active = False
        for sequence in self.sequences.values():
            self._forget_position(sequence)
        self.open_gaps.clear()
        self.blocked.clear()

    def forget_position(self, symbol: str) -> None:
        """Before ``activate``: what a standby has learnt of this symbol's position is not to be used."""
        self._forget_position(self.sequences[symbol])

    def _forget_position(self, sequence: SymbolSequence) -> None:
        if sequence.next_id is not None:
            sequence.high_watermark = max(sequence.high_watermark, sequence.next_id - 1)
        sequence.next_id = None
        sequence.needs_slow_path = True
        sequence.gap_since = None
        sequence.refused = None
        sequence.recent = [0] * RECENT

    def pause(self) -> None:
        """Release nothing more; what arrives is held. Ended by ``activate`` or ``deactivate``."""
        self._active = False

    def rewind(self, symbol: str, next_id: int, now: float) -> None:
        """Go back: ids from ``next_id`` on are not in Kafka after all and must come again."""
        sequence = self.sequences[symbol]
        if sequence.next_id is not None and sequence.next_id - 1 > sequence.high_watermark:
            self._raise_watermark(sequence, sequence.next_id - 1, sequence.last_time_us)
        sequence.next_id = next_id
        sequence.recent = [0] * RECENT  # of later ids, which come again
        self._release_ready(sequence, now)

    def committed(self, symbol: str, last_id: int, last_time_us: int = UNKNOWN_TIME) -> None:
        """Tell a standby how far the writer is: what is pending up to there is not needed any more."""
        sequence = self.sequences.get(symbol)
        if sequence is not None and not self._active:
            sequence.next_id = last_id + 1
            sequence.learn_time(last_time_us)
            self._drop_below(sequence, last_id + 1)

    def resume(self, now: float) -> None:
        """Release what had to wait while the next stage was full."""
        for sequence in list(self.blocked.values()):
            self._release_ready(sequence, now)

    def next_ids(self) -> dict[str, int]:
        """Each started symbol's next id: a snapshot for the stall detector."""
        if self._active:
            return {symbol: one.next_id for symbol, one in self.sequences.items() if one.next_id is not None}
        return {symbol: one.high_watermark + 1 for symbol, one in self.sequences.items() if one.high_watermark >= 0}

    def last_times(self, symbols: Iterable[str]) -> dict[str, int]:
        """For each symbol the time that none of its released trades exceeds, where it is known."""
        found = {}
        for symbol in symbols:
            sequence = self.sequences.get(symbol)
            if sequence is not None and sequence.last_time_us != UNKNOWN_TIME:
                found[symbol] = sequence.last_time_us
        return found

    # --- evidence ---

    def check_void(self, void: Void) -> None:
        """Raise ``ValueError`` if a void does not begin at the symbol's next id or would drop a pending trade."""
        sequence = self.sequences[void.symbol]
        if void.first_id != sequence.next_id or void.last_id < void.first_id:
            raise ValueError(f"{void.symbol}: a void of {void.first_id}..{void.last_id}, next id {sequence.next_id}")
        first_pending = min(sequence.pending, default=void.last_id + 1)
        if first_pending <= void.last_id:
            raise ValueError(f"{void.symbol}: a void of {void.first_id}..{void.last_id} covers trade {first_pending}")

    def void(self, void: Void, now: float) -> None:
        """Pass over a range that no trade will ever fill. Raises ``ValueError`` like ``check_void``."""
        self.check_void(void)
        sequence = self.sequences[void.symbol]
        for passed in range(max(void.first_id, void.last_id + 1 - RECENT), void.last_id + 1):
            sequence.recent[passed & (RECENT - 1)] = 0
        sequence.set_last_time(self._time_beyond(sequence))
        sequence.next_id = void.last_id + 1
        sequence.refused = None
        self._release_ready(sequence, now)

    def _time_beyond(self, sequence: SymbolSequence) -> int:
        """A time that trades below the next received one cannot exceed; void ids may have been traded, too."""
        first = min(sequence.pending, default=None)
        time_us = sequence.watermark_time_us if first is None else sequence.pending[first].trade_time_us
        return time_us if UNKNOWN_TIME in (time_us, sequence.last_time_us) else max(time_us, sequence.last_time_us)

    def observe_high_watermark(self, symbol: str, highest: int, now: float, *, from_message: bool = False) -> None:
        """Learn from another source than a trade that ids up to ``highest`` exist: missing ones become a gap.

        ``from_message``: an unusable message says so, which was sent just now.
        """
        sequence = self.sequences.get(symbol)
        if sequence is not None and sequence.halted is None and highest > sequence.high_watermark:
            newest = sequence.watermark_time_us if sequence.pending else sequence.last_time_us
            sequence.high_watermark = highest
            sequence.watermark_time_us = newest if from_message else UNKNOWN_TIME
            self._release_ready(sequence, now)

    def within_jump_limit(self, symbol: str, trade_id: int) -> bool:
        """Whether an id is near enough to the highest known one to be plausible."""
        sequence = self.sequences.get(symbol)
        if sequence is None:
            return False
        known = max(sequence.high_watermark, (sequence.next_id or 0) - 1)
        return known < 0 or trade_id - known <= self._jump_limit

    def withdraw_contradicted(self, symbol: str, now: float) -> list[Trade]:
        """Drop pending trades that are older than a released trade with a lower id: one of the two is false.

        Dropping loses nothing: an id that exists is missing again as soon as a later trade arrives, and is then read
        from history. Returns what was dropped.
        """
        sequence = self.sequences[symbol]
        next_id = sequence.next_id
        if next_id is None or sequence.last_time_us == UNKNOWN_TIME:
            return []
        oldest = sequence.last_time_us - DISORDER_US
        false = [trade for trade in sequence.pending.values() if trade.trade_time_us < oldest]
        for trade in false:
            del sequence.pending[trade.trade_id]
        self._pending -= len(false)
        self.counts.contradicted += len(false)
        if sequence.watermark_time_us < oldest:
            self._lower_watermark(sequence, now)
        return false

    def holds_other(self, trade: Trade) -> bool:
        """Whether a pending trade has this id and another content."""
        sequence = self.sequences.get(trade.symbol)
        held = None if sequence is None else sequence.pending.get(trade.trade_id)
        return held is not None and not held.same_content(trade)

    def withdraw_differing(self, trades: Iterable[Trade]) -> list[Trade]:
        """Drop pending trades of which history has another content; returns them."""
        false = []
        for trade in trades:
            sequence = self.sequences.get(trade.symbol)
            if sequence is not None:
                sequence.disputed.discard(trade.trade_id)
            twin = None if sequence is None else sequence.pending.get(trade.trade_id)
            if sequence is not None and twin is not None and not twin.same_content(trade):
                del sequence.pending[trade.trade_id]
                self._pending -= 1
                false.append(twin)
        self.counts.mismatches += len(false)
        return false

    def discard(self, symbol: str, trade_id: int) -> list[Trade]:
        """Drop one pending trade of a symbol that has not started; returns it."""
        sequence = self.sequences[symbol]
        trade = sequence.pending.pop(trade_id, None)
        if trade is None:
            return []
        self._pending -= 1
        self._lower_watermark(sequence, 0.0)
        return [trade]

    def withdraw_claim(self, symbol: str, now: float) -> int:
        """Stop waiting for ids that only a claim, and no pending trade, says to exist; returns how many."""
        sequence = self.sequences[symbol]
        before = sequence.high_watermark
        self._lower_watermark(sequence, now)
        return before - sequence.high_watermark
