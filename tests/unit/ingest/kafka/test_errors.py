"""What follows from an error of the broker."""

import pytest
from confluent_kafka import KafkaError

from ingest.core.errors import Fenced, Recycle
from ingest.kafka.errors import classify


@pytest.mark.parametrize(
    "code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED, KafkaError.UNKNOWN]
)
def test_what_may_be_a_fence_is_taken_for_one(code: int) -> None:
    """``UNKNOWN`` is how a commit is answered whose fence is just being written down; see the broker's log."""
    assert isinstance(classify(KafkaError(code, "no", txn_requires_abort=True), "transaction"), Fenced)


def test_what_is_none_costs_the_producer_at_once() -> None:
    found = classify(KafkaError(KafkaError.NOT_COORDINATOR, "no", txn_requires_abort=True), "transaction")
    assert isinstance(found, Recycle)
    assert found.reason == "abort"
