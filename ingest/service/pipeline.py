"""Frames in, batches out: the sequencer and the outbox between the exchange's edge and the broker's.

It never waits for anything: the read loop that calls it must answer the exchange's pings whatever the broker does.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ingest.core.batch import Batch
from ingest.core.errors import Reject
from ingest.core.pending_batches import PendingBatches
from ingest.core.sequence import Sequencer
from ingest.core.trade import DeadLetter, Position, Trade, Void
from ingest.metrics import Metrics

log = logging.getLogger(__name__)


class Encoder(Protocol):
    """Makes the record of a trade; raises ``Reject`` where no exact one exists."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value in the Confluent wire format; ``ingestion_us`` is microseconds since the epoch."""


def _no_encoder(trade: Trade, ingestion_us: int) -> bytes:
    del ingestion_us
    raise RuntimeError(f"{trade.symbol} {trade.trade_id}: no encoder yet")


class Pipeline:
    """What the feed, the back-fill and the writer meet in. All calls come from the event loop's thread."""

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
        self.tap: Callable[[list[Trade]], None] | None = None
        """Gets every list of live trades, too: how a shadow compares."""
        self.outbox = PendingBatches(limit=max_trades // 2, batch_records=batch_records)
        self.sequencer = Sequencer(
            accept=self._accept,
            full=self.outbox.full,
            mismatch=self._mismatch,
            gap_closed=metrics.gap_seconds.observe,
            refuse=self._refuse,
            limit=max_trades // 2,
            jump_limit=jump_limit,
        )

    def use(self, encoder: Encoder) -> None:
        """Encode with this from now on. Needed before the first trade is due: trades are held until then."""
        self._encode = encoder.encode

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        """Take what one wake-up of a connection brought, in the order of arrival."""
        del connection
        self._ingestion_us = self._time_ns() // 1000
        if self.tap is not None:
            self.tap(trades)
        self.sequencer.offer(trades, self._monotonic())
        if self.outbox.ready():
            self.on_ready()

    def on_history(self, trades: list[Trade]) -> int:
        """Take a page of REST history; returns how many of its trades were news."""
        before = self.sequencer.counts.duplicates
        self._ingestion_us = self._time_ns() // 1000
        self.sequencer.offer(trades, self._monotonic())
        fresh = len(trades) - (self.sequencer.counts.duplicates - before)
        self.sequencer.counts.duplicates = before  # asked for, not delivered twice
        self.sequencer.counts.backfilled += fresh
        return fresh

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Keep the bytes of an unusable message. Its id, if it has one, is missing now, and history will be asked."""
        self._metrics.rejected.labels(error.reason).inc()
        log.warning("rejected a message on %s: %s", connection, error)
        self._bury(raw, source=connection, error=error)
        if error.symbol is not None and error.trade_id is not None:
            self.sequencer.notice(error.symbol, error.trade_id, self._monotonic())

    def _bury(self, raw: bytes, *, source: str, error: Reject) -> None:
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
            return  # history says the same again
        self._refused[trade.symbol] = trade.trade_id
        self._metrics.rejected.labels(error.reason).inc()
        log.warning("%s trade %d has no exact record: %s", trade.symbol, trade.trade_id, error)
        located = Reject(error.reason, error.detail, symbol=trade.symbol, trade_id=trade.trade_id)
        self._bury(repr(trade).encode(), source="encoder", error=located)

    def _mismatch(self, trade: Trade) -> None:
        self._metrics.content_mismatches.inc()
        self._metrics.rejected.labels("content_mismatch").inc()
        log.error("%s trade %d was delivered twice with different content", trade.symbol, trade.trade_id)
        error = Reject(
            "content_mismatch", "a second delivery differs from the first", symbol=trade.symbol, trade_id=trade.trade_id
        )
        self._bury(repr(trade).encode(), source="sequencer", error=error)

    def void(self, void: Void) -> None:
        """Account for a range that no trade will ever fill: in the positions first, then pass over it."""
        log.warning(
            "%s: ids %d to %d are void (%s): %s", void.symbol, void.first_id, void.last_id, void.reason, void.evidence
        )
        self._metrics.voids.labels(void.reason).inc(void.count)
        self.outbox.add_void(void)
        self.sequencer.void(void, self._monotonic())

    def baseline(self, symbol: str, next_id: int) -> None:
        """Begin a symbol that has no position yet."""
        self.outbox.add_baseline(symbol, next_id)
        self.sequencer.start(symbol, next_id, self._monotonic())

    def add(self, symbol: str, last_id: int | None) -> None:
        """Record a symbol from now on; ``last_id`` is its last one in Kafka, None where it has no position."""
        self.sequencer.add(symbol)
        next_id = self._left.pop(symbol, None if last_id is None else last_id + 1)
        if self.sequencer.active and next_id is not None:
            self.sequencer.start(symbol, next_id, self._monotonic())

    def remove(self, symbol: str) -> None:
        """Record a symbol no longer. What is queued of it is still written, and remembered should it come back."""
        lane = self.sequencer.lanes.get(symbol)
        if lane is not None and lane.next_id is not None and self.sequencer.active:
            self._left[symbol] = lane.next_id
        self.sequencer.remove(symbol)

    def activate(self, positions: Mapping[str, Position]) -> None:
        """Become the writer's source: continue right behind what Kafka holds.

        A former writer still has what it had queued and its successor did not come to commit: nothing of that has to
        be asked for.
        """
        next_ids = self.outbox.resume(positions)
        self._left.clear()
        self._ingestion_us = self._time_ns() // 1000
        self.activated_at = self._monotonic()
        self.sequencer.activate(next_ids, self.activated_at)

    def rewind(self, positions: Mapping[str, Position]) -> None:
        """Compare with what Kafka holds after the producer was replaced, and queue again what it does not."""
        now = self._monotonic()
        broken = self.outbox.rewind(positions)
        for symbol, next_id in broken.items():
            if symbol in self.sequencer.lanes:
                self.sequencer.rewind(symbol, next_id, now)
            else:
                self._left[symbol] = next_id
        for symbol, position in positions.items():
            lane = self.sequencer.lanes.get(symbol)
            if lane is not None and (lane.next_id is None or lane.next_id < position.next_id):
                self.sequencer.start(symbol, position.next_id, now)

    def deactivate(self, *, warm: bool = True) -> None:
        """Another instance writes now: hold what comes, and if ``warm`` keep what is queued until it has written it."""
        self.sequencer.deactivate()
        self._left.clear()
        if not warm:
            self.outbox.clear()
            return
        kept = self.outbox.depose()
        if kept:
            log.info("%d queued trades are kept until the new writer has committed them", kept)

    def committed(self, positions: Mapping[str, int], news: Iterable[str]) -> None:
        """A standby learns how far the writer is (symbol -> last id), and of which symbols that is news."""
        for symbol in news:
            self.sequencer.committed(symbol, positions[symbol])
        self.outbox.forget(positions)

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
        metrics, counts, now = self._metrics, self.sequencer.counts, self._monotonic()
        for symbol, number in self._committed.items():
            metrics.trades_committed.labels(metrics.symbol_label(symbol)).inc(number)
        self._committed.clear()
        metrics.duplicates.inc(counts.duplicates)
        metrics.gaps_found.inc(counts.gaps_found)
        metrics.gaps_filled.inc(counts.gaps_filled)
        metrics.trades_backfilled.inc(counts.backfilled)
        metrics.trades_shed.inc(counts.shed)
        counts.__init__()  # type: ignore[misc]  # every count back to zero
        metrics.buffered_trades.set(len(self.outbox))
        metrics.held_trades.set(self.sequencer.held)
        gaps = self.sequencer.open_gaps.values()
        metrics.gaps_open.set(len(gaps))
        metrics.gap_oldest.set(max((lane.gap_age(now) for lane in gaps), default=0.0))
        metrics.symbols_frozen.set(len(self.sequencer.frozen()))
