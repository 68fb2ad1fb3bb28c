"""One test for each row 1 to 21 of the fault table, over real sockets, audited."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.faults import tls
from tests.campaigns.faults.environment import FaultEnvironment
from tests.campaigns.faults.rows import ROWS, Row, play
from tests.harness.kafka import KafkaBroker, KafkaUnavailable
from tests.harness.registry import Registry

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultEnvironment]:
    directory = tmp_path_factory.mktemp("faults")
    try:
        broker = KafkaBroker(directory / "kafka").start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    with broker, Registry() as registry, FaultEnvironment(directory, broker, registry) as field:
        yield field


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}: {row.title}")
def test_a_row(field: FaultEnvironment, row: Row) -> None:
    assert play(field, row).problems == []


def test_row_8_certificates(tmp_path: Path) -> None:
    assert tls.play(tmp_path).problems == []


def test_every_row_is_there() -> None:
    assert {row.number for row in ROWS} | {8} == set(range(1, 22))
