"""Sends dead letters, outside of the transactions: whatever their topic refuses, delays or lacks, trades go on.

A letter is sent once its batch is committed. A recycle may send it twice. Letters that the topic does not take are
dropped and counted.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from ingest.core.limiter import RollingWindow
from ingest.core.trade import DeadLetter
from ingest.kafka import client
from ingest.kafka.errors import refused, too_large
from ingest.settings import Settings

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
QUEUE_KBYTES = 16_384
MESSAGE_TIMEOUT_MS = 10_000
SHRINK = 8
REPORT_SECONDS = 60.0
"""Between two warnings about the same trouble."""

Headers = Any
"""As the library takes and gives them: pairs of a name and bytes."""


class DeadLetterProducer:
    """Used by the writer's thread only. Never raises, never waits but in ``close``."""

    def __init__(
        self,
        settings: Settings,
        on_dropped: Callable[[int], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topic = settings.dead_letter_topic
        self._on_dropped = on_dropped
        self._monotonic = monotonic
        self._within_rate = RollingWindow(limit=settings.kafka.dead_letter_max_per_minute, window=60.0)
        self._limit: int | None = None
        """Bytes that the topic has been found to take."""
        self._reported: float | None = None
        self._unreported = 0
        self._open: Producer | None = None
        self._refused = False

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Queue letters for the topic."""
        for letter in letters:
            if self._within_rate.take(self._monotonic()):
                self._drop("more than K2_KAFKA_DEAD_LETTER_MAX_PER_MINUTE")
            else:
                self._produce((letter.symbol or "").encode() or None, letter.raw, headers_of(letter))
        self.serve()

    def serve(self) -> None:
        """Run the library's callbacks; a client with refused credentials is closed, or it would retry all the time."""
        if self._open is not None:
            self._open.poll(0)
        if self._refused:
            self.close()

    def close(self) -> None:
        """Deliver what can be delivered within a moment, and disconnect."""
        producer, self._open = self._open, None
        hopeless, self._refused = self._refused, False
        if producer is not None:
            producer.flush(0 if hopeless else FLUSH_SECONDS)
            left = len(producer)
            producer.purge()
            producer.poll(0)
            if left:
                log.warning("%d dead letters were not delivered", left, extra={"topic": self._topic})

    def _produce(self, key: bytes | None, value: bytes, headers: Headers) -> None:
        if self._open is None:
            self._open = Producer(self._configuration())
        value = value if self._limit is None else value[: self._limit]
        try:
            self._open.produce(self._topic, value, key, headers=headers)
        except (BufferError, KafkaException) as error:
            self._drop(str(error))

    def _configuration(self) -> dict[str, object]:
        return {
            "compression.type": "lz4",
            **client.common(self._settings, "dead-letters"),
            "linger.ms": 50,
            "message.timeout.ms": MESSAGE_TIMEOUT_MS,
            "topic.metadata.propagation.max.ms": MESSAGE_TIMEOUT_MS // 2,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            "batch.num.messages": 1,  # a letter that is refused takes no other one with it
            "delivery.report.only.error": True,
            "on_delivery": self._on_delivery,
            "error_cb": self._on_error,
        }

    def _on_error(self, error: KafkaError) -> None:
        self._refused |= refused(error) is not None

    def _on_delivery(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is None:
            return
        value = message.value() or b""
        if too_large(error) and value:
            self._limit = len(value) // SHRINK
            self._produce(message.key(), value, message.headers() or [])
        else:
            self._drop(f"{error.name()}: {error.str()}")

    def _drop(self, reason: str) -> None:
        self._on_dropped(1)
        self._unreported += 1
        now = self._monotonic()
        if self._reported is None or now - self._reported >= REPORT_SECONDS:
            log.warning(
                "%d dead letters dropped, %s does not take them: %s", self._unreported, self._topic, reason,
                extra={"topic": self._topic, "reason": reason, "dropped": self._unreported},
            )  # fmt: skip
            self._reported, self._unreported = now, 0


def headers_of(letter: DeadLetter) -> Headers:
    """The record's headers: what is known about the bytes."""
    headers: Headers = [("reason", letter.reason.encode()), ("source", letter.source.encode())]
    headers += [("symbol", letter.symbol.encode())] if letter.symbol else []
    headers += [("trade_id", b"%d" % letter.trade_id)] if letter.trade_id is not None else []
    return [*headers, ("detail", letter.detail.encode())]
