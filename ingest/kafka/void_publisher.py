"""Publishes voids as Avro in a topic of their own, for readers that cannot read the positions topic (decision 14).

The positions topic holds every void, in the transaction of the trades around it; this topic repeats them, outside of
the transactions, so that an error of it or of the registry never delays trades. The writer first reads what is there
and sends what is missing, so that voids of an older version, of a crash or of a topic that was created late
follow. A void may be sent twice, under the same key and with the same value.
"""

import asyncio
import io
import logging
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from zlib import crc32

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from ingest.core.backoff import full_jitter
from ingest.core.errors import IngestError, Retry, Stop
from ingest.kafka import client
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.encoding import EXCHANGE
from ingest.kafka.errors import refused
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer
from ingest.kafka.positions import VoidRecord
from ingest.kafka.schemas import Registry, same_schema, void_schema
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

FLUSH_SECONDS = 15.0
STEP_SECONDS = 0.5
READ_SECONDS = 60.0
MESSAGE_TIMEOUT_MS = 10_000
RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS = 1.0, 60.0
REPORT_SECONDS = 600.0
"""Between two warnings that it does not succeed."""
HEADER = struct.Struct(">bI")


def key_of(void: VoidRecord) -> bytes:
    """The record's key: of two records with one key, compaction keeps the later."""
    return f"{void.symbol}:{void.first_id}".encode()


def body_of(void: VoidRecord) -> bytes:
    """The record in Avro, without the schema's id."""
    import fastavro  # not before the first void: importing it would slow down each start

    out = io.BytesIO()
    fastavro.schemaless_writer(
        out,
        _parsed(),
        {
            "exchange": EXCHANGE, "symbol": void.symbol, "first_id": void.first_id, "last_id": void.last_id,
            "reason": void.reason, "evidence": msgspec.json.encode(void.evidence, order="sorted").decode(),
            "confirmed_at": void.confirmed_at_us,
        },
    )  # fmt: skip
    return out.getvalue()


@cache
def _parsed() -> Any:
    import fastavro

    return fastavro.parse_schema(msgspec.json.decode(void_schema()))


