"""The consume loop of every reader in this package: assigned partitions, ``read_committed``, classified errors."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Self

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingest.core.errors import Retry, Stop
from ingest.kafka import client
from ingest.kafka.errors import disconnected, refused
from ingest.settings import Settings

log = logging.getLogger(__name__)

FIRST_OFFSET = 0
"""The beginning of a log, or before it: then the library asks for the earliest offset. It always asks when it is given
to begin at the beginning, and waits half a second to ask again while no broker is known, as after every start."""
MOST_MESSAGES = 1000

_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_POLL_SECONDS = 0.2
SILENCE_SECONDS = 20.0
"""Without a record and without the end of a partition: the broker does not answer."""


class Polled(msgspec.Struct, frozen=True):
    """What one poll returned."""

    records: list[Message]
    ended: dict[int, int]
    """Partitions whose end was reached -> the offset of that end for this isolation level."""


class PartitionConsumer:
    """Reads partitions of one topic from given offsets. Not thread-safe. A context manager."""

    def __init__(self, settings: Settings, role: str, topic: str, *, wait_ms: int = 100) -> None:
        """``wait_ms``: how long the broker may hold a fetch at the end of a partition."""
        self._topic = topic
        self._refused: KafkaError | None = None
        self._consumer = Consumer({**client.reader(settings, role, wait_ms=wait_ms), "error_cb": self._on_error})

    def _on_error(self, error: KafkaError) -> None:
        if refused(error) is not None:
            self._refused = error

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on. A new assignment begins a new fetch: its end is of now."""
        self._consumer.assign([TopicPartition(self._topic, *place) for place in offsets.items()])

    def unassign(self) -> None:
        """Stop fetching; the connection stays."""
        self._consumer.unassign()

    def poll(self) -> Polled:
        """Return what has arrived; waits a moment only if nothing has.

        Raises ``Stop`` for a partition that does not exist, ``Retry`` for refused credentials or a missing ACL.
        """
        if self._refused is not None:
            error, self._refused = self._refused, None
            self._classify(error)
        first = self._consumer.poll(_POLL_SECONDS)
        # ``consume`` alone would wait for the full number of messages.
        messages = [] if first is None else [first, *self._consumer.consume(MOST_MESSAGES, 0)]
        records: list[Message] = []
        ended: dict[int, int] = {}
        for message in messages:
            problem = message.error()
            if problem is None:
                records.append(message)
            elif problem.code() == KafkaError._PARTITION_EOF:
                ended[message.partition() or 0] = message.offset() or 0
            else:
                self._classify(problem, message.partition())
        return Polled(records, ended)

    def _classify(self, error: KafkaError, partition: int | None = None) -> None:
        """Raise what an error means; return if the client recovers by itself."""
        if error.code() in _MISSING:
            which = self._topic if partition is None else f"partition {partition} of topic {self._topic}"
            raise Stop(f"{which} does not exist: create the topics with `ingest topics`")
        access = refused(error)
        if access is not None:
            raise access
        if not disconnected(error):
            log.warning("reading %s: %s", self._topic, error, extra={"topic": self._topic, "reason": error.name()})

    def read_to_end(
        self, offsets: dict[int, int], take: Callable[[Message], None], *, silence: float = SILENCE_SECONDS
    ) -> dict[int, int]:
        """Pass each record from these offsets to the present ends to ``take``; ``offsets`` move on behind it.

        Returns partition -> its end for committed records. The partitions stay assigned. Raises ``Retry`` without an
        answer for ``silence`` seconds, and like ``poll``.
        """
        self.assign(offsets)
        deadline, ends = time.monotonic() + silence, dict[int, int]()
        while ends.keys() != offsets.keys():
            polled = self.poll()
            for message in polled.records:
                partition = message.partition() or 0
                offsets[partition] = after(message, offsets[partition])
                take(message)
            ends |= polled.ended
            if polled.records or polled.ended:
                deadline = time.monotonic() + silence
            elif time.monotonic() >= deadline:
                raise Retry(f"{self._topic}: no answer for {silence:g} s")
        return ends

    def cached_end(self, partition: int) -> int:
        """The end of the log for readers of everything, as of the latest fetch."""
        return int(self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)[1])

    def limits(self, partition: int, seconds: float, topic: str | None = None) -> tuple[int, int]:
        """Ask for the first and the end offset of a partition of this topic, or another one.

        Raises ``KafkaException``.
        """
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic or self._topic, partition), seconds)
        return int(low), int(high)

    def offset_at(self, partition: int, time_ms: int, seconds: float, topic: str | None = None) -> int:
        """Ask for the first offset of this topic, or another one, whose record is not older than a time.

        It is the end if all are older. Raises ``KafkaException``.
        """
        place = TopicPartition(topic or self._topic, partition, time_ms)
        found = self._consumer.offsets_for_times([place], seconds)[0]
        if found.error is not None:
            raise KafkaException(found.error)
        return int(found.offset) if found.offset >= 0 else self.limits(partition, seconds, topic)[1]

    def partitions(self, seconds: float, topic: str | None = None) -> list[int]:
        """Ask for the partitions of this topic, or another one.

        Raises ``KafkaException``, and ``Stop`` for a topic that does not exist.
        """
        name = topic or self._topic
        found = self._consumer.list_topics(name, timeout=seconds).topics[name]
        if found.error is not None:
            self._classify(found.error)
        return sorted(found.partitions)

    def serve(self) -> None:
        """Run the library's callbacks while nothing is assigned. Raises like ``poll``."""
        self._consumer.poll(0)
        if self._refused is not None:
            error, self._refused = self._refused, None
            self._classify(error)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def after(message: Message, otherwise: int) -> int:
    """The offset behind a message."""
    offset = message.offset()
    return offset + 1 if offset is not None else otherwise
