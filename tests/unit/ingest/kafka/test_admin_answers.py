"""A client that is dropped after a failed question is gone at once, without the garbage collector."""

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from ingest.kafka.admin_answers import answered
from ingest.kafka.errors import AUTHENTICATION_SECONDS, refused


class Client:
    """Stands for an admin client, which has no ``close``."""


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def asked(client: Client, answers: dict[Client, "Future[Any]"]) -> None:
    for future in answers.values():
        answered(future, 1.0)


@pytest.mark.usefixtures("_no_collector")
def test_no_circle_of_future_exception_and_client_is_left() -> None:
    client = Client()
    future: Future[Any] = Future()
    future.set_exception(KafkaException(KafkaError(KafkaError._AUTHENTICATION, "wrong password")))
    gone = weakref.ref(client)
    try:
        asked(client, {client: future})
    except KafkaException as error:
        access = refused(error.args[0])
        assert access is not None
        assert access.after == AUTHENTICATION_SECONDS
    del client, future
    assert gone() is None


@pytest.mark.usefixtures("_no_collector")
def test_a_real_client_is_destroyed_with_its_last_name() -> None:
    admin = AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    futures = admin.list_offsets({TopicPartition("trades", 0): latest}, request_timeout=0.2)
    gone = weakref.ref(admin)
    (future,) = futures.values()
    with pytest.raises(KafkaException):
        answered(future, 5.0)
    del admin
    assert gone() is None


def test_answers_and_missing_answers_pass() -> None:
    future: Future[int] = Future()
    with pytest.raises(TimeoutError):
        answered(future, 0.01)
    future.set_result(7)
    assert answered(future, 0.01) == 7
