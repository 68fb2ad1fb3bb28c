"""Where the chaos runner's tests strike."""

import os
from collections.abc import Iterator

import pytest

from tests.campaigns.chaos.arena import Ground
from tests.harness.kafka import KafkaUnavailable


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """Broker, proxy and registry of one module: what strikes there is no concern of another's."""
    try:
        with Ground() as ground:
            yield ground
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
