"""One numbered stream: the sequencer between its connections and the batches, and its part of every hand-over.

Nothing here waits: the read loop that calls it must answer the exchange's pings whatever the broker does.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from ingest.core.errors import Reject
from ingest.core.ordered_release import trade_content
from ingest.core.pending_batches import PendingBatches
from ingest.core.sequence import Sequencer
from ingest.core.streams import TRADE, Stream, split_name
from ingest.core.symbol_sequence import UNKNOWN_TIME, HaltReason, SymbolSequence
from ingest.core.trade import DeadLetter, Position, Trade, Void
from ingest.service.lane_counters import LaneCounters
from ingest.service.stream_proofs import TradeRanges

log = logging.getLogger(__name__)

NAMING_TRADES = ("AggTradeV2", "BarV2")
"""Records that state their first and last trade."""
CLOCK_TOLERANCE_US = 60_000_000
"""How far this machine's clock may be behind the exchange's."""
EARLIEST_CLOCK_US = 1_577_836_800_000_000
"""2020: a machine's clock before it is not set."""


class Encoder(Protocol):
    """Makes the record of a trade; raises ``Reject`` if no exact one exists."""

    def encode(self, trade: Any, ingestion_us: int) -> bytes:
        """Return the value in the Confluent wire format; ``ingestion_us`` is microseconds since the epoch."""

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here, microseconds since the epoch; 0: not known."""


def _nothing(receive_us: int) -> None:
    del receive_us


def _no_encoder(trade: Any, ingestion_us: int) -> bytes:
    del ingestion_us
    raise RuntimeError(f"{trade.symbol} {trade.trade_id}: no encoder yet")


class NumberedLane:
    """Connects the feed and the backfill of a stream with the batches. All calls come from the event loop's thread."""

    def __init__(
        self,
        *,
        stream: Stream,
        outbox: PendingBatches,
        counters: LaneCounters,
        encoder: Encoder | None,
        limit: int,
        jump_limit: int,
        dead_letter_max_bytes: int,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
        content: Callable[[Any], object] = trade_content,
    ) -> None:
        """``limit``: events of this stream that may be held beyond gaps; ``content``: see ``OrderedRelease``."""
        self.stream = stream
        self.outbox = outbox
        self._counters = counters
        self._encode = encoder.encode if encoder is not None else _no_encoder
        self._note_received = encoder.received if encoder is not None else _nothing
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._ingestion_us = 0
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self._refused: dict[str, int] = {}
        self._left: dict[str, int] = {}
        """Symbols that were removed while writing -> the id that would have come next."""
        self._names: dict[str, str] = {}
        self.unchecked: set[str] = set()
        """Symbols whose position is being compared with their records: they begin afterwards."""
        names_trades = stream.record in NAMING_TRADES
        self._ranges = TradeRanges(counters.disagreement) if names_trades else None
        self.on_ready: Callable[[], None] = lambda: None
        """Called when a full batch waits."""
        self.activated_at = float("-inf")
        """When this instance last became the writer, monotonic seconds."""
        self.shadow_listener: Callable[[list[Trade]], None] | None = None
        """Gets every list of live trades, too, while this instance is a shadow."""
        self.sequencer = Sequencer(
            accept=self._accept,
            full=outbox.full,
            mismatch=self._mismatch,
            gap_closed=counters.gap_closed,
            refuse=self._refuse,
            received=self._on_received,
            on_halt=self._on_halt,
            content=content,
            limit=limit,
            jump_limit=jump_limit,
        )

    def name_of(self, symbol: str) -> str:
        """What batches and positions call the sequence of a symbol."""
        if self.stream is TRADE:
            return symbol
        name = self._names.get(symbol)
        if name is None:
            name = self._names[symbol] = self.stream.sequence_name(symbol)
        return name

    def own(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Of a mapping by sequence name, what belongs to this stream, by symbol."""
        return {symbol: named[name] for symbol in self.sequencer.sequences if (name := self.name_of(symbol)) in named}

    def use(self, encoder: Encoder) -> None:
        """Encode with this from now on. Needed before the first trade is due: trades are held until then."""
        self._encode = encoder.encode
        self._note_received = encoder.received

    def _on_received(self, receive_us: int) -> None:
        self._note_received(receive_us)

    def _arrived(self) -> None:
        """What is processed from now on was read just now."""
        now_us = self._time_ns() // 1000
        self._ingestion_us = self.sequencer.received_us = now_us
        self._note_received(now_us)

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        """Take the trades of one wake-up of a connection, in the order of arrival."""
        del connection
        self._arrived()
        if self.shadow_listener is not None:
            self.shadow_listener(trades)
        self.sequencer.process(trades, self._monotonic())
        if self.outbox.ready():
            self.on_ready()

    def on_history(self, trades: list[Trade]) -> int:
        """Take a page of REST history; returns the number of trades in it that were missing."""
        trades = [trade for trade in trades if not self._overruled(trade)]
        self.contradicted(self.sequencer.withdraw_differing(trades))
        before = self.sequencer.counts.duplicates
        self._arrived()
        self.sequencer.process_history(trades, self._monotonic())
        fresh = len(trades) - (self.sequencer.counts.duplicates - before)
        self.sequencer.counts.duplicates = before  # requested, not delivered twice
        self.sequencer.counts.backfilled += fresh
        return fresh

    def _overruled(self, trade: Trade) -> bool:
        """Whether another delivery of a trade is held, and this one has no exact record: damage is no evidence."""
        if not self.sequencer.holds_other(trade):
            return False
        try:
            self._encode(trade, self._ingestion_us)
        except Reject as error:
            where = {"symbol": trade.symbol, "trade_id": trade.trade_id}
            log.warning("history states a held trade without an exact record; that one counts: %s", error, extra=where)
            return True
        return False

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Keep the bytes of an unusable message. Its id, if plausible, is missing now, and history will be asked."""
        self._counters.rejected(error.reason)
        log.warning(
            "rejected a message: %s", error,
            extra={"connection": connection, "symbol": error.symbol, "trade_id": error.trade_id},
        )  # fmt: skip
        self._dead_letter(raw, source=connection, error=error)
        if error.symbol is None or error.trade_id is None:
            return
        if self.sequencer.within_jump_limit(error.symbol, error.trade_id):
            self.sequencer.observe_high_watermark(error.symbol, error.trade_id, self._monotonic(), from_message=True)
        else:
            log.warning(
                "the id of the rejected message is beyond the jump limit and is ignored",
                extra={"symbol": error.symbol, "trade_id": error.trade_id},
            )

    def _dead_letter(self, raw: bytes, *, source: str, error: Reject) -> None:
        if not self.sequencer.active:
            return  # the writer sees the same message and keeps it
        kept = self.outbox.add_dead_letter(
            DeadLetter(
                reason=error.reason,
                source=source,
                raw=raw[: self._dead_letter_max_bytes],
                detail=error.detail[:500],
                symbol=error.symbol,
                trade_id=error.trade_id,
            )
        )
        if not kept:
            self._counters.letter_dropped()

    def _accept(self, trade: Trade, symbol: str, trade_id: int) -> None:
        value = self._encode(trade, self._ingestion_us)
        if self._ranges is not None:
            self._ranges.released(trade)
        self.outbox.add((self.name_of(symbol), trade_id, value), trade.trade_time_us)

    def _refuse(self, trade: Trade, error: Reject) -> None:
        if self._refused.get(trade.symbol) == trade.trade_id:
            return  # history delivered the same again
        self._refused[trade.symbol] = trade.trade_id
        self._counters.rejected(error.reason)
        log.warning(
            "a trade has no exact record: %s", error, extra={"symbol": trade.symbol, "trade_id": trade.trade_id}
        )
        located = Reject(error.reason, error.detail, symbol=trade.symbol, trade_id=trade.trade_id)
        self._dead_letter(repr(trade).encode(), source="encoder", error=located)

    def _mismatch(self, trade: Trade) -> None:
        self._counters.mismatch()
        log.error(
            "a trade was delivered twice with different content",
            extra={"symbol": trade.symbol, "trade_id": trade.trade_id},
        )
        self._keep_trade(trade, "content_mismatch", "a second delivery differs from the first")

    def _on_halt(self, sequence: SymbolSequence) -> None:
        trade = sequence.halted_by
        if sequence.halted is not None:
            self._counters.halted(sequence.halted)
        log.error(
            "symbol halted: nothing is written for it until history confirms its ids or an operator decides",
            extra={
                "symbol": sequence.symbol,
                "reason": sequence.halted,
                "next_id": sequence.next_id,
                "trade_id": None if trade is None else trade.trade_id,
                "trade_time_us": None if trade is None else trade.trade_time_us,
            },
        )
        if trade is not None:
            detail = f"halted the symbol ({sequence.halted}); next id {sequence.next_id}"
            self._keep_trade(trade, "out_of_sequence", detail)

    def contradicted(self, trades: Iterable[Trade]) -> None:
        """Keep trades that were dropped from memory because another witness contradicts them."""
        for trade in trades:
            log.error(
                "a trade that waited for earlier ids is contradicted and is dropped",
                extra={"symbol": trade.symbol, "trade_id": trade.trade_id, "trade_time_us": trade.trade_time_us},
            )
            self._keep_trade(trade, "out_of_sequence", "newer trades have lower ids, or history has another trade")

    def _keep_trade(self, trade: Trade, reason: str, detail: str) -> None:
        """Send a trade that is not written as a record to the dead-letter topic."""
        self._counters.rejected(reason)
        error = Reject(reason, detail, symbol=trade.symbol, trade_id=trade.trade_id)
        self._dead_letter(repr(trade).encode(), source="sequencer", error=error)

    def void(self, void: Void) -> None:
        """Account for a range that no trade will ever fill: in the positions first, then pass over it.

        Raises ``ValueError`` if it is not next, or covers a trade in memory.
        """
        self.sequencer.check_void(void)
        log.warning(
            "ids are void",
            extra={
                "symbol": void.symbol, "first_id": void.first_id, "last_id": void.last_id, "reason": void.reason,
                "evidence": void.evidence,
            },
        )  # fmt: skip
        self._counters.void(void.reason, void.count)
        self.outbox.add_void(msgspec.structs.replace(void, symbol=self.name_of(void.symbol)))
        self.sequencer.void(void, self._monotonic())

    def baseline(self, symbol: str, next_id: int) -> None:
        """Begin a symbol that has no position yet."""
        first = self.sequencer.sequences[symbol].pending.get(next_id)
        time_us = self._latest_time() if first is None else first.trade_time_us
        self.outbox.add_baseline(self.name_of(symbol), next_id)
        self.sequencer.start(symbol, next_id, self._monotonic(), time_us)

    def compare_position(self, symbol: str) -> None:
        """Before a take-over: this symbol begins once its position has been compared with its records."""
        self.unchecked.add(symbol)
        if symbol in self.sequencer.sequences:
            self.sequencer.forget_position(symbol)

    def begin_at(self, symbol: str, position: Position) -> None:
        """Begin a symbol whose position has been compared with its records."""
        if symbol in self.sequencer.sequences:
            self.sequencer.start(symbol, position.next_id, self._monotonic(), self._last_time(position))

    def distrust(self, symbol: str, reason: HaltReason) -> None:
        """Halt a symbol, if it is recorded: its position is wrong."""
        if symbol in self.sequencer.sequences:
            self.sequencer.sequences[symbol].clear_halt()  # this is the reason that counts
            self.sequencer.halt(symbol, reason, self._monotonic())

    def _latest_time(self) -> int:
        """No trade until now was traded later, as far as this machine's clock tells."""
        now_us = self._time_ns() // 1000
        return now_us + CLOCK_TOLERANCE_US if now_us >= EARLIEST_CLOCK_US else UNKNOWN_TIME

    def _last_time(self, position: Position) -> int:
        return position.last_time_us if position.last_time_us is not None else self._latest_time()

    def add(self, symbol: str, last_id: int | None) -> None:
        """Record a symbol from now on (idempotent).

        ``last_id`` is its last one in Kafka, None if it has no position.
        """
        if symbol in self.sequencer.sequences:
            return
        self.sequencer.add(symbol)
        next_id = self._left.pop(symbol, None if last_id is None else last_id + 1)
        if self.sequencer.active and next_id is not None:
            self.sequencer.start(symbol, next_id, self._monotonic(), self._latest_time())

    def remove(self, symbol: str) -> None:
        """Record a symbol no longer. What is queued of it is still written, and remembered should it come back."""
        sequence = self.sequencer.sequences.get(symbol)
        if sequence is not None and sequence.next_id is not None and self.sequencer.active:
            self._left[symbol] = sequence.next_id
        self.sequencer.remove(symbol)
        if self._ranges is not None:
            self._ranges.forget(symbol)

    def room_for_history(self) -> bool:
        """Whether another page of history could be passed on soon."""
        return self.sequencer.active and not self.outbox.full()

    # --- roles ---

    def take_up(self, next_ids: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """Become the writer's source: continue behind what Kafka and the batches hold. Both by sequence name."""
        self._left.clear()
        self._ingestion_us = self._time_ns() // 1000
        self.activated_at = self._monotonic()
        last_times = {symbol: self._last_time(position) for symbol, position in self.own(positions).items()}
        self.sequencer.activate(self.own(next_ids), self.activated_at, last_times)

    def go_back(self, broken: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """After the producer was replaced: read again what Kafka does not hold. Both by sequence name."""
        now = self._monotonic()
        for name, next_id in broken.items():
            stream, symbol = split_name(name)
            if stream != self.stream.name:
                continue
            if symbol in self.sequencer.sequences:
                self.sequencer.rewind(symbol, next_id, now)
            else:
                self._left[symbol] = next_id
        for symbol, position in self.own(positions).items():
            sequence = self.sequencer.sequences[symbol]
            if sequence.next_id is None or sequence.next_id < position.next_id:
                self.sequencer.start(symbol, position.next_id, now, self._last_time(position))

    def stand_by(self) -> None:
        """Another instance writes now: hold what comes."""
        self.sequencer.deactivate()
        self._left.clear()

    def pause(self) -> None:
        """Release nothing more until the role changes."""
        self.sequencer.pause()

    def writer_at(self, news: Mapping[str, Position]) -> None:
        """Learn how far the writer is: new positions by sequence name."""
        for name, position in news.items():
            stream, symbol = split_name(name)
            if stream == self.stream.name:
                time_us = position.last_time_us
                self.sequencer.committed(symbol, position.last_id, UNKNOWN_TIME if time_us is None else time_us)

    def let_in(self) -> None:
        """There is room again: release what had to wait for it."""
        if self.sequencer.blocked and not self.outbox.full():
            self._ingestion_us = self._time_ns() // 1000
            self.sequencer.resume(self._monotonic())

    def last_times(self, names: Iterable[str]) -> dict[str, int]:
        """Of these sequences of this stream, the time that none of the released events exceeds, by name."""
        symbols = [symbol for stream, symbol in map(split_name, names) if stream == self.stream.name]
        return {self.name_of(symbol): time_us for symbol, time_us in self.sequencer.last_times(symbols).items()}

    def begin_new(self, symbols: Iterable[str]) -> None:
        """Begin those of these symbols that have no position, at the first event that was received.

        For streams besides the trades: see initial positions.
        """
        for symbol in symbols if self.sequencer.active else ():
            sequence = self.sequencer.sequences.get(symbol)
            if sequence is None or sequence.next_id is not None or sequence.halted is not None:
                continue
            if sequence.pending and symbol not in self.unchecked:
                self.baseline(symbol, min(sequence.pending))

    def publish(self) -> None:
        """Move what was counted in plain integers into the metrics: once a second, not once a trade."""
        self._counters.publish(self.sequencer, self._monotonic())
