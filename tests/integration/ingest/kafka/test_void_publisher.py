"""Voids in their own topic on the real Kafka: all of them, once, whatever came before or between."""

import logging
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from ingest.kafka import topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.positions import VoidRecord
from ingest.kafka.void_publisher import VoidPublisher, body_of, key_of
from ingest.metrics import Metrics
from ingest.settings import Settings
from tests.harness.registry import Registry
from tests.integration.ingest.kafka.writing import read, settings_for

pytestmark = pytest.mark.integration


def void(first_id: int, *, symbol: str = "币安人生USDT", last_id: int | None = None) -> VoidRecord:
    return VoidRecord(
        symbol, first_id, first_id if last_id is None else last_id, "exchange_hole",
        {"replies": 5, "next_id": first_id + 1}, 1_723_161_254_122_000,
    )  # fmt: skip


@pytest.fixture
def settings(kafka: str, topic: str, schema_registry: Registry) -> Settings:
    settings = settings_for(kafka, "blue", topic, K2_KAFKA_SCHEMA_REGISTRY_URL=schema_registry.url)
    topics.create(settings, partitions=2, replication_factor=1)
    return settings


@contextmanager
def publishing(settings: Settings, metrics: Metrics | None = None, *, active: bool = True) -> Iterator[VoidPublisher]:
    publisher = VoidPublisher(settings, metrics or Metrics(process=False), AuthBackoff(settings))
    publisher.activate(active=active)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close(60)
        assert not publisher.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def keys(kafka: str, topic: str) -> list[bytes]:
    return [key or b"" for key, _ in read(kafka, f"{topic}.voids", 1)]


def test_what_is_missing_is_sent_by_the_one_who_writes(settings: Settings, kafka: str, topic: str) -> None:
    with publishing(settings, active=False) as standby:
        with publishing(settings) as writer:
            for one in (void(1), void(5), void(1)):
                writer.offer(one)
                standby.offer(one)
            until(lambda: not writer._waiting)
            assert sorted(keys(kafka, topic)) == [key_of(void(1)), key_of(void(5))]
        standby.offer(void(9))
        standby.activate(active=True)  # the writer is gone: what it has sent is not sent again
        until(lambda: not standby._waiting)
    assert sorted(keys(kafka, topic)) == sorted(map(key_of, (void(1), void(5), void(9))))
    _, value = read(kafka, f"{topic}.voids", 1)[0]
    assert value is not None
    zero, schema_id = struct.unpack_from(">bI", value)
    assert (zero, value[5:]) == (0, body_of(void(1)))
    assert schema_id >= 1


def test_a_topic_that_is_missing_holds_up_nothing_and_gets_everything_later(
    settings: Settings, kafka: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([f"{topic}.voids"])[f"{topic}.voids"].result(30)
    until(lambda: f"{topic}.voids" not in admin.list_topics(timeout=10).topics)
    metrics = Metrics(process=False)
    with publishing(settings, metrics) as writer:
        writer.offer(void(3))
        until(lambda: "voids are not published" in caplog.text)
        assert metrics.registry.get_sample_value("ingest_voids_unpublished") == 1
        topics.create(settings, partitions=2, replication_factor=1)
        until(lambda: not writer._waiting)
    assert keys(kafka, topic) == [key_of(void(3))]
    assert metrics.registry.get_sample_value("ingest_voids_unpublished") == 0


def test_a_registry_that_is_away_holds_up_the_voids_alone(
    settings: Settings, kafka: str, topic: str, schema_registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    schema_registry.failing = 503
    with publishing(settings) as writer:
        writer.offer(void(3))
        until(lambda: "voids are not published" in caplog.text)
        schema_registry.failing = None
        until(lambda: not writer._waiting)
    assert keys(kafka, topic) == [key_of(void(3))]
