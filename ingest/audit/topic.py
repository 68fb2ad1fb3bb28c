"""A topic from its beginning, or a point in time, to its end, as a reader of committed transactions sees it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from ingest.audit.model import Inconclusive

BATCH = 2000
SETTLE_SECONDS = 5.0
"""How long a transaction at the end may take to be completed; what is open longer is left out."""

Clock = Callable[[], float]


class NoTopic(Inconclusive):
    """The topic does not exist."""


class TopicReader:
    """Reads all partitions in order of offsets. Every method raises ``Inconclusive`` if it cannot."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        options: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        since_ms: int | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """``options``: further ones of librdkafka, such as security; ``timeout``: seconds without any progress.

        ``since_ms``: leave out what is older, as if retention had removed it; Unix time in milliseconds.
        """
        self._topic = topic
        self._where = f"{topic} at {bootstrap_servers}"
        self._timeout = timeout
        self._since_ms = since_ms
        self._clock = clock
        self._error = ""
        common: dict[str, Any] = {
            "client.id": "k2-audit",
            "queued.max.messages.kbytes": "32768",
            "log_level": "0",
            **(options or {}),
            "bootstrap.servers": bootstrap_servers,
            "error_cb": self._on_error,
        }
        own: dict[str, Any] = {
            "group.id": "k2-audit",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "check.crcs": True,
        }
        try:
            self._admin = AdminClient(common)
            self._consumer = Consumer({**common, **own})
        except (KafkaException, TypeError, ValueError, AttributeError) as error:
            raise Inconclusive(f"a Kafka option is wrong: {error.args[0] if error.args else error}") from error
        self.lows: dict[int, int] = {}
        """Where each partition is begun; above 0 something is not read: retention has removed it, or it is too old."""
        self.open_transactions = 0
        """Partitions of which the end was not readable: a transaction was still open."""
        self._positions: dict[int, int] = {}
        self._cut: set[int] = set()
        """Partitions whose begin retention has removed, and of which no record has been read yet."""
        self.covers_from = 0.0 if since_ms is None else since_ms / 1000
        """When the oldest record that is read was written, seconds since 1970; 0 if nothing is left out."""

    def _on_error(self, error: KafkaError) -> None:
        self._error = error.str()

    def start(self) -> None:
        """Find the partitions and go to where it begins."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=self._timeout).topics[self._topic]
        except KafkaException as error:
            raise Inconclusive(f"no metadata of {self._where}: {error.args[0]} {self._error}".rstrip()) from error
        if found.error is not None or not found.partitions:
            raise NoTopic(f"no topic {self._where}: {found.error or 'no partitions'}")
        partitions = sorted(found.partitions)
        self.lows = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        if self._since_ms is not None:
            # The ends come first: what is written meanwhile is read, not skipped.
            ends = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            found_at = self._offsets(partitions, OffsetSpec.for_timestamp(self._since_ms))
            since = {p: at if at >= 0 else ends[p] for p, at in found_at.items()}  # -1: nothing is as young
            self._cut = {p for p, low in self.lows.items() if low > 0 and low >= since[p]}
            self.lows = {p: max(low, since[p]) for p, low in self.lows.items()}
        else:
            self._cut = {p for p, low in self.lows.items() if low > 0}
        self._positions = dict(self.lows)
        self._consumer.assign([TopicPartition(self._topic, p, low) for p, low in self.lows.items()])

    def _offsets(self, partitions: list[int], which: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self._topic, p): which for p in partitions}
        try:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self._timeout
            )
            return {one.partition: answer.result().offset for one, answer in answers.items()}
        except KafkaException as error:
            raise Inconclusive(f"no offsets of {self._where}: {error.args[0]} {self._error}".rstrip()) from error

    def _cover(self, messages: list[Message]) -> None:
        """The first record of a partition whose begin is gone: what was written before is not covered."""
        for message in messages:
            partition = message.partition()
            if partition in self._cut:
                self._cut.discard(partition)
                self.covers_from = max(self.covers_from, message.timestamp()[1] / 1000)

    def drain(self, take: Callable[[list[Message]], None]) -> int:
        """Pass everything up to the present end to ``take``, in batches; returns the number of records.

        The end is that of all records, committed or not: it waits for transactions that are just being completed.
        ``take`` may get more if more is written meanwhile. Call it again for what is new.
        """
        ends = self._offsets(sorted(self.lows), OffsetSpec.latest())  # type: ignore[no-untyped-call]
        pending = {p: end for p, end in ends.items() if end > self._positions[p]}
        stuck: dict[int, float] = {}
        records = 0
        progress = self._clock()
        while pending:
            try:
                batch = self._consumer.consume(BATCH, 0.2)
            except KafkaException as error:
                raise Inconclusive(f"cannot read {self._where}: {error.args[0]}") from error
            now = self._clock()
            if batch:
                progress = now
                messages = [message for message in batch if message.error() is None]
                if self._cut:
                    self._cover(messages)
                take(messages)
                records += len(messages)
                self._advance(messages, stuck)
                for message in batch if len(messages) < len(batch) else ():
                    failed = message.error()
                    if failed is not None:
                        self._note_end(message, failed, stuck, now)
            elif now - progress > self._timeout:
                raise Inconclusive(f"nothing from {self._where} for {self._timeout:g} s {self._error}".rstrip())
            for partition, end in list(pending.items()):
                if self._positions[partition] >= end:
                    del pending[partition]
                elif now - stuck.get(partition, now) > SETTLE_SECONDS:
                    del pending[partition]
                    self.open_transactions += 1
        return records

    def _advance(self, messages: list[Message], stuck: dict[int, float]) -> None:
        last = {message.partition(): message.offset() for message in messages}
        for partition, offset in last.items():
            if partition is not None and offset is not None and offset >= self._positions[partition]:
                self._positions[partition] = offset + 1
                stuck.pop(partition, None)

    def _note_end(self, message: Message, error: KafkaError, stuck: dict[int, float], now: float) -> None:
        if error.code() != KafkaError._PARTITION_EOF:
            raise Inconclusive(f"cannot read {self._where}, partition {message.partition()}: {error.str()}")
        partition, offset = message.partition(), message.offset()
        if partition is not None and offset is not None:
            self._positions[partition] = max(self._positions[partition], offset)
            stuck[partition] = now

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
