"""A writer on the real Kafka, as the tests of this folder drive it."""

import queue
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest.core.batch import Batch
from ingest.kafka.events import Committed, FenceDetected, TookOver, WriterEvent
from ingest.kafka.writer_thread import WriterThread
from ingest.metrics import Metrics
from ingest.settings import Settings, load

E = TypeVar("E")
DRAIN = 60.0
"""Patience: as long as a message may wait for its delivery, and more."""


def settings_for(bootstrap: str, instance: str, topic: str, **more: str) -> Settings:
    """Without the limit of slow commits: on a busy machine any may be one, and brings a recycle where none is due."""
    settings = load(
        {
            "K2_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "K2_KAFKA_TOPIC": topic,
            "K2_INSTANCE_ID": instance,
            "K2_KAFKA_HEARTBEAT_INTERVAL_MS": "200",
            **more,
        }
    )
    if "K2_KAFKA_SLOW_COMMIT_MS" in more:
        return settings
    return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, slow_commit_ms=60_000))


class Instance:
    """A writer and what it says."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(process=False)
        self.events: queue.Queue[WriterEvent] = queue.Queue()
        self.writer = WriterThread(settings, self.metrics, self.events.put)
        self.writer.start()

    def expect(self, kind: type[E], seconds: float = 60.0) -> E:
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, kind):
                return event
            if not (isinstance(event, FenceDetected) or (isinstance(event, Committed) and event.batch is None)):
                raise AssertionError(f"{event} where {kind.__name__} was expected")

    def expect_any(self, *kinds: type[WriterEvent], seconds: float = 60.0) -> WriterEvent:
        """The next event of these kinds, heartbeats excluded."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, kinds) and not (isinstance(event, Committed) and event.batch is None):
                return event

    def take_over(self) -> TookOver:
        self.writer.take_over(None)
        return self.expect(TookOver)

    def write(self, session: int, *ids: int, symbol: str = "BTCUSDT") -> None:
        self.writer.write(session, Batch(records=[(symbol, number, b"%d" % number) for number in ids]))


Make = Callable[..., Instance]


def read(bootstrap: str, topic: str, partitions: int = 2) -> list[tuple[bytes | None, bytes | None]]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": True,
            "auto.offset.reset": "earliest", "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,  # heartbeats go on: a fetch that waits for more never sees the end
        }
    )  # fmt: skip
    found: list[tuple[bytes | None, bytes | None]] = []
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        ended = 0
        while ended < partitions:
            message = consumer.poll(60)
            assert message is not None
            error = message.error()
            if error is None:
                found.append((message.key(), message.value()))
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                ended += 1
    finally:
        consumer.close()
    return found


def trades(bootstrap: str, topic: str) -> list[int]:
    return [int(value or b"") for _, value in read(bootstrap, topic)]
