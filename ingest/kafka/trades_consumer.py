"""Tails the trades topic from now on, ``read_committed``: what the writer really commits."""

import logging
import threading
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingest.core.errors import IngestError, Retry
from ingest.kafka import client
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import refused
from ingest.kafka.positions_reader import available
from ingest.settings import Settings

log = logging.getLogger(__name__)

LISTS_OUT = 4
"""Lists of records handed over and not yet dealt with: beyond this it reads no further, which bounds memory."""
QUERY_SECONDS = 10.0
RETRY_SECONDS = 1.0


class TradesTail(threading.Thread):
    """Follows every partition from its present end until closed.

    ``on_records`` gets lists of (key, value) on this thread; each must be answered by ``done``. A broker that is away
    is waited for; where it comes back it goes on where it was.
    """

    def __init__(
        self,
        settings: Settings,
        on_records: Callable[[list[tuple[bytes, bytes]]], None],
        access: AuthBackoff | None = None,
    ) -> None:
        super().__init__(name="trades-tail", daemon=True)
        self._settings = settings
        self._on_records = on_records
        self._access = access or AuthBackoff(settings)
        self._refused: Retry | None = None
        self._places: dict[int, int] = {}
        """Partition -> the offset to read next, once it has begun."""
        self._closing = threading.Event()
        self._room = threading.BoundedSemaphore(LISTS_OUT)

    def done(self) -> None:
        """One list has been dealt with."""
        self._room.release()

    def close(self) -> None:
        """Ask it to end; it is not waited for."""
        self._closing.set()

    def run(self) -> None:
        """Follow until closed."""
        while not self._closing.is_set():
            self._access.wait(self._closing)
            self._refused = None
            consumer = Consumer({**client.reader(self._settings, "shadow", wait_ms=100), "error_cb": self._on_error})
            try:
                while not self._ended() and not self._begun(consumer):
                    consumer.poll(0)  # nothing is assigned: it tells of errors
                    self._closing.wait(RETRY_SECONDS)
                while not self._ended():
                    self._read(consumer)
            except (IngestError, KafkaException) as error:
                log.warning("comparing with the writer has ended: %s", error)
                return
            finally:
                consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        access = refused(error)
        if access is not None and self._access.refused(access):
            self._refused = access

    def _ended(self) -> bool:
        """Whether this consumer is of no use any more: one with refused credentials would try them again for ever."""
        return self._closing.is_set() or self._refused is not None

    def _begun(self, consumer: Consumer) -> bool:
        """Stand at the end of every partition; False where the broker does not say where that is."""
        topic = self._settings.kafka.topic
        if self._places:
            consumer.assign([TopicPartition(topic, *place) for place in self._places.items()])
            return True
        try:
            partitions = consumer.list_topics(topic, timeout=QUERY_SECONDS).topics[topic].partitions
            ends = [
                TopicPartition(
                    topic, partition, consumer.get_watermark_offsets(TopicPartition(topic, partition), QUERY_SECONDS)[1]
                )
                for partition in partitions
            ]
        except KafkaException as error:
            log.warning("the end of %s cannot be asked: %s", topic, error)
            return False
        self._places = {end.partition: end.offset for end in ends}
        consumer.assign(ends)
        return bool(ends)

    def _read(self, consumer: Consumer) -> None:
        records: list[tuple[bytes, bytes]] = []
        for message in available(consumer):
            error = message.error()
            if error is None:
                key, value = message.key(), message.value()
                if key is not None and value is not None:
                    records.append((key, value))
                partition, offset = message.partition(), message.offset()
                if partition is not None and offset is not None:
                    self._places[partition] = offset + 1
            elif error.code() != KafkaError._PARTITION_EOF:
                self._judge(error)
        if not records:
            return
        while not self._room.acquire(timeout=0.5):
            if self._closing.is_set():
                return
        self._on_records(records)

    def _judge(self, error: KafkaError) -> None:
        access: Retry | None = refused(error)
        if access is not None:
            log.warning("reading %s: %s", self._settings.kafka.topic, access)
            self._closing.wait(access.after)
