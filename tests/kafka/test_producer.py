"""What an incarnation makes of errors that reach it by odd ways; the library's own behaviour is in test_writer."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.core.errors import Fenced, Recycle
from ingest.kafka import producer
from ingest.kafka.producer import Incarnation
from ingest.settings import load


class LosingLibrary:
    """A producer whose binding loses the fatal error that it was to raise, as was seen when a log line came between."""

    fatal: KafkaError | None = None

    def __init__(self, _config: object) -> None:
        self.begun = 0

    def begin_transaction(self) -> None:
        self.begun += 1
        if self.begun > 1 and self.fatal is not None:
            raise KafkaException(self.fatal)

    def produce(self, *_: object) -> None:
        pass

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        raise SystemError("<method 'flush' of 'cimpl.Producer' objects> returned NULL without setting an exception")


def incarnation(monkeypatch: pytest.MonkeyPatch, fatal: KafkaError | None) -> Incarnation:
    monkeypatch.setattr(producer, "Producer", LosingLibrary)
    monkeypatch.setattr(LosingLibrary, "fatal", fatal)
    return Incarnation(load({}), interrupted=lambda: False, monotonic=lambda: 0.0)


def test_a_fence_that_the_binding_has_lost_is_still_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True)
    with pytest.raises(Fenced):
        incarnation(monkeypatch, fenced).transact(iter([("t", b"k", b"v", None, -1)]))


def test_an_error_that_is_lost_for_good_costs_the_producer_and_not_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Recycle):
        incarnation(monkeypatch, None).transact(iter([("t", b"k", b"v", None, -1)]))
