"""What exactly-once rests on in the client library's options."""

import pytest

from ingest.core.errors import BadSettings
from ingest.kafka import client
from ingest.settings import load

MOST_JITTER = 0.2
"""librdkafka shortens a retry's back-off by up to this share."""


def test_a_commit_sent_twice_is_slower_than_any_limit_for_slow_commits() -> None:
    """Nothing tells of a request that was sent again but the time that it took (KAFKA-17754)."""
    with pytest.raises(BadSettings, match="SLOW_COMMIT_MS"):
        load({"K2_KAFKA_SLOW_COMMIT_MS": "451"})
    slowest = load({"K2_KAFKA_SLOW_COMMIT_MS": "450"})
    config = client.producer(slowest, transactional=True)
    assert config["retry.backoff.ms"] * (1 - MOST_JITTER) > slowest.kafka.slow_commit_ms


def test_the_time_of_a_retry_is_not_for_settings_to_change() -> None:
    with pytest.raises(BadSettings, match=r"retry\.backoff\.ms"):
        load({"K2_KAFKA_OPTION_RETRY_BACKOFF_MS": "100"})


def test_messages_are_given_up_before_the_transaction_is() -> None:
    settings = load({})
    assert client.producer(settings, transactional=True)["message.timeout.ms"] < settings.kafka.transaction_timeout_ms
