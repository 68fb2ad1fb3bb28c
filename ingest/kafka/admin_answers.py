"""Answers of the admin client, so that a client that is dropped after a failure really disconnects."""

from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaException

_T = TypeVar("_T")


def answered(future: "Future[_T]", seconds: float) -> _T:
    """Return the answer. Raises ``KafkaException`` for an error, and ``TimeoutError`` without an answer in time.

    ``future.result`` raises the exception that the future holds: its traceback refers to the caller's variables, so
    that future, exception and client refer to each other in a circle. Such a client stays connected, and goes on with
    refused credentials three times a second, until the garbage collector comes by. The library's admin client has no
    ``close``.
    """
    problem = future.exception(seconds)
    if isinstance(problem, KafkaException):
        raise KafkaException(*problem.args)
    return future.result(0)
