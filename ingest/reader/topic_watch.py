"""Notices, while a read goes on, that its topic has more partitions or is another one under the same name."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]

from ingest.reader.consumer import ABSENT
from ingest.reader.records import BEGIN_AGAIN, ReaderError

LOOK_SECONDS = 5.0
"""Between two descriptions of the topic."""
ABSENT_LOOKS = 2
"""A single answer without the topic can come from a broker that has just started."""


class TopicState(NamedTuple):
    """What the broker says of a topic."""

    topic_id: str | None
    """None from brokers without ids of topics (before Kafka 2.8)."""
    partitions: int


class TopicWatch:
    """Describes the topic at most every ``LOOK_SECONDS``, without waiting for the answer. Close it."""

    def __init__(self, bootstrap_servers: str, topic: str, options: Mapping[str, str], *, timeout: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._timeout = timeout
        self._admin = AdminClient({"log_level": 0, **options, "bootstrap.servers": bootstrap_servers})
        self._known = TopicState(None, 0)
        self._answer: Future[TopicDescription] | None = None
        self._next = 0.0
        self._absent = 0

    def begin(self) -> TopicState:
        """The topic's state now, which later ones are compared with. Raises ``ReaderError``."""
        try:
            self._known = _state(self._describe().result(self._timeout * 2))
        except KafkaException as error:
            raise ReaderError(f"{self._topic} at {self._servers}: {error.args[0].str()}") from error
        except TimeoutError as error:
            raise ReaderError(f"no answer from {self._servers} for {self._timeout * 2:g} s") from error
        self._answer, self._absent, self._next = None, 0, time.monotonic() + LOOK_SECONDS
        return self._known

    def added(self) -> range:
        """Partitions that were added since the last call. Raises ``ReaderError`` if the topic is gone or another."""
        if self._answer is None:
            if time.monotonic() >= self._next:
                self._answer = self._describe()
            return range(0)
        if not self._answer.done():
            return range(0)
        answer, self._answer, self._next = self._answer, None, time.monotonic() + LOOK_SECONDS
        try:
            found = _state(answer.result())
        except KafkaException as error:
            self._failed(error)
            return range(0)
        self._absent = 0
        check_same(self._topic, self._known.topic_id, found.topic_id)
        before = self._known.partitions
        self._known = TopicState(found.topic_id, max(before, found.partitions))
        return range(before, self._known.partitions)

    def _failed(self, error: KafkaException) -> None:
        """Count answers without the topic. Any other failure is the connection's, which the read itself meets."""
        self._absent = self._absent + 1 if error.args[0].code() in ABSENT else 0
        if self._absent >= ABSENT_LOOKS:
            raise ReaderError(
                f"{self._topic} at {self._servers} was deleted while it was read; if it is created again: {BEGIN_AGAIN}"
            )

    def _describe(self) -> "Future[TopicDescription]":
        wanted = TopicCollection([self._topic])
        return self._admin.describe_topics(wanted, request_timeout=self._timeout)[self._topic]

    def close(self) -> None:
        """Leave the broker."""
        self._admin.__exit__(None, None, None)


def check_same(topic: str, expected: str | None, found: str | None) -> None:
    """Raise ``ReaderError`` if these ids, as far as both are known, are of different topics."""
    if expected is not None and found is not None and expected != found:
        raise ReaderError(
            f"{topic} was deleted and created again (topic id {expected} before, {found} now): offsets from before mean"
            f" nothing in it; {BEGIN_AGAIN}"
        )


def _state(found: TopicDescription) -> TopicState:
    topic_id = str(found.topic_id)
    return TopicState(None if topic_id == str(Uuid(0, 0)) else topic_id, len(found.partitions))
