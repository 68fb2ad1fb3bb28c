"""What an incarnation makes of errors that reach it by odd ways; the library's own behaviour is in test_writer."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.core.errors import Fenced, IngestError, Recycle, Retry
from ingest.kafka import producer
from ingest.kafka.producer import TransactionalProducer
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


def incarnation(monkeypatch: pytest.MonkeyPatch, fatal: KafkaError | None) -> TransactionalProducer:
    monkeypatch.setattr(producer, "Producer", LosingLibrary)
    monkeypatch.setattr(LosingLibrary, "fatal", fatal)
    return TransactionalProducer(load({}), interrupted=lambda: False, monotonic=lambda: 0.0)


def test_a_fence_that_a_message_runs_into_is_told_by_no_name_and_is_still_a_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def produce(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Unable to produce message: Local: Fatal error"))

    monkeypatch.setattr(LosingLibrary, "produce", produce)
    fenced = KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True)
    with pytest.raises(Fenced):
        incarnation(monkeypatch, fenced).transact(iter([("t", b"k", b"v", -1)]))
    with pytest.raises(Recycle):
        incarnation(monkeypatch, None).transact(iter([("t", b"k", b"v", -1)]))


def test_a_fence_that_the_binding_has_lost_is_still_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True)
    with pytest.raises(Fenced):
        incarnation(monkeypatch, fenced).transact(iter([("t", b"k", b"v", -1)]))


def test_an_error_that_is_lost_for_good_costs_the_producer_and_not_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Recycle):
        incarnation(monkeypatch, None).transact(iter([("t", b"k", b"v", -1)]))


class BusyCoordinator:
    """A producer whose predecessor's transaction is being aborted: the library would ask again in half a second."""

    made: list["BusyCoordinator"]
    answers: list[KafkaError | None]
    waited: list[float]

    def __init__(self, _config: object) -> None:
        self.purged = False
        self.made.append(self)

    def init_transactions(self, timeout: float) -> None:
        self.waited.append(timeout)
        answer = self.answers.pop(0)
        if answer is not None:
            raise KafkaException(answer)

    def poll(self, _timeout: float) -> int:
        return 0

    def purge(self) -> None:
        self.purged = True


@pytest.mark.parametrize(
    ("code", "producers", "last"),
    [(KafkaError.CONCURRENT_TRANSACTIONS, 6, 0.5), (KafkaError._TIMED_OUT, 1, 0.05)],
    ids=["busy", "slow"],
)
def test_a_new_producer_asks_where_the_library_would_pause_and_none_where_a_request_is_under_way(
    monkeypatch: pytest.MonkeyPatch, code: int, producers: int, last: float
) -> None:
    wait = KafkaError(code, "wait", retriable=True)
    monkeypatch.setattr(producer, "Producer", BusyCoordinator)
    monkeypatch.setattr(BusyCoordinator, "made", [], raising=False)
    monkeypatch.setattr(BusyCoordinator, "answers", [*[wait] * 5, None], raising=False)
    monkeypatch.setattr(BusyCoordinator, "waited", [], raising=False)
    TransactionalProducer(load({}), interrupted=lambda: False, monotonic=lambda: 0.0).init()
    assert len(BusyCoordinator.made) == producers
    assert [one.purged for one in BusyCoordinator.made] == [True] * (producers - 1) + [False]
    assert BusyCoordinator.answers == []
    assert BusyCoordinator.waited[-1] == last, "the longer it takes, the fewer ask"


def test_a_fence_that_waits_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = KafkaError(KafkaError.CONCURRENT_TRANSACTIONS, "wait", retriable=True)
    monkeypatch.setattr(producer, "Producer", BusyCoordinator)
    monkeypatch.setattr(BusyCoordinator, "made", [], raising=False)
    monkeypatch.setattr(BusyCoordinator, "answers", [wait], raising=False)
    monkeypatch.setattr(BusyCoordinator, "waited", [], raising=False)
    with pytest.raises(Retry, match="interrupted"):
        TransactionalProducer(load({}), interrupted=lambda: True, monotonic=lambda: 0.0).init()
    assert len(BusyCoordinator.made) == 1


class FailedTransaction:
    """A producer whose transaction has failed: its messages are purged, and only a beginning is told the reason."""

    reason: KafkaError
    cause: KafkaError | None = None
    topic = "t"

    def __init__(self, config: dict[str, object]) -> None:
        self._delivered = config["on_delivery"]
        self._began = False

    def begin_transaction(self) -> None:
        if self._began:
            raise KafkaException(self.reason)
        self._began = True

    def produce(self, *_: object) -> None:
        assert callable(self._delivered)
        for code in (KafkaError._PURGE_QUEUE, *([] if self.cause is None else [self.cause.code()])):
            self._delivered(KafkaError(code), Undelivered(self.topic))

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        return 0


class Undelivered:
    """A message of a delivery report."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def topic(self) -> str:
        return self._topic

    def value(self) -> bytes:
        return b"v" * 100


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> type[FailedTransaction]:
    monkeypatch.setattr(producer, "Producer", FailedTransaction)
    monkeypatch.setattr(FailedTransaction, "cause", None)
    monkeypatch.setattr(FailedTransaction, "topic", "t")
    return FailedTransaction


def failure() -> IngestError:
    one = TransactionalProducer(load({"K2_KAFKA_TOPIC": "t"}), interrupted=lambda: False, monotonic=lambda: 0.0)
    with pytest.raises(IngestError) as raised:
        one.transact(iter([("t", b"k", b"v", -1)]))
    return raised.value


def test_a_denied_topic_is_waited_for_though_the_messages_only_say_that_they_are_purged(
    failed: type[FailedTransaction],
) -> None:
    failed.reason = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no Write", txn_requires_abort=True)
    error = failure()
    assert isinstance(error, Retry)
    assert error.after > 0


def test_a_purge_without_a_reason_costs_the_producer(failed: type[FailedTransaction]) -> None:
    failed.reason = KafkaError(KafkaError._STATE, "erroneous state")
    error = failure()
    assert isinstance(error, Recycle)
    assert error.reason == "delivery_failed"


def test_a_size_that_is_refused_is_told_apart_from_other_failures(failed: type[FailedTransaction]) -> None:
    failed.reason = failed.cause = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large", txn_requires_abort=True)
    error = failure()
    assert isinstance(error, Recycle)
    assert error.reason == "too_large"
