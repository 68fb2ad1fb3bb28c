"""Writers of one topic, closed after each test."""

import uuid
from collections.abc import Iterator

import pytest

from ingest.kafka import topics
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make, settings_for


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make(topic: str) -> Iterator[Make]:
    instances: list[Instance] = []

    def build(bootstrap: str, name: str, **more: str) -> Instance:
        settings = settings_for(bootstrap, name, topic, **more)
        if not instances:
            topics.create(settings, partitions=2, replication_factor=1)
        instance = Instance(settings)
        instances.append(instance)
        return instance

    yield build
    for instance in instances:
        instance.writer.close(DRAIN)
        assert not instance.writer.is_alive()
