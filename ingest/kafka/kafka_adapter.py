"""The real Kafka behind the port of the transactional writer."""

import threading
import time
from collections.abc import Callable

from ingest.core.trade import DeadLetter
from ingest.kafka.dead_letters import DeadLetterProducer
from ingest.kafka.last_records import LastRecords
from ingest.kafka.layout_guard import replace_forged, take_back
from ingest.kafka.position_check import PositionCheck
from ingest.kafka.positions import LayoutRecord, ShardState
from ingest.kafka.positions_reader import Checkpoint, PositionsReader, with_layout
from ingest.kafka.producer import AtLeastOnceProducer, TransactionalProducer
from ingest.kafka.size_limits import SizeLimits
from ingest.settings import Settings


class KafkaAdapter:
    """The real Kafka behind the protocol's port."""

    def __init__(
        self,
        settings: Settings,
        interrupt: threading.Event,
        on_errors: Callable[[int], None],
        on_dropped: Callable[[int], None] = lambda _: None,
        checkpoint: Callable[[], Checkpoint | None] = lambda: None,
    ) -> None:
        """``checkpoint``: how far another reader has read the positions."""
        self._settings = settings
        self._sizes = SizeLimits()
        self._letters = DeadLetterProducer(settings, on_dropped)
        self._interrupt = interrupt
        self._on_errors = on_errors
        self._checkpoint = checkpoint
        self._reader: PositionsReader | None = None
        self.on_read: Callable[[ShardState], None] = lambda _: None
        """Called when positions have been read: the broker answers."""
        self.on_fenced: Callable[[], None] = lambda: None
        """Called when a producer of the shard's id is initialised: the predecessor writes no more."""
        self._kind = TransactionalProducer if settings.kafka.delivery == "exactly-once" else AtLeastOnceProducer

    def open(self) -> TransactionalProducer:
        """A new incarnation."""
        return self._opened(self._settings.transactional_id, lambda: self.on_fenced())

    def _opened(self, transactional_id: str, on_fenced: Callable[[], None] = lambda: None) -> TransactionalProducer:
        return self._kind(
            self._settings,
            interrupted=self._interrupt.is_set,
            monotonic=time.monotonic,
            on_error=lambda: self._on_errors(1),
            sizes=self._sizes,
            transactional_id=transactional_id,
            on_fenced=on_fenced,
        )

    def read_state(self) -> ShardState:
        """The positions as of now."""
        if self._reader is None:
            self._reader = PositionsReader(self._settings, self._checkpoint)
        state = with_layout(self._reader.read(self._interrupt.is_set), self._settings)
        self.on_read(state)
        return state

    def give_up_change(self, layout: LayoutRecord) -> None:
        """Take an abandoned change of the number of shards back. Raises ``Retry``."""
        take_back(
            layout,
            open_producer=lambda: self._opened(self._settings.reshard_transactional_id),
            present=lambda: self.read_state().layout,
            topic=self._settings.positions_topic,
            by=self._settings.service.instance_id,
            now_us=time.time_ns() // 1000,
        )

    def replace_layout(self, accepted: LayoutRecord, seen: ShardState) -> bool:
        """Commit the layout over a forged one that was read; returns whether it did. Raises ``Retry``."""
        return replace_forged(
            accepted,
            seen,
            open_producer=lambda: self._opened(self._settings.reshard_transactional_id),
            read_state=self.read_state,
            topic=self._settings.positions_topic,
            shard=self._settings.shard,
        )

    def unfinished(self) -> bool:
        """Whether a transaction stood open behind the positions that were read last."""
        return self._reader is not None and self._reader.unfinished

    def partitions(self) -> int | None:
        """How many partitions the trades topic has, asked for by the positions' reader. Raises ``Retry``."""
        return None if self._reader is None else self._reader.partitions_of(self._settings.kafka.topic)

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        """Send evidence, outside of the transactions."""
        self._letters.send(letters)

    def serve(self) -> None:
        """Run the callbacks of the clients that stay open; those with refused credentials are closed."""
        self._letters.serve()
        if self._reader is not None:
            self._reader.serve()

    def position_check(self) -> PositionCheck:
        """For one take-over."""
        return PositionCheck(self._settings)

    def recorded_from(self, partition: int, before_ms: int) -> bool:
        """Whether a partition of the trades topic, from this one on, had a record before a time. Raises ``Retry``."""
        reader = self._reader
        return reader is not None and reader.recorded_from(self._settings.kafka.topic, partition, before_ms)

    def trades_recorded(self) -> bool:
        """Whether the trades topic has any record. Raises ``Retry`` or ``Stop``."""
        return LastRecords(self._settings).any()

    def wait(self, seconds: float) -> bool:
        """Sleep, or return True when asked to stop."""
        return self._interrupt.wait(seconds)

    def close(self) -> None:
        """Disconnect; reader and dead letters connect again when they are needed."""
        self._letters.close()
        if self._reader is not None:
            self._reader.close()
