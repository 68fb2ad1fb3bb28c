"""One incarnation of the shard's producer: initialised once, used until the first doubt, then destroyed."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from ingest.core.errors import IngestError, Recycle, Retry
from ingest.kafka import client
from ingest.kafka.errors import aftermath, classify, disconnected, permanent, refused, too_large
from ingest.kafka.size_limits import SizeLimits
from ingest.settings import Settings

log = logging.getLogger(__name__)

Message = tuple[str, bytes | None, bytes | None, int]
"""(topic, key, value, partition); partition -1 leaves it to the key, value None deletes it."""

_STEP_SECONDS = 0.5
"""How long one call into the library may block: a request to stop is seen between two of them."""

_INIT_SECONDS = 0.05
"""The same while the predecessor is fenced: there is no writer in this time."""

_SAY_SECONDS = 10.0
"""Between two warnings that the predecessor cannot be fenced."""

_FULL_SECONDS = 0.02

_Raised = (KafkaException, SystemError)
"""What a call into the library raises. The binding raises a fatal error from inside its loop over callbacks; the
delivery report, or the line for the log, that comes next then runs with the exception set: CPython makes a
``SystemError`` of it, with the exception as its cause or, where that was lost, with none."""


def _error_in(raised: BaseException) -> KafkaError | None:
    """The library's error in what it raised, None where the binding has lost it."""
    cause: BaseException | None = raised
    while cause is not None:
        if isinstance(cause, KafkaException):
            error: KafkaError = cause.args[0]
            return error
        cause = cause.__cause__
    return None


class Timing(msgspec.Struct, frozen=True):
    """How long a transaction took, in seconds."""

    commit: float
    transaction: float


