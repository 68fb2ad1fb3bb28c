"""A log that was truncated while the service runs, on the real Kafka."""

import time

import pytest

from ingest.kafka import topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.events import Committed
from ingest.kafka.placing import partition_of
from ingest.kafka.topic_watch import TopicWatch
from ingest.metrics import Metrics
from ingest.settings import Settings
from tests.harness.kafka import KafkaBroker
from tests.harness.truncation import truncate
from tests.integration.ingest.kafka.writing import DRAIN, Instance, settings_for

pytestmark = pytest.mark.integration
PARTITION = partition_of(b"BTCUSDT", 2)


def test_a_truncated_log_is_reported(own_kafka: KafkaBroker, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each transaction is a batch and a marker: a cut of four batches takes back two of six records."""
    settings, metrics = settings_for(own_kafka.bootstrap_servers, "blue", topic), Metrics(process=False)
    topics.create(settings, partitions=2, replication_factor=1)
    watch = TopicWatch(settings, metrics, lambda _: None, AuthBackoff(settings))
    watch._first(topics.TopicDescriber(settings))
    write(settings, range(1, 7))
    watch._again(topics.TopicDescriber(settings))
    assert watch.problems == {}
    own_kafka.kill()
    end = truncate(own_kafka, topic, PARTITION, 4)
    own_kafka.start()
    assert end == 8
    deadline = time.monotonic() + 60
    while topic not in watch.problems:  # the broker does not know its partitions yet
        assert time.monotonic() < deadline
        watch._again(topics.TopicDescriber(settings))
    assert f"partition {PARTITION} had reached offset 12 and was at 8 afterwards" in caplog.text
    assert [name for name, texts in watch.problems.items() if "was truncated" in texts[0]] == [topic]
    labels = {"topic": topic, "problem": "truncated"}
    assert metrics.registry.get_sample_value("ingest_topic_problems", labels) == 2


def write(settings: Settings, ids: range) -> None:
    """One transaction for each id, by a writer that ends afterwards."""
    instance = Instance(settings)
    try:
        took = instance.take_over()
        for number in ids:
            instance.write(took.session, number)
            instance.expect(Committed)
    finally:
        instance.writer.close(DRAIN)
