"""Where the auditor begins to read, on a real Kafka."""

import uuid

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ingest.audit.topic import TopicReader

pytestmark = pytest.mark.integration

OLD, CUT, NEW = 1_000_000_000_000, 1_500_000_000_000, 1_600_000_000_000


@pytest.fixture
def topic(kafka: str) -> str:
    """Partition 0: old and new records; 1: new alone; 2: old alone; 3: none."""
    name = f"audit-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    # Stamps of 2001 and 2020 must outlive the broker's retention.
    made = admin.create_topics([NewTopic(name, 4, 1, config={"retention.ms": "-1"})])
    made[name].result(60)
    producer = Producer({"bootstrap.servers": kafka})
    for partition, stamps in ((0, (OLD, OLD, NEW)), (1, (NEW, NEW)), (2, (OLD,))):
        for stamp in stamps:
            producer.produce(name, b"x", partition=partition, timestamp=stamp)
    assert producer.flush(60) == 0
    return name


def read(kafka: str, topic: str, since_ms: int | None) -> tuple[dict[int, int], list[tuple[int | None, int | None]]]:
    reader = TopicReader(kafka, topic, since_ms=since_ms)
    seen: list[tuple[int | None, int | None]] = []

    def take(messages: list[Message]) -> None:
        seen.extend((message.partition(), message.offset()) for message in messages)

    try:
        reader.start()
        assert reader.drain(take) == len(seen)
    finally:
        reader.close()
    return reader.lows, sorted(seen)


def test_everything_is_read_unless_a_time_is_given(kafka: str, topic: str) -> None:
    lows, seen = read(kafka, topic, None)
    assert lows == {0: 0, 1: 0, 2: 0, 3: 0}
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]


def test_what_is_older_counts_as_removed_and_a_partition_without_anything_as_young_is_at_its_end(
    kafka: str, topic: str
) -> None:
    lows, seen = read(kafka, topic, CUT)
    assert lows == {0: 2, 1: 0, 2: 1, 3: 0}
    assert seen == [(0, 2), (1, 0), (1, 1)]