class TransactionalProducer:
    """A transactional producer between ``init_transactions`` and the first doubt."""

    transactional = True

    def __init__(
        self,
        settings: Settings,
        *,
        interrupted: Callable[[], bool],
        monotonic: Callable[[], float],
        on_error: Callable[[], None] = lambda: None,
        sizes: SizeLimits | None = None,
        transactional_id: str | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        """``transactional_id``: that of the shard by default; ``on_fenced``: its predecessor writes no more."""
        self._settings = settings
        self._transactional_id = transactional_id or settings.transactional_id
        self._interrupted = interrupted
        self._monotonic = monotonic
        self._failures: list[tuple[KafkaError, str, int]] = []
        """Of messages not delivered: the error, the topic, the bytes of the value."""
        self._sizes = sizes or SizeLimits()
        self._doubt: KafkaError | None = None
        self._refused: KafkaError | None = None
        self._count_error = on_error
        self._on_fenced = on_fenced
        self._producer = self._make()

    def _make(self) -> Producer:
        return Producer(
            {
                **client.producer(
                    self._settings, transactional=self.transactional, transactional_id=self._transactional_id
                ),
                **({"batch.size": self._sizes.batch_bytes} if self._sizes.batch_bytes != client.BATCH_BYTES else {}),
                "error_cb": self._on_error,
                "on_delivery": self._on_delivery,
            }
        )

    def _on_error(self, error: KafkaError) -> None:
        self._count_error()
        if refused(error) is not None:
            self._refused = error
        elif disconnected(error):
            self._doubt = error

    def _on_delivery(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            self._failures.append((error, message.topic() or "", len(message.value() or b"")))

    def _why(self, raised: BaseException) -> KafkaError:
        """The library's error behind what was raised; one that the binding has lost is asked for again.

        It matters which: who takes a fence for any other fatal error fences his successor.
        """
        error = _error_in(raised)
        if error is not None:
            return self._behind(error)
        return self._asked() or KafkaError(KafkaError._FAIL, f"the client library lost an error: {raised}")

    def _asked(self) -> KafkaError | None:
        """What the transaction, or the producer, has failed of: the library's answer to a beginning from then on."""
        try:
            self._producer.begin_transaction()
        except KafkaException as answer:
            found: KafkaError = answer.args[0]
            return found
        return None

    def _named(self, error: KafkaError) -> KafkaError:
        """The transaction's own error instead of a record's: of a batch the records only learn that one was refused."""
        if not (self.transactional and permanent(error)):
            return error
        found = self._asked()
        return found if found is not None and permanent(found) else error

    def _behind(self, error: KafkaError) -> KafkaError:
        """The reason behind an error that only says that there is one: what to do depends on it."""
        if not (self.transactional and aftermath(error)):
            return error
        found = self._asked()
        return error if found is None or aftermath(found) else found

    def _outcome(self, error: KafkaError, doing: str) -> IngestError:
        """What to do about an error of a transaction."""
        if too_large(error):
            topic, size = next(((t, n) for e, t, n in self._failures if too_large(e)), ("", 0))
            return self._sizes.refused(topic, size) if topic else Recycle("too_large", error.str())
        return classify(error, doing)

    def init(self) -> None:
        """End the predecessor's transaction and fence it. Resumes time-outs until it is done or interrupted.

        A predecessor in the middle of a transaction is answered with "concurrent transactions" until that is aborted,
        some milliseconds later; the library would ask again after half a second without a writer. Nothing is under way
        meanwhile, so a new producer asks in its place, with growing pauses.

        Raises ``Retry`` (interrupted, refused), ``Fenced``, ``Recycle`` or ``Stop``.
        """
        seconds, say_at = _INIT_SECONDS, self._monotonic() + _SAY_SECONDS
        while True:
            try:
                self._producer.init_transactions(seconds)
            except _Raised as raised:
                error = self._why(raised)
                self._raise_refused()
                if not error.retriable():
                    raise classify(error, "init_transactions") from raised
            else:
                self._on_fenced()
                return
            self.serve()
            self._raise_refused()
            if self._interrupted():
                raise Retry("interrupted while waiting for the broker")
            if self._monotonic() >= say_at:
                say_at = self._monotonic() + _SAY_SECONDS
                log.warning(
                    "the broker does not end the predecessor's transaction: %s", error.str(),
                    extra={"reason": error.name(), "transactional_id": self._transactional_id},
                )  # fmt: skip
            if error.code() == KafkaError.CONCURRENT_TRANSACTIONS:
                self.close()
                self._producer = self._make()
                seconds = min(2 * seconds, _STEP_SECONDS)

    def _raise_refused(self) -> None:
        error, self._refused = self._refused, None
        if error is not None:
            access = refused(error)
            if access is not None:
                raise access

    def transact(self, messages: Iterable[Message]) -> Timing:
        """One transaction: all of it, or an exception after which this incarnation must not be used again.

        Raises ``Recycle`` (the outcome may be unknown), ``Fenced``, ``Retry`` (refused) or ``Stop``.
        """
        began = self._monotonic()
        self._doubt = None
        self._failures.clear()
        try:
            self._producer.begin_transaction()
            self._produce(messages)
            self._flush(began)
            commit_began = self._monotonic()
            self._commit(began)
        except _Raised as raised:
            self._raise_refused()
            raise self._outcome(self._why(raised), "transaction") from raised
        ended = self._monotonic()
        return Timing(ended - commit_began, ended - began)

    def recycle_reason(self, timing: Timing) -> str | None:
        """Why a committed transaction's producer must be replaced nevertheless, if it must.

        A commit request that was sent twice may be applied late, to the *next* transaction (KAFKA-17754). It can only
        have been sent twice if it was slow or if a connection broke meanwhile.
        """
        if timing.commit * 1000 > self._settings.kafka.slow_commit_ms:
            return "slow_commit"
        if self._doubt is not None:
            return "disconnect"
        return None

    def _produce(self, messages: Iterable[Message]) -> None:
        produce, poll = self._producer.produce, self._producer.poll
        for topic, key, value, partition in messages:
            while True:
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    poll(_FULL_SECONDS)
                    self._check_deliveries()
                else:
                    break
        poll(0)

    def _flush(self, began: float) -> None:
        limit = began + client.MESSAGE_TIMEOUT_MS / 1000 + 2.0
        while self._producer.flush(_STEP_SECONDS):
            self._check_deliveries()
            if self._monotonic() > limit:
                raise Recycle("timeout", "not all messages were delivered in time")
        self._check_deliveries()

    def _check_deliveries(self) -> None:
        if self._failures:
            told = next((error for error, _, _ in self._failures if not aftermath(error)), self._failures[0][0])
            told = self._named(self._behind(told))
            outcome = self._outcome(told, f"delivery to {', '.join(sorted({t for _, t, _ in self._failures}))}")
            if not isinstance(outcome, Recycle) or outcome.reason in ("refused", "too_large"):
                raise outcome
            raise Recycle("delivery_failed", f"{len(self._failures)} messages, first: {told.name()}: {told.str()}")
        self._raise_refused()

    def _commit(self, began: float) -> None:
        limit = began + self._settings.kafka.transaction_timeout_ms / 1000
        while True:
            try:
                self._producer.commit_transaction(_STEP_SECONDS)
            except _Raised as raised:
                error = self._why(raised)
                if not (error.retriable() and error.code() == KafkaError._TIMED_OUT) or self._monotonic() > limit:
                    raise
            else:
                break
        self._check_deliveries()
        if self._failures:
            raise Recycle("delivery_failed", "after the commit")

    def serve(self) -> None:
        """Let the library tell what it has to tell. Raises ``Fenced``, ``Recycle``, ``Retry`` or ``Stop``."""
        try:
            self._producer.poll(0)
        except _Raised as raised:
            raise classify(self._why(raised), "poll") from raised

    def close(self) -> None:
        """Forget it without waiting for anything: the successor's initialisation settles what was open."""
        # Nothing is flushed: whatever is in flight meets the fence of the successor.
        with contextlib.suppress(*_Raised):  # errors of a closed producer do not matter
            self._producer.purge()
            self._producer.poll(0)
        del self._producer


class AtLeastOnceProducer(TransactionalProducer):
    """For brokers and ACLs without transactions: at least once, and labelled so."""

    transactional = False

    def init(self) -> None:
        """There is nothing to fence with."""

    def transact(self, messages: Iterable[Message]) -> Timing:
        """Deliver all of it, topic by topic: what comes later is sent only once all before has arrived.

        After a failure any part may have been delivered, and is written again: but no position without its trades.
        """
        began = self._monotonic()
        self._failures.clear()
        try:
            for _, part in itertools.groupby(messages, key=lambda message: message[0]):
                self._produce(part)
                self._flush(began)
        except _Raised as raised:
            raise self._outcome(self._why(raised), "produce") from raised
        seconds = self._monotonic() - began
        return Timing(seconds, seconds)

    def recycle_reason(self, timing: Timing) -> str | None:
        """Nothing can be doubted where nothing is promised."""
        del timing
        return None
