"""Where the chaos runner's tests strike."""

import os
from collections.abc import Iterator

import pytest

from tests.campaigns.chaos.environment import SharedParts
from tests.harness.kafka import KafkaUnavailable


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedParts]:
    """Broker, proxy and registry of one module: what strikes there is no concern of another's."""
    try:
        with SharedParts() as shared:
            yield shared
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
