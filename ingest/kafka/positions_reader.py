"""Reads a shard's partition of the positions topic, ``read_committed``: once to its end, or continuously."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

import msgspec
from confluent_kafka import KafkaException

from ingest.core.errors import IngestError, Retry, Stop, crashed
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer, after
from ingest.kafka.position_records import LayoutRecord
from ingest.kafka.positions import ShardState, ShardStateBuilder, ShardStateUpdate, VoidRecord
from ingest.settings import Settings

log = logging.getLogger(__name__)

REFUSAL_SECONDS = 60.0
"""Between log lines that say why nothing may be written."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The state after all committed records before an offset."""

    next_offset: int
    state: ShardState


def _report_invalid(builder: ShardStateBuilder, topic: str, partition: int) -> None:
    """Log the invalid records that the builder has skipped since the last call."""
    if builder.invalid:
        log.warning(
            "%s, partition %d: skipped records that are not positions (%d in all): %s; only this service may write "
            "there: restrict the topic with an ACL",
            topic, partition, builder.invalid_count, "; ".join(builder.invalid),
            extra={"topic": topic, "partition": partition, "invalid": builder.invalid_count},
        )  # fmt: skip
        builder.invalid.clear()


class PositionsReader:
    """Reads to the end on demand. Used by the writer's thread only.

    Each read begins where the previous one stopped, or at the ``checkpoint`` of a reader that is further ahead: an
    active writer would otherwise read everything that it has written itself in the meantime.
    """

    def __init__(
        self,
        settings: Settings,
        checkpoint: Callable[[], Checkpoint | None] = lambda: None,
        *,
        any_format: bool = False,
    ) -> None:
        """``any_format``: also return what a newer version wrote last, as far as this one understands it."""
        self._topic = settings.positions_topic
        self._partition = settings.shard
        self._settings = settings
        self._open: PartitionConsumer | None = None
        self._builder = ShardStateBuilder()
        self._next = FIRST_OFFSET
        self._checkpoint = checkpoint
        self._any_format = any_format
        self.unfinished = False
        """Whether a transaction was open behind what was read last."""

    def read(self, interrupted: Callable[[], bool] = lambda: False, *, seconds: float = 60.0) -> ShardState:
        """Return the state of everything committed until now.

        Raises ``Retry`` if the end is not reached within ``seconds`` or ``interrupted`` returns True, and ``Stop`` for
        a missing topic or one that a newer version wrote last.
        """
        deadline = time.monotonic() + seconds
        if self._open is None:
            self._open = PartitionConsumer(self._settings, "ledger", self._topic, wait_ms=10)
        consumer = self._open
        known = self._checkpoint()
        if known is not None and known.next_offset > self._next:
            self._builder.restore(known.state)
            self._next = known.next_offset
        consumer.assign({self._partition: self._next})
        try:
            while time.monotonic() < deadline and not interrupted():
                polled = consumer.poll()
                for message in polled.records:
                    self._builder.apply(message.key(), message.value(), message.offset())
                    self._next = after(message, self._next)
                _report_invalid(self._builder, self._topic, self._partition)
                if polled.ended:
                    self.unfinished = consumer.cached_end(self._partition) > polled.ended[self._partition]
                    state = self._builder.state()
                    if not self._any_format:
                        state.require_format()
                    return state
        finally:
            consumer.unassign()
        raise Retry(f"the end of {self._topic} was not reached within {seconds:g} s", after=1.0)

    def partitions_of(self, topic: str, *, seconds: float = 10.0) -> int | None:
        """How many partitions another topic has; None without a connection, or without that topic. Raises ``Retry``."""
        if self._open is None:
            return None
        try:
            return len(self._open.partitions(seconds, topic))
        except KafkaException as error:
            raise Retry(f"partitions of {topic}: {error.args[0].str()}", after=1.0) from error
        except Stop:
            return None  # who checks the topics says so

    def recorded_from(self, topic: str, partition: int, before_ms: int, *, seconds: float = 10.0) -> bool:
        """Whether a partition of another topic, from this one on, had a record before a time, ms. Raises ``Retry``."""
        if self._open is None:
            return False
        try:
            found = self._open.partitions(seconds, topic)
            # Deleted records count: the first one of the time, or the end, is not at the beginning then.
            later = (one for one in found if one >= partition)
            return any(self._open.offset_at(one, max(0, before_ms), seconds, topic) > 0 for one in later)
        except KafkaException as error:
            raise Retry(f"partitions of {topic}: {error.args[0].str()}", after=1.0) from error

    def serve(self) -> None:
        """Run the client's callbacks while nothing is read; it is closed if it may not read."""
        if self._open is None:
            return
        try:
            self._open.serve()
        except (Retry, Stop):  # the next read says so
            self.close()

    def close(self) -> None:
        """Disconnect; the next ``read`` connects again, and begins where this one stopped."""
        consumer, self._open = self._open, None
        if consumer is not None:
            consumer.close()


