"""Frames in, batches out: the lanes of all streams and the pending batches between the exchange and Kafka.

The trades' lane is the pipeline itself: it is always there, and nothing of it waits for the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from ingest.core.batch import Batch
from ingest.core.pending_batches import PendingBatches
from ingest.core.streams import TRADE, Stream, split_name
from ingest.core.trade import Position, Trade
from ingest.metrics import Metrics
from ingest.service.lane_counters import TradeCounters
from ingest.service.numbered_lane import Encoder, NumberedLane

__all__ = ["Encoder", "Lane", "Pipeline"]

log = logging.getLogger(__name__)


class Lane(Protocol):
    """One stream's way from its connections to the batches. Mappings are by sequence name."""

    stream: Stream

    def use(self, encoder: Any) -> None:
        """Encode with this from now on."""

    def add(self, symbol: str, last_id: int | None) -> None:
        """Record a symbol from now on; ``last_id`` is its last one in Kafka."""

    def remove(self, symbol: str) -> None:
        """Record a symbol no longer."""

    def take_up(self, next_ids: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """Become the writer's source."""

    def go_back(self, broken: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """Continue where Kafka is, after the producer was replaced."""

    def stand_by(self) -> None:
        """Another instance writes now."""

    def pause(self) -> None:
        """Release nothing more until the role changes."""

    def writer_at(self, news: Mapping[str, Position]) -> None:
        """Learn how far the writer is."""

    def let_in(self) -> None:
        """There may be room again."""

    def last_times(self, names: Any) -> dict[str, int]:
        """The times to store with the positions of numbered sequences."""

    def publish(self) -> None:
        """Move counts into the metrics."""


class Pipeline(NumberedLane):
    """The trades' lane, the batches, and the lanes of the other streams. All calls from the event loop's thread."""

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
        self._metrics = metrics
        self._committed: Counter[str] = Counter()
        self.lanes: dict[str, Lane] = {}
        """Of the streams besides the trades, by name: filled from the settings at the start."""
        super().__init__(
            stream=TRADE,
            outbox=PendingBatches(limit=max_trades // 2, batch_records=batch_records),
            counters=TradeCounters(metrics),
            encoder=encoder,
            limit=max_trades // 2,
            jump_limit=jump_limit,
            dead_letter_max_bytes=dead_letter_max_bytes,
            monotonic=monotonic,
            time_ns=time_ns,
        )

    def name_of(self, symbol: str) -> str:
        """A trade's sequence has the name of its symbol."""
        return symbol

    def _accept(self, trade: Trade, symbol: str, trade_id: int) -> None:
        value = self._encode(trade, self._ingestion_us)
        outbox = self.outbox
        outbox.add((symbol, trade_id, value), trade.trade_time_us if outbox.begins else 0)

    def activate(self, positions: Mapping[str, Position]) -> None:
        """Become the writer's source: continue right behind what Kafka holds.

        A former writer still has what it had queued and its successor did not come to commit: nothing of that has to
        be asked for.
        """
        next_ids = self.outbox.promote(positions)
        self.take_up(next_ids, positions)
        # What is queued again may have a break of a book, or the snapshot behind one, that Kafka does not have yet.
        in_sync = self.outbox.in_sync() | dict.fromkeys(self.outbox.cut, False)
        ahead = {
            name: msgspec.structs.replace(positions[name], unsynced=not synced) for name, synced in in_sync.items()
        }
        positions = {**positions, **ahead} if ahead else positions
        for lane in self.lanes.values():
            lane.take_up(next_ids, positions)

    def numbered(self, name: str) -> tuple[NumberedLane, str]:
        """Lane and symbol of a sequence of a numbered stream, by its name."""
        stream, symbol = split_name(name)
        lane: Any = self if stream == TRADE.name else self.lanes[stream]
        return lane, symbol

    def rewind(self, positions: Mapping[str, Position]) -> None:
        """Compare with what Kafka holds after the producer was replaced, and queue again what it does not."""
        broken = self.outbox.rewind(positions)
        self.go_back(broken, positions)
        for lane in self.lanes.values():
            lane.go_back(broken, positions)

    def deactivate(self, *, warm: bool = True) -> None:
        """Another instance writes now: hold what comes, and if ``warm`` keep what is queued until it has written it."""
        self.stand_by()
        for lane in self.lanes.values():
            lane.stand_by()
        if not warm:
            self.outbox.clear()
            return
        kept = self.outbox.demote()
        if kept:
            log.info("%d queued trades are kept until the new writer has committed them", kept)

    def pause_all(self) -> None:
        """Release nothing more of any stream until the role changes."""
        self.pause()
        for lane in self.lanes.values():
            lane.pause()

    def committed(self, positions: Mapping[str, int], news: Mapping[str, Position]) -> None:
        """Tell a standby how far the writer is (name -> last id), and which of these are new."""
        self.writer_at(news)
        for lane in self.lanes.values():
            lane.writer_at(news)
        self.outbox.drop_committed(positions)

    def take(self) -> Batch | None:
        """The next batch for the writer, or None, with the time of each symbol's last trade."""
        batch = self.outbox.take()
        if batch is not None:
            names = set(map(itemgetter(0), batch.records))
            names.update(batch.baselines, (void.symbol for void in batch.voids))
            batch.last_times_us = self.last_times(names)
            for lane in self.lanes.values():
                batch.last_times_us |= lane.last_times(names)
        return batch

    def acknowledge(self, batch: Batch, trades: Mapping[str, int]) -> None:
        """A batch is in Kafka, with so many trades of each symbol: count them, and let in what had to wait."""
        self.outbox.acknowledge(batch)
        self._committed.update(trades)
        self.let_in()
        for lane in self.lanes.values():
            lane.let_in()

    def publish(self) -> None:
        """Move what was counted in plain integers into the metrics: once a second, not once a trade."""
        metrics = self._metrics
        for name, number in self._committed.items():
            stream, symbol = split_name(name)
            if stream == TRADE.name:
                metrics.trades_committed.labels(metrics.symbol_label(symbol)).inc(number)
            else:
                metrics.stream_committed.labels(stream).inc(number)
        self._committed.clear()
        metrics.buffered_trades.set(len(self.outbox))
        metrics.stream_queued_bytes.set(self.outbox.span_bytes)
        super().publish()
        for lane in self.lanes.values():
            lane.publish()