class VoidPublisher(threading.Thread):
    """Sends the voids of a shard while this instance writes. The methods below are safe from any thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        access: AuthBackoff,
        *,
        on_schema: Callable[[str, int, str], None] = lambda _topic, _schema_id, _text: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="void-publisher", daemon=True)
        self._settings = settings
        self._topic = settings.voids_topic
        self._metrics = metrics
        self._access = access
        self._on_schema = on_schema
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[bytes, VoidRecord] = {}
        self._active = False
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._published: dict[bytes, int] | None = None
        """Key -> checksum of what the topic holds; None while it has to be read, as after other writers."""
        self._schema_id: int | None = None
        self._reported: float | None = None

    # --- from other threads ---

    def offer(self, void: VoidRecord) -> None:
        """Take a void that the positions topic holds; any number of times."""
        with self._lock:
            self._waiting[key_of(void)] = void
        self._changed.set()

    def activate(self, *, active: bool) -> None:
        """Send from now on, or leave it to another instance."""
        with self._lock:
            if active is not self._active:
                self._active, self._published = active, None
        self._changed.set()

    def close(self, seconds: float = 1.0) -> None:
        """End the thread; what was not sent is sent by the next writer."""
        self._closing.set()
        self._changed.set()
        if self.is_alive():
            self.join(seconds)

    # --- the thread ---

    def run(self) -> None:
        """Send what is missing until closed."""
        pauses = self._pauses()
        while not self._closing.is_set():
            self._changed.wait()
            self._changed.clear()
            self._access.wait(self._closing)
            try:
                self._publish()
                pauses = self._pauses()
            except Retry as error:
                self._report(error)
                if not self._access.refused(error):
                    self._closing.wait(0.5 + next(pauses))
                self._changed.set()
            except Exception as error:  # noqa: BLE001 - it must not end what records; the positions hold the voids
                self._report(error)
                self._closing.wait(0.5 + next(pauses))
                self._changed.set()
        self._metrics.voids_unpublished.set(0)

    @staticmethod
    def _pauses() -> Iterator[float]:
        return full_jitter(initial=RETRY_FIRST_SECONDS, maximum=RETRY_MOST_SECONDS, uniform=random.uniform)

    def _publish(self) -> None:
        """Send what waits and is missing. Raises ``IngestError`` or ``KafkaException``; then all of it waits still."""
        with self._lock:
            waiting, published = dict(self._waiting), self._published
            if not self._active or not waiting:
                self._metrics.voids_unpublished.set(0)
                return
        self._metrics.voids_unpublished.set(len(waiting))
        if published is None:
            published = self._read()
        bodies = {key: body_of(void) for key, void in waiting.items()}
        missing = {key: body for key, body in bodies.items() if published.get(key) != crc32(body)}
        if missing:
            self._send(missing)
            log.info("%d voids published in %s", len(missing), self._topic, extra={"topic": self._topic})
        published |= {key: crc32(body) for key, body in bodies.items()}
        with self._lock:
            if self._active:
                self._published = published
            for key, void in waiting.items():
                if self._waiting.get(key) is void:
                    del self._waiting[key]
            self._metrics.voids_unpublished.set(len(self._waiting))

    def _read(self) -> dict[bytes, int]:
        """What the topic holds."""
        found: dict[bytes, int] = {}
        deadline = self._monotonic() + READ_SECONDS
        with PartitionConsumer(self._settings, "voids", self._topic) as consumer:
            open_ = set(consumer.partitions(READ_SECONDS / 6))
            consumer.assign(dict.fromkeys(open_, FIRST_OFFSET))
            while open_:
                polled = consumer.poll()
                for message in polled.records:
                    found[message.key() or b""] = crc32((message.value() or b"")[HEADER.size :])
                open_ -= polled.ended.keys()
                if self._monotonic() > deadline or self._closing.is_set():
                    raise Retry(f"the end of {self._topic} was not reached within {READ_SECONDS:g} s")
        return found

    def _send(self, bodies: dict[bytes, bytes]) -> None:
        header = HEADER.pack(0, self._schema())
        failures: list[str] = []
        denied: list[Retry] = []

        def on_error(error: KafkaError) -> None:
            denied.extend(again for again in (refused(error),) if again is not None)

        producer = Producer(
            {
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                **client.common(self._settings, "voids"),
                "enable.idempotence": True,
                "message.timeout.ms": MESSAGE_TIMEOUT_MS,
                "topic.metadata.propagation.max.ms": MESSAGE_TIMEOUT_MS // 2,
                "delivery.report.only.error": True,
                "error_cb": on_error,
                "on_delivery": lambda error, _: failures.append(f"{error.name()}: {error.str()}"),
            }
        )
        for key, body in bodies.items():
            producer.produce(self._topic, header + body, key)
            producer.poll(0)
        deadline = self._monotonic() + FLUSH_SECONDS
        while (left := producer.flush(STEP_SECONDS)) and not denied and self._monotonic() < deadline:
            pass
        if denied or failures or left:
            producer.purge()  # a client with refused credentials would retry all the time
            if denied:
                raise denied[0]
            raise Retry(f"{len(failures) + left} voids were not taken: {failures[0] if failures else 'no answer'}")

    def _schema(self) -> int:
        if self._schema_id is None:
            self._schema_id = asyncio.run(self._resolve())
        return self._schema_id

    async def _resolve(self) -> int:
        ours = void_schema()
        async with Registry(self._settings, topic=self._topic, schema=ours) as registry:
            schema_id, text = await registry.resolve_schema()
        if not same_schema(text, ours):
            raise Stop(f"schema {schema_id} of subject {self._topic}-value is not VoidV1")
        self._on_schema(self._topic, schema_id, ours)
        return schema_id

    def _report(self, error: Exception) -> None:
        now = self._monotonic()
        if self._reported is not None and now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        text = str(error) if isinstance(error, (IngestError, KafkaException)) else f"{type(error).__name__}: {error}"
        log.warning(
            "voids are not published in %s: %s; the positions topic holds them", self._topic, text,
            extra={"topic": self._topic, "reason": text},
        )  # fmt: skip
