"""What a consumer of the tests must know of a topic before it reads it."""

import time

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

PATIENCE = 60.0


def beginning(consumer: Consumer, topic: str, seconds: float = PATIENCE) -> list[TopicPartition]:
    """All partitions from their first record, as soon as the broker that is asked knows the topic.

    A moment after its creation not every broker does: that answer has no partitions, and whoever takes it for the
    truth reads nothing for ever. Raises ``TimeoutError``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = consumer.list_topics(topic, timeout=10).topics[topic]
            why = str(found.error or "no partitions")
        except KafkaException as error:
            found, why = None, str(error)
        if found is not None and found.error is None and found.partitions:
            return [TopicPartition(topic, partition, 0) for partition in found.partitions]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic} is not known within {seconds:g} s: {why}")
        time.sleep(0.05)


def ends(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """Partition -> the offset that its next record gets, records of open transactions included."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    partitions = admin.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic, partition): latest for partition in partitions}
    answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=PATIENCE)
    return {place.partition: answer.result().offset for place, answer in answers.items()}