def read_layout(settings: Settings) -> LayoutRecord | None:
    """The stored number of shards; None if none is. Raises ``Retry`` or ``Stop``."""
    reader = PositionsReader(settings.of_shard(0), any_format=True)
    try:
        return reader.read().layout
    finally:
        reader.close()


def with_layout(state: ShardState, settings: Settings) -> ShardState:
    """The state of a shard, with the layout of partition 0 if nothing was ever written to its own partition.

    Such a partition was added behind the others, after the layout was stored, and does not have it.
    """
    if state.layout is not None or state.generation or not settings.shard:
        return state
    return msgspec.structs.replace(state, layout=read_layout(settings))


class PositionsFollower(threading.Thread):
    """Follows the positions: a standby trims its buffer, observes the writer, and learns of a newer generation."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_first: Callable[[ShardState], None],
        on_update: Callable[[ShardStateUpdate], None],
        on_error: Callable[[IngestError], None],
        access: AuthBackoff,
        on_void: Callable[[VoidRecord], None] = lambda _: None,
    ) -> None:
        """The callbacks are called on this thread: ``on_first`` once the end is reached, then ``on_update``.

        While a newer version's records are the last ones, ``on_update`` says so and ``on_first`` waits.

        ``on_void`` is called with each void, those of the past included, and again when reading restarts.
        """
        super().__init__(name="positions-follower", daemon=True)
        self._settings = settings
        self._access = access
        self._on_first = on_first
        self._on_update = on_update
        self._on_fatal = on_error
        self._on_void = on_void
        self._closing = threading.Event()
        self._refusal_due = 0.0
        self._lock = threading.Lock()
        self._builder = ShardStateBuilder()
        self._next = FIRST_OFFSET

    def checkpoint(self) -> Checkpoint:
        """What has been read so far. Safe from any thread."""
        with self._lock:
            return Checkpoint(self._next, self._builder.state())

    def run(self) -> None:
        """Follow until closed; ``on_error`` gets a missing topic, which ends the thread."""
        while not self._closing.is_set():
            self._access.wait(self._closing)
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
                # A standby without it would not notice the writer: end the process instead.
                log.exception("the follower of the positions crashed")
                self._on_fatal(crashed("the follower of the positions crashed", error))
                return

    def _follow(self) -> None:
        topic, partition = self._settings.positions_topic, self._settings.shard
        first = True
        with self._lock:
            builder = self._builder = ShardStateBuilder(self._on_void)
            self._next = FIRST_OFFSET
        with PartitionConsumer(self._settings, "follower", topic) as consumer:
            consumer.assign({partition: FIRST_OFFSET})
            while not self._closing.is_set():
                polled = consumer.poll()
                with self._lock:
                    for message in polled.records:
                        builder.apply(message.key(), message.value(), message.offset())
                        self._next = after(message, self._next)
                _report_invalid(builder, topic, partition)
                if first and polled.ended and builder.refusal:
                    self._refuse(builder)
                elif first and polled.ended:
                    first = False
                    builder.update()
                    self._on_first(builder.state())
                elif not first and builder.changed():
                    self._on_update(builder.update())

    def _refuse(self, builder: ShardStateBuilder) -> None:
        """Wait for a record that says otherwise: a restart would find the same."""
        self._on_update(builder.update())
        if time.monotonic() >= self._refusal_due:
            log.error("nothing is written by this instance: %s", builder.refusal)
            self._refusal_due = time.monotonic() + REFUSAL_SECONDS

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
