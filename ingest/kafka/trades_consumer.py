"""Follows the trades topic from its present end, ``read_committed``: what the writer really commits."""

import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException

from ingest.core.errors import IngestError, Retry, Stop
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.partition_consumer import PartitionConsumer, after
from ingest.settings import Settings

log = logging.getLogger(__name__)

LISTS_OUT = 4
"""Lists of records delivered and not yet processed: beyond this it reads no further, which bounds memory."""
QUERY_SECONDS = 10.0
RETRY_SECONDS = 1.0


class TradesConsumer(threading.Thread):
    """Follows every partition from its present end until closed.

    ``on_records`` is called on this thread with lists of (key, value); each must be answered by ``done``. While the
    broker is unreachable it waits; afterwards it continues from the next record.
    """

    def __init__(
        self,
        settings: Settings,
        on_records: Callable[[list[tuple[bytes, bytes]]], None],
        access: AuthBackoff,
    ) -> None:
        super().__init__(name="trades-consumer", daemon=True)
        self._settings = settings
        self._topic = settings.kafka.topic
        self._on_records = on_records
        self._access = access
        self._offsets: dict[int, int] = {}
        """Partition -> the next offset to read, once following has begun."""
        self._closing = threading.Event()
        self._room = threading.BoundedSemaphore(LISTS_OUT)

    def done(self) -> None:
        """One list has been processed."""
        self._room.release()

    def close(self) -> None:
        """Ask the thread to end; does not wait."""
        self._closing.set()

    def run(self) -> None:
        """Follow until closed."""
        while not self._closing.is_set():
            self._access.wait(self._closing)
            try:
                with PartitionConsumer(self._settings, "shadow", self._topic) as consumer:
                    self._follow(consumer)
            except Retry as error:
                # A consumer with refused credentials would try them again without end: it is closed meanwhile.
                log.warning("reading %s: %s", self._topic, error, extra={"topic": self._topic})
                if not self._access.refused(error):
                    self._closing.wait(error.after)
            except (IngestError, KafkaException) as error:
                log.warning("comparing with the writer has ended: %s", error, extra={"topic": self._topic})
                return

    def _follow(self, consumer: PartitionConsumer) -> None:
        while not self._closing.is_set() and not self._begun(consumer):
            consumer.serve()
            self._closing.wait(RETRY_SECONDS)
        while not self._closing.is_set():
            self._read(consumer)

    def _begun(self, consumer: PartitionConsumer) -> bool:
        """Begin at the end of every partition; False if the broker does not answer."""
        if not self._offsets:
            try:
                partitions = consumer.partitions(QUERY_SECONDS)
                self._offsets = {number: consumer.limits(number, QUERY_SECONDS)[1] for number in partitions}
            except (KafkaException, Stop) as error:
                log.warning("the end of %s is not known: %s", self._topic, error, extra={"topic": self._topic})
                return False
        consumer.assign(self._offsets)
        return bool(self._offsets)

    def _read(self, consumer: PartitionConsumer) -> None:
        records: list[tuple[bytes, bytes]] = []
        for message in consumer.poll().records:
            key, value, partition = message.key(), message.value(), message.partition()
            if key is not None and value is not None:
                records.append((key, value))
            if partition is not None:
                self._offsets[partition] = after(message, self._offsets[partition])
        if not records:
            return
        while not self._room.acquire(timeout=0.5):
            if self._closing.is_set():
                return
        self._on_records(records)
