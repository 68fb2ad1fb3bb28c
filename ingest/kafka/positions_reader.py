"""Reads a shard's partition of the positions topic, ``read_committed``: once to its end, or for ever."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingest.core.errors import IngestError, Retry, Stop
from ingest.kafka import client
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import disconnected, refused
from ingest.kafka.positions import ShardState, ShardStateBuilder, ShardStateUpdate
from ingest.settings import Settings

log = logging.getLogger(__name__)

_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_POLL_SECONDS = 0.2
_FIRST_OFFSET = 0
"""Where the log begins, or before it: then the library asks for the earliest offset. It always asks when told to begin
at the beginning, and waits half a second to ask again where no broker is known yet, as after every start."""


def _judge(error: KafkaError, topic: str, partition: int) -> None:
    """Raise what an error means; return where the client mends it by itself."""
    if error.code() in _MISSING:
        raise Stop(f"partition {partition} of topic {topic} does not exist: create the topics with `ingest topics`")
    access = refused(error)
    if access is not None:
        raise access
    if not disconnected(error):
        log.warning("reading %s: %s", topic, error)


def available(consumer: Consumer) -> list[Message]:
    """What has arrived; waits only where there is nothing: ``consume`` alone would wait for the full number."""
    first = consumer.poll(_POLL_SECONDS)
    return [] if first is None else [first, *consumer.consume(1000, 0)]


def _after(message: Message, otherwise: int) -> int:
    """The offset behind a message."""
    offset = message.offset()
    return offset + 1 if offset is not None else otherwise


class Checkpoint(msgspec.Struct, frozen=True):
    """What all committed records before an offset amount to."""

    next_offset: int
    ledger: ShardState


class PositionsReader:
    """Reads to the end on demand. Used by the writer's thread only.

    Each time it begins where it stopped, or at the ``checkpoint`` of somebody who has read further: an active writer
    would else read all that it has written itself since the last time.
    """

    def __init__(self, settings: Settings, checkpoint: Callable[[], Checkpoint | None] = lambda: None) -> None:
        self._topic = settings.positions_topic
        self._partition = settings.service.shard_index
        self._settings = settings
        self._refused: KafkaError | None = None
        self._open: Consumer | None = None
        self._builder = ShardStateBuilder()
        self._next = _FIRST_OFFSET
        self._checkpoint = checkpoint
        self.unfinished = False
        """Whether a transaction stood open behind what was read last."""

    def _on_error(self, error: KafkaError) -> None:
        if refused(error) is not None:
            self._refused = error

    def read(self, interrupted: Callable[[], bool] = lambda: False, *, seconds: float = 60.0) -> ShardState:
        """Everything committed until now.

        Raises ``Retry`` where the broker does not let us read within ``seconds`` or ``interrupted`` says so, and
        ``Stop`` for a missing topic or foreign records.
        """
        deadline = time.monotonic() + seconds
        consumer = self._connected()
        known = self._checkpoint()
        if known is not None and known.next_offset > self._next:
            self._builder.restore(known.ledger)
            self._next = known.next_offset
        # A new assignment begins a new fetch: its end of partition is of now, not of an answer already on its way.
        consumer.assign([TopicPartition(self._topic, self._partition, self._next)])
        try:
            while time.monotonic() < deadline and not interrupted():
                if self._refused is not None:
                    error, self._refused = self._refused, None
                    _judge(error, self._topic, self._partition)
                for message in available(consumer):
                    problem = message.error()
                    if problem is None:
                        self._builder.apply(message.key(), message.value())
                        self._next = _after(message, self._next)
                    elif problem.code() == KafkaError._PARTITION_EOF:
                        self.unfinished = self._end(consumer) > (message.offset() or 0)
                        return self._builder.ledger()
                    else:
                        _judge(problem, self._topic, self._partition)
        finally:
            consumer.unassign()
        raise Retry(f"the end of {self._topic} was not reached within {seconds:g} s", after=1.0)

    def _end(self, consumer: Consumer) -> int:
        """Where the log ends for readers of everything, as the last answer said."""
        return int(consumer.get_watermark_offsets(TopicPartition(self._topic, self._partition), cached=True)[1])

    def _connected(self) -> Consumer:
        if self._open is None:
            self._refused = None
            config = client.reader(self._settings, "ledger", wait_ms=10)
            self._open = Consumer({**config, "error_cb": self._on_error})
        return self._open

    def close(self) -> None:
        """Leave the broker; the next ``read`` comes back, and begins where this one stopped."""
        consumer, self._open = self._open, None
        if consumer is not None:
            consumer.close()


class PositionsFollower(threading.Thread):
    """Tails the positions: how a standby trims its buffer, sees the writer alive, and learns a newer generation."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_first: Callable[[ShardState], None],
        on_update: Callable[[ShardStateUpdate], None],
        on_error: Callable[[IngestError], None],
        access: AuthBackoff | None = None,
    ) -> None:
        """The callbacks are called on this thread: ``on_first`` once the end is reached, then ``on_update``."""
        super().__init__(name="positions-follower", daemon=True)
        self._settings = settings
        self._access = access or AuthBackoff(settings)
        self._on_first = on_first
        self._on_update = on_update
        self._on_fatal = on_error
        self._closing = threading.Event()
        self._refused: KafkaError | None = None
        self._lock = threading.Lock()
        self._builder = ShardStateBuilder()
        self._next = _FIRST_OFFSET

    def checkpoint(self) -> Checkpoint:
        """What it has read so far. Safe from any thread."""
        with self._lock:
            return Checkpoint(self._next, self._builder.ledger())

    def run(self) -> None:
        """Follow until closed; a missing topic or a foreign record is told, and ends it."""
        while not self._closing.is_set():
            self._access.wait(self._closing)
            self._refused = None
            try:
                self._follow()
            except Retry as error:
                log.warning("positions: %s; next try in %g s", error, error.after)
                if not self._access.refused(error):
                    self._closing.wait(error.after)
            except (IngestError, KafkaException) as error:
                self._on_fatal(error if isinstance(error, IngestError) else Stop(f"positions: {error}"))
                return
            except Exception as error:
                # A standby without it would be blind: end the process instead.
                log.exception("the follower of the positions crashed")
                crash = IngestError(f"the follower of the positions crashed: {type(error).__name__}: {error}")
                crash.__cause__ = error
                self._on_fatal(crash)
                return

    def _follow(self) -> None:
        topic, partition = self._settings.positions_topic, self._settings.service.shard_index
        consumer = Consumer({**client.reader(self._settings, "follower", wait_ms=100), "error_cb": self._on_error})
        first = True
        with self._lock:
            builder = self._builder = ShardStateBuilder()
            self._next = _FIRST_OFFSET
        try:
            consumer.assign([TopicPartition(topic, partition, _FIRST_OFFSET)])
            while not self._closing.is_set():
                ended = False
                if self._refused is not None:
                    error, self._refused = self._refused, None
                    _judge(error, topic, partition)
                messages = available(consumer)
                with self._lock:
                    for message in messages:
                        problem = message.error()
                        if problem is None:
                            builder.apply(message.key(), message.value())
                            self._next = _after(message, self._next)
                        elif problem.code() == KafkaError._PARTITION_EOF:
                            ended = True
                        else:
                            _judge(problem, topic, partition)
                if first and ended:
                    first = False
                    builder.update()
                    self._on_first(builder.ledger())
                elif not first and builder.changed():
                    self._on_update(builder.update())
        finally:
            consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        if refused(error) is not None:
            self._refused = error

    def close(self, seconds: float = 2.0) -> None:
        """Stop following; waits at most ``seconds``."""
        self._closing.set()
        if self.is_alive():
            self.join(seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
