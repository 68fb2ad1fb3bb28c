"""The real parts, once for a session. In CI a missing one is a failure, never a skip."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.support.kafka import KafkaBroker, KafkaUnavailable
from tests.support.registry import Registry

# A busy machine is no bug: pytest-timeout is the bound.
hypothesis_settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any-machine")

EXTERNAL = "K2_TEST_KAFKA_BOOTSTRAP_SERVERS"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the real Kafka: an external one, or one started here from its jars."""
    external = os.environ.get(EXTERNAL)
    if external:
        yield external
        return
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that the test may stop, kill and freeze."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def schema_registry() -> Iterator[Registry]:
    """A schema registry."""
    with Registry() as registry:
        yield registry
