"""Frames in, batches out: the sequencer and the pending batches between the exchange and Kafka.

Nothing here waits: the read loop that calls it must answer the exchange's pings whatever the broker does.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Protocol

from ingest.core.batch import Batch
from ingest.core.errors import Reject
from ingest.core.pending_batches import PendingBatches
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import UNKNOWN_TIME, SymbolSequence
from ingest.core.trade import DeadLetter, Position, Trade, Void
from ingest.metrics import Metrics

log = logging.getLogger(__name__)

CLOCK_TOLERANCE_US = 60_000_000
"""How far this machine's clock may be behind the exchange's."""
EARLIEST_CLOCK_US = 1_577_836_800_000_000
"""2020: a machine's clock before it is not set."""


class Encoder(Protocol):
    """Makes the record of a trade; raises ``Reject`` if no exact one exists."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value in the Confluent wire format; ``ingestion_us`` is microseconds since the epoch."""

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read here, microseconds since the epoch; 0: not known."""


def _nothing(receive_us: int) -> None:
    del receive_us


def _no_encoder(trade: Trade, ingestion_us: int) -> bytes:
    del ingestion_us
    raise RuntimeError(f"{trade.symbol} {trade.trade_id}: no encoder yet")


class Pipeline:
    """Connects the feed, the backfill and the writer. All calls come from the event loop's thread."""

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        metrics: Metrics,
        max_trades: int,
        batch_records: int,
        jump_limit: int,
        dead_letter_max_bytes: int,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
    ) -> None:
        self._encode = encoder.encode if encoder is not None else _no_encoder
        self._note_received = encoder.received if encoder is not None else _nothing
        self._metrics = metrics
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._ingestion_us = 0
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self._committed: Counter[str] = Counter()
        self._refused: dict[str, int] = {}
        self._left: dict[str, int] = {}
        """Symbols that were removed while writing -> the id that would have come next."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when a full batch waits."""
        self.activated_at = float("-inf")
        """When this instance last became the writer, monotonic seconds."""
        self.shadow_listener: Callable[[list[Trade]], None] | None = None
        """Gets every list of live trades, too, while this instance is a shadow."""
        self.outbox = PendingBatches(limit=max_trades // 2, batch_records=batch_records)
        self.sequencer = Sequencer(
            accept=self._accept,
            full=self.outbox.full,
            mismatch=self._mismatch,
            gap_closed=metrics.gap_seconds.observe,
            refuse=self._refuse,
            received=self._on_received,
            on_halt=self._on_halt,
            limit=max_trades // 2,
            jump_limit=jump_limit,
        )

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
        self.contradicted(self.sequencer.withdraw_differing(trades))
        before = self.sequencer.counts.duplicates
        self._arrived()
        self.sequencer.process_history(trades, self._monotonic())
        fresh = len(trades) - (self.sequencer.counts.duplicates - before)
        self.sequencer.counts.duplicates = before  # requested, not delivered twice
        self.sequencer.counts.backfilled += fresh
        return fresh

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Keep the bytes of an unusable message. Its id, if plausible, is missing now, and history will be asked."""
        self._metrics.rejected.labels(error.reason).inc()
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
            self._metrics.dead_letters_dropped.inc()

    def _accept(self, trade: Trade) -> None:
        value = self._encode(trade, self._ingestion_us)
        self.outbox.add((trade.symbol, trade.trade_id, value), trade.trade_time_us)

    def _refuse(self, trade: Trade, error: Reject) -> None:
        if self._refused.get(trade.symbol) == trade.trade_id:
            return  # history delivered the same again
        self._refused[trade.symbol] = trade.trade_id
        self._metrics.rejected.labels(error.reason).inc()
        log.warning(
            "a trade has no exact record: %s", error, extra={"symbol": trade.symbol, "trade_id": trade.trade_id}
        )
        located = Reject(error.reason, error.detail, symbol=trade.symbol, trade_id=trade.trade_id)
        self._dead_letter(repr(trade).encode(), source="encoder", error=located)

    def _mismatch(self, trade: Trade) -> None:
        self._metrics.content_mismatches.inc()
        log.error(
            "a trade was delivered twice with different content",
            extra={"symbol": trade.symbol, "trade_id": trade.trade_id},
        )
        self._keep_trade(trade, "content_mismatch", "a second delivery differs from the first")

    def _on_halt(self, sequence: SymbolSequence) -> None:
        trade = sequence.halted_by
        if sequence.halted is not None:
            self._metrics.symbol_halts.labels(sequence.halted).inc()
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
        self._metrics.rejected.labels(reason).inc()
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
        self._metrics.voids.labels(void.reason).inc(void.count)
        self.outbox.add_void(void)
        self.sequencer.void(void, self._monotonic())

    def baseline(self, symbol: str, next_id: int) -> None:
        """Begin a symbol that has no position yet."""
        first = self.sequencer.sequences[symbol].pending.get(next_id)
        time_us = self._latest_time() if first is None else first.trade_time_us
        self.outbox.add_baseline(symbol, next_id)
        self.sequencer.start(symbol, next_id, self._monotonic(), time_us)

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

    def activate(self, positions: Mapping[str, Position]) -> None:
        """Become the writer's source: continue right behind what Kafka holds.

        A former writer still has what it had queued and its successor did not come to commit: nothing of that has to
        be asked for.
        """
        next_ids = self.outbox.promote(positions)
        self._left.clear()
        self._ingestion_us = self._time_ns() // 1000
        self.activated_at = self._monotonic()
        last_times = {symbol: self._last_time(position) for symbol, position in positions.items()}
        self.sequencer.activate(next_ids, self.activated_at, last_times)

    def rewind(self, positions: Mapping[str, Position]) -> None:
        """Compare with what Kafka holds after the producer was replaced, and queue again what it does not."""
        now = self._monotonic()
        broken = self.outbox.rewind(positions)
        for symbol, next_id in broken.items():
            if symbol in self.sequencer.sequences:
                self.sequencer.rewind(symbol, next_id, now)
            else:
                self._left[symbol] = next_id
        for symbol, position in positions.items():
            sequence = self.sequencer.sequences.get(symbol)
            if sequence is not None and (sequence.next_id is None or sequence.next_id < position.next_id):
                self.sequencer.start(symbol, position.next_id, now, self._last_time(position))

    def deactivate(self, *, warm: bool = True) -> None:
        """Another instance writes now: hold what comes, and if ``warm`` keep what is queued until it has written it."""
        self.sequencer.deactivate()
        self._left.clear()
        if not warm:
            self.outbox.clear()
            return
        kept = self.outbox.demote()
        if kept:
            log.info("%d queued trades are kept until the new writer has committed them", kept)

    def committed(self, positions: Mapping[str, int], news: Mapping[str, Position]) -> None:
        """Tell a standby how far the writer is (symbol -> last id), and which of these are new."""
        for symbol, position in news.items():
            time_us = position.last_time_us
            self.sequencer.committed(symbol, position.last_id, UNKNOWN_TIME if time_us is None else time_us)
        self.outbox.drop_committed(positions)

    def take(self) -> Batch | None:
        """The next batch for the writer, or None, with the time of each symbol's last trade."""
        batch = self.outbox.take()
        if batch is not None:
            symbols = set(map(itemgetter(0), batch.records))
            symbols.update(batch.baselines, (void.symbol for void in batch.voids))
            batch.last_times_us = self.sequencer.last_times(symbols)
        return batch

    def acknowledge(self, batch: Batch, trades: Mapping[str, int]) -> None:
        """A batch is in Kafka, with so many trades of each symbol: count them, and let in what had to wait."""
        self.outbox.acknowledge(batch)
        self._committed.update(trades)
        if self.sequencer.blocked and not self.outbox.full():
            self._ingestion_us = self._time_ns() // 1000
            self.sequencer.resume(self._monotonic())

    def room_for_history(self) -> bool:
        """Whether another page of history could be passed on soon."""
        return self.sequencer.active and not self.outbox.full()

    def publish(self) -> None:
        """Move what was counted in plain integers into the metrics: once a second, not once a trade."""
        metrics, counts, now = self._metrics, self.sequencer.counts.take(), self._monotonic()
        for symbol, number in self._committed.items():
            metrics.trades_committed.labels(metrics.symbol_label(symbol)).inc(number)
        self._committed.clear()
        metrics.duplicates.inc(counts.duplicates)
        metrics.gaps_found.inc(counts.gaps_found)
        metrics.gaps_filled.inc(counts.gaps_filled)
        metrics.trades_backfilled.inc(counts.backfilled)
        metrics.trades_shed.inc(counts.dropped)
        metrics.buffered_trades.set(len(self.outbox))
        metrics.held_trades.set(self.sequencer.pending)
        gaps = self.sequencer.open_gaps.values()
        metrics.gaps_open.set(len(gaps))
        metrics.gap_oldest.set(max((sequence.gap_age(now) for sequence in gaps), default=0.0))
        metrics.symbols_frozen.set(len(self.sequencer.halted()))
