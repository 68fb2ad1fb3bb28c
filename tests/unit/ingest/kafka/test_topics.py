"""What the broker answers about topics, without a broker."""

import time
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.core.errors import Retry
from ingest.kafka.topics import TopicDescriber
from ingest.settings import Settings


class Admin:
    """Refuses to describe some topics."""

    def __init__(self, *denied: str) -> None:
        self._denied = denied

    def describe_topics(self, wanted: Any, request_timeout: float) -> dict[str, "Future[Any]"]:
        answers: dict[str, Future[Any]] = {}
        for name in wanted.topic_names:
            future: Future[Any] = Future()
            code = KafkaError.TOPIC_AUTHORIZATION_FAILED if name in self._denied else KafkaError._UNKNOWN_TOPIC
            future.set_exception(KafkaException(KafkaError(code)))
            answers[name] = future
        return answers

    def poll(self, _seconds: float) -> int:
        return 0


class Names:
    """A collection of topics as the library has it."""

    def __init__(self, names: list[str]) -> None:
        self.topic_names = names


def describer(monkeypatch: pytest.MonkeyPatch, *denied: str) -> TopicDescriber:
    monkeypatch.setattr("ingest.kafka.topics._admin", lambda _settings, _on_error: Admin(*denied))
    monkeypatch.setattr("ingest.kafka.topics.TopicCollection", Names)
    return TopicDescriber(Settings())


def test_a_topic_of_voids_that_an_acl_hides_does_not_end_the_check_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ingest.kafka.topic_policy import topics

    wanted = topics(Settings())
    names = {topic.role: topic.name for topic in wanted}
    assert describer(monkeypatch, names["voids"]).describe(wanted, time.monotonic() + 5) == {}
    with pytest.raises(Retry, match="grant the ACL"):
        describer(monkeypatch, names["trades"]).describe(wanted, time.monotonic() + 5)
