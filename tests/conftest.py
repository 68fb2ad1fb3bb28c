"""The real parts, once for a session. In CI a missing one is a failure, never a skip."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.harness import kafka_classes
from tests.harness.helm import Helm, HelmUnavailable
from tests.harness.kafka import KafkaBroker, KafkaUnavailable
from tests.harness.registry import Registry

# A busy machine is no bug: pytest-timeout is the bound.
hypothesis_settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any-machine")

EXTERNAL = "K2_TEST_KAFKA_BOOTSTRAP_SERVERS"
LONGEST = (
    "tests/campaigns/chaos/test_chaos.py",
    "tests/campaigns/chaos/test_planted_faults.py",
    "tests/campaigns/faults/test_rows.py",
    "tests/integration/ingest/reader/test_engines.py",
    "tests/integration/test_end_to_end.py",
    "tests/integration/deploy/test_helm_probes.py",
    "tests/campaigns/brokers/test_brokers.py",
    "tests/integration/ingest/kafka/test_writer_thread.py",
    "tests/campaigns/deployment/test_drill.py",
    "tests/integration/ingest_ops/soak/test_real_prometheus.py",
    "tests/campaigns/bench/test_instruction_guard.py",
    "tests/integration/ingest_ops/archive/test_stores.py",
    "tests/integration/ingest_ops/archive/test_day.py",
    "tests/integration/deploy/test_rules.py",
    "tests/integration/docs/test_tutorial.py",
    "tests/integration/ingest_ops/validation/test_prometheus.py",
)
"""Integration modules of more than twenty seconds, the longest first: begun late, one of them would run alone in the
end while the other worker has nothing left to do."""
INTEGRATION_SECONDS = 600
"""Of one integration test that sets no limit of its own: the first of them starts the broker, too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts real processes has more time than what does not, and the longest modules of it begin."""
    for item in items:
        if item.get_closest_marker("integration") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(INTEGRATION_SECONDS))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    name = item.nodeid.partition("::")[0]
    return LONGEST.index(name) if name in LONGEST and item.get_closest_marker("integration") else len(LONGEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Kafka's jars are fetched before the first test: a slow network is no test's fault; and its classes are kept."""
    if session.config.option.collectonly or not any(item.get_closest_marker("integration") for item in session.items):
        return
    with contextlib.suppress(KafkaUnavailable, OSError, subprocess.SubprocessError):  # the fixtures say it
        kafka_classes.share()
    if any("/test_helm" in item.nodeid for item in session.items):
        with contextlib.suppress(HelmUnavailable, OSError, subprocess.SubprocessError):
            Helm()


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
