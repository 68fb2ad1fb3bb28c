"""Committed records of a topic, partition by partition, from any place, to the head or on and on."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from ingest.reader.records import ReaderError

_ABSENT = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


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
        if found.error is not None and found.error.code() not in _ABSENT:
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

    def at_time(self, partitions: list[int], time: datetime) -> dict[int, int]:
        """The first offset of each partition that was written at this time or later."""
        wanted = [TopicPartition(self._topic, one, int(time.timestamp() * 1000)) for one in partitions]
        try:
            found = self._consumer.offsets_for_times(wanted, timeout=self._timeout)
        except KafkaException as error:
            raise ReaderError(f"no answer from {self._servers}: {error.args[0].str()}") from error
        return {one.partition: one.offset if one.offset >= 0 else OFFSET_END for one in found}

    def read(self, offsets: Mapping[int, int], *, follow: bool) -> Iterator[Message]:
        """Records from these offsets; without ``follow`` to what the head is now. Raises ``ReaderError``."""
        ends = {} if follow else {partition: self.bounds(partition)[1] for partition in offsets}
        reading = {partition for partition, offset in offsets.items() if follow or 0 <= offset < ends[partition]}
        self._consumer.assign([TopicPartition(self._topic, one, offsets[one]) for one in sorted(reading)])
        try:
            while reading:
                message = self._consumer.poll(self._timeout)
                if message is None:
                    if follow:
                        continue
                    raise ReaderError(f"no answer from {self._servers} for {self._timeout:g} s")
                error, partition, offset = message.error(), message.partition(), message.offset()
                if partition is None or offset is None:
                    continue
                if error is None:
                    if follow or offset < ends[partition]:
                        yield Message(partition, offset, message.key() or b"", message.value())
                    done = not follow and offset >= ends[partition] - 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    done = not follow
                else:
                    raise ReaderError(f"{self._topic}: {error.str()}")
                if done and partition in reading:
                    reading.discard(partition)
                    self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
