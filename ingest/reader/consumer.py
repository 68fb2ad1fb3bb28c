"""Committed records of a topic, partition by partition, from any place, to the head or on and on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as RawMessage

from ingest.reader.records import BEGIN_AGAIN, Deleted, ReaderError

POLL_SECONDS: Final = 1.0
"""Under ``follow``, the longest wait for a record before added partitions are looked for."""
ABSENT: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class Message(NamedTuple):
    """A record as Kafka has it."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return f"partition {self.partition}, offset {self.offset}"


class Reached(NamedTuple):
    """Everything that is committed before this offset of the partition has been read."""

    partition: int
    offset: int


Event = Message | Reached | Deleted


def after(event: Event) -> int:
    """The offset that is due after an event."""
    match event:
        case Message():
            return event.offset + 1
        case Deleted():
            return event.last_offset + 1
        case Reached():
            return event.offset


class TopicConsumer:
    """Reads with ``isolation.level=read_committed``, without a group's offsets. Close it."""

    def __init__(self, bootstrap_servers: str, topic: str, options: Mapping[str, str], *, timeout: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._timeout = timeout
        try:
            self._consumer = Consumer(
                {
                    "log_level": 0,
                    "queued.max.messages.kbytes": 16_384,  # the bound of memory
                    **options,
                    "bootstrap.servers": bootstrap_servers,
                    "group.id": "k2-ingest-reader",  # the library demands one; no offset is stored
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "auto.offset.reset": "error",  # any other value skips records without a word
                    "enable.partition.eof": True,
                }
            )
        except KafkaException as error:
            raise ReaderError(f"Kafka client: {error.args[0].str()}") from error

    def partitions(self) -> list[int]:
        """The topic's partitions. Raises ``ReaderError``."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=self._timeout).topics[self._topic]
        except KafkaException as error:
            raise ReaderError(f"no answer from {self._servers}: {error.args[0].str()}") from error
        if found.error is not None and found.error.code() not in ABSENT:
            raise ReaderError(f"{self._topic} at {self._servers}: {found.error.str()}")
        if found.error is not None or not found.partitions:
            raise ReaderError(f"no topic {self._topic} at {self._servers}: `ingest topics` creates it")
        return sorted(found.partitions)

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset and the one after the last."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=self._timeout
            )
        except KafkaException as error:
            raise ReaderError(f"no answer from {self._servers}: {error.args[0].str()}") from error
        return low, high

    def at_time(self, bounds: Mapping[int, tuple[int, int]], time: datetime) -> dict[int, int]:
        """The first offset of each partition that was written at this time or later; its end where there is none."""
        wanted = [TopicPartition(self._topic, one, int(time.timestamp() * 1000)) for one in bounds]
        try:
            found = self._consumer.offsets_for_times(wanted, timeout=self._timeout)
        except KafkaException as error:
            raise ReaderError(f"no answer from {self._servers}: {error.args[0].str()}") from error
        return {one.partition: one.offset if one.offset >= 0 else bounds[one.partition][1] for one in found}

    def read(self, offsets: Mapping[int, int], *, follow: bool) -> Iterator[Message]:
        """Records from these offsets; without ``follow`` to what the head is now.

        Raises ``ReaderError``, also for records that are deleted before they are read.
        """
        for event in self.events(offsets, follow=follow):
            if isinstance(event, Deleted):
                raise ReaderError(
                    f"{self._topic}, partition {event.partition}: offsets {event.first_offset} to {event.last_offset} "
                    f"were deleted before they were read; begin again"
                )
            if isinstance(event, Message):
                yield event

    def events(
        self, offsets: Mapping[int, int], *, follow: bool, added: Callable[[], Iterable[int]] = tuple
    ) -> Iterator[Event]:
        """Like ``read``, but states what was deleted and goes on behind it, and states how far each partition is read.

        ``added`` is called all the time and returns partitions that the topic has got: they are read from their
        beginning under ``follow``. Raises ``ReaderError``.
        """
        ends = {} if follow else {partition: self.bounds(partition)[1] for partition in offsets}
        due = {partition: offset for partition, offset in offsets.items() if follow or offset < ends[partition]}
        self._consumer.assign([TopicPartition(self._topic, one, due[one]) for one in sorted(due)])
        try:
            while due:
                for partition in added():
                    if follow:
                        due[partition] = 0
                        self._assign(partition, OFFSET_BEGINNING)
                found = self._poll(follow=follow)
                place = None if found is None else found.partition()
                if found is None or place is None or place not in due:
                    continue
                end = ends.get(place)
                event = self._event(found, place, due[place], end)
                if event is None:
                    continue
                due[place] = after(event)
                yield event
                if end is not None and (isinstance(event, Reached) or due[place] >= end):
                    del due[place]
                    self._consumer.incremental_unassign([TopicPartition(self._topic, place)])
        finally:
            self._consumer.unassign()

    def _poll(self, *, follow: bool) -> RawMessage | None:
        found = self._consumer.poll(min(self._timeout, POLL_SECONDS) if follow else self._timeout)
        if found is None and not follow:
            raise ReaderError(f"no answer from {self._servers} for {self._timeout:g} s")
        return found

    def _event(self, found: RawMessage, partition: int, due: int, end: int | None) -> Event | None:
        """What librdkafka reports of a partition; ``due``: the offset that is expected, ``end``: where to stop."""
        error, offset = found.error(), found.offset()
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
            return self._out_of_range(partition, due if offset is None else max(due, offset), error)
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise ReaderError(f"{self._topic}, partition {partition}: {error.str()}")
        if offset is None:
            return None
        if error is None and (end is None or offset < end):
            return Message(partition, offset, found.key() or b"", found.value())
        return Reached(partition, offset if end is None else min(offset, end))

    def _out_of_range(self, partition: int, due: int, error: KafkaError) -> Deleted:
        """Go on with the oldest record that is left. Raises ``ReaderError`` if nothing was deleted before ``due``."""
        low, high = self.bounds(partition)
        if due >= low:
            raise ReaderError(
                f"{self._topic}, partition {partition}: offset {due} cannot be read, the partition has {low} to {high} "
                f"({error.str()}): the topic was created again or has lost records; {BEGIN_AGAIN}"
            )
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._assign(partition, low)
        return Deleted(partition, due, low - 1)

    def _assign(self, partition: int, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, offset)])

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
