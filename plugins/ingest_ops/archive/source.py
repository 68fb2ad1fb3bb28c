"""Reads the records of a day from the topic into the spool: committed ones alone, partition by partition."""

import gc
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any, Final

import httpx2
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingest.decoding import Undecodable, decode_json, decoding
from ingest.decoding.avro import parse_schema, read_record
from ingest.http.answers import MiB, ask
from ingest.reader.consumer import TopicConsumer
from ingest.reader.records import ReaderError
from ingest_ops.archive.errors import ArchiveError, TryAgain
from ingest_ops.archive.positions import Recorded, read_records
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.spool import HEADER, Spool
from ingest_ops.archive.tally import day_bounds

log = logging.getLogger(__name__)

SCHEMA_BYTES: Final = 8 * MiB
"""Of the registry's answer."""
BATCH: Final = 10_000
CHECK_SECONDS: Final = 2.0
"""Between two looks whether every symbol has gone beyond the day."""
CHECKPOINT_SECONDS: Final = 20.0
BEYOND_US: Final = 60_000_000
"""A symbol is beyond the day with a trade this long after midnight: ids and times need not grow together."""

FETCH: Final[dict[str, str | int]] = {
    "queued.max.messages.kbytes": 32_768,
    "fetch.message.max.bytes": 1_048_576,
    "fetch.wait.max.ms": 50,
    # A full queue of the default makes the client wait for a second before it fetches again.
    "fetch.queue.backoff.ms": 5,
}


class Schemas:
    """Avro schemas by the first five bytes of a value, from the registry. Raises ``ArchiveError`` and ``TryAgain``."""

    def __init__(self, settings: ArchiveSettings) -> None:
        auth = (settings.schema_registry_user, settings.schema_registry_password)
        self._url = settings.schema_registry_url.rstrip("/")
        self._client = httpx2.Client(timeout=settings.timeout_seconds, auth=auth if auth[0] else None, trust_env=False)
        self._raw: dict[bytes, Any] = {}
        self._parsed: dict[bytes, Any] = {}

    def __getitem__(self, header: bytes) -> Any:
        if header not in self._raw:
            self._raw[header] = self._fetch(header)
        return self._raw[header]

    def sample(self, value: bytes) -> tuple[int, int]:
        """Trade id and time of a record."""
        header = value[:HEADER]
        try:
            if header not in self._parsed:
                with decoding():
                    self._parsed[header] = parse_schema(_plain(self[header]))
            with decoding():
                record: Any = read_record(io.BytesIO(value[HEADER:]), self._parsed[header])
                return int(record["source_sequence"]), int(record["timestamp"])
        except Undecodable as error:
            raise ArchiveError(f"a record cannot be decoded with its schema: {error}") from error

    def _fetch(self, header: bytes) -> Any:
        if len(header) < HEADER or header[0]:
            raise ArchiveError(f"a record is not in the Confluent wire format: it begins with {header.hex()}")
        number = int.from_bytes(header[1:], "big")
        try:
            answer = ask(self._client, "GET", f"{self._url}/schemas/ids/{number}", most_bytes=SCHEMA_BYTES)
        except httpx2.HTTPError as error:
            raise TryAgain(f"no answer from the schema registry {self._url}: {error}") from error
        if answer.status_code != 200:
            raise ArchiveError(f"the schema registry {self._url} answered {answer.status_code} for schema {number}")
        try:
            with decoding():
                return decode_json(decode_json(answer.content)["schema"])
        except Undecodable as error:
            raise ArchiveError(f"the schema registry {self._url}: schema {number} is not Avro: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _plain(schema: Any) -> Any:
    """The schema with times as numbers."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def read_positions(settings: ArchiveSettings) -> Recorded:
    """The positions topic from its beginning to its end now. Raises ``TryAgain`` and ``ArchiveError``."""
    consumer = _topic_consumer(settings, settings.positions)
    try:
        offsets = {one: consumer.bounds(one)[0] for one in consumer.partitions()}
        return read_records((one.partition, one.key, one.value) for one in consumer.read(offsets, follow=False))
    except ReaderError as error:
        raise TryAgain(str(error)) from error
    finally:
        consumer.close()


@contextmanager
def _without_collector() -> Iterator[None]:
    """No search for cycles: there are none in records, and with many objects elsewhere it takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _grouped(messages: Iterable[Message]) -> tuple[dict[bytes, list[bytes]], list[tuple[Message, KafkaError]]]:
    """Values by key, in their order, and what is no record: errors, ends of partitions. A day has 100 million."""
    groups: defaultdict[bytes | None, list[bytes | None]] = defaultdict(list)
    events = []
    for message in messages:
        error = message.error()
        if error is None:
            groups[message.key()].append(message.value())
        else:
            events.append((message, error))
    found: dict[bytes, list[bytes]] = {}
    for key, values in groups.items():
        kept = [one for one in values if one is not None]
        if kept:
            found.setdefault(key or b"", []).extend(kept)
    return found, events


def _consumed(consumer: Consumer, topic: str, ends: Mapping[int, int]) -> dict[int, int]:
    """The offset after the last record that the consumer gave out, or after the partition's end."""
    positions = consumer.position([TopicPartition(topic, one) for one in sorted(ends)])
    return {one.partition: max(ends[one.partition], one.offset) for one in positions}


def _topic_consumer(settings: ArchiveSettings, topic: str) -> TopicConsumer:
    try:
        return TopicConsumer(settings.bootstrap_servers, topic, settings.kafka, timeout=settings.timeout_seconds)
    except ReaderError as error:
        raise ArchiveError(str(error)) from error


def first_offsets(settings: ArchiveSettings, day: date) -> dict[int, tuple[int, int, int]]:
    """Partition -> offset to read from, first offset that the topic has, and its end."""
    start_us, _ = day_bounds(day)
    begin = datetime.fromtimestamp(max(0.0, start_us / 1e6 - settings.early_seconds), UTC)
    consumer = _topic_consumer(settings, settings.topic)
    try:
        bounds = {one: consumer.bounds(one) for one in consumer.partitions()}
        starts = consumer.at_time(bounds, begin)
    except ReaderError as error:
        raise TryAgain(str(error)) from error
    finally:
        consumer.close()
    return {one: (starts[one], low, high) for one, (low, high) in bounds.items()}


class DayReader:
    """Fills a spool with the records of a day, and some before and after it."""

    def __init__(self, settings: ArchiveSettings, day: date, recorded: Recorded, schemas: Schemas) -> None:
        self._settings = settings
        self._start, self._end = day_bounds(day)
        self._recorded = recorded
        self._schemas = schemas
        self._latest: dict[bytes, bytes] = {}
        self._beyond: set[str] = set()

    def fill(self, spool: Spool, ranges: Mapping[int, tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
        """Read; returns the offsets read: first, and one after the last. Raises ``TryAgain`` and ``ArchiveError``."""
        resumed = spool.resume()
        if spool.complete and resumed.keys() == ranges.keys():
            return {one: (ranges[one][0], end) for one, end in resumed.items()}
        starts = {one: resumed.get(one, begin) for one, (begin, _, _) in ranges.items()}
        if any(starts[one] > high for one, (_, _, high) in ranges.items()):
            topic = self._settings.topic
            raise ArchiveError(f"the topic {topic} ends before what was spooled of it: remove {spool.folder}")
        try:
            consumer = Consumer({
                "log_level": 0,
                **FETCH,
                **self._settings.kafka,
                "bootstrap.servers": self._settings.bootstrap_servers,
                "group.id": "k2-ingest-archive",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            })  # fmt: skip
        except KafkaException as error:
            raise ArchiveError(f"Kafka client: {error.args[0].str()}") from error
        try:
            with _without_collector():
                ends = self._read(consumer, spool, starts, {one: high for one, (_, _, high) in ranges.items()})
        finally:
            consumer.close()
        return {one: (ranges[one][0], ends[one]) for one in ranges}

    def _read(
        self, consumer: Consumer, spool: Spool, starts: Mapping[int, int], highs: Mapping[int, int]
    ) -> dict[int, int]:
        topic = self._settings.topic
        ends = dict(starts)
        open_ones = {one for one in starts if starts[one] < highs[one]}
        consumer.assign([TopicPartition(topic, one, starts[one]) for one in sorted(open_ones)])
        checked = noted = answered = monotonic()
        while open_ones:
            messages = consumer.consume(BATCH, timeout=1.0)
            now = monotonic()
            groups, events = _grouped(messages)
            for event, error in events:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise TryAgain(f"{topic}: {error.str()}")
                partition = event.partition() or 0
                open_ones.discard(partition)
                # Beyond the last record: markers of transactions have offsets, too.
                ends[partition] = max(ends[partition], event.offset() or 0)
            if messages:
                answered = now
            elif now - answered > self._settings.timeout_seconds:
                raise TryAgain(f"no answer from {self._settings.bootstrap_servers} for {now - answered:.0f} s")
            spool.add(groups, self._schemas)  # type: ignore[arg-type]
            self._latest.update((key, values[-1]) for key, values in groups.items())
            if now - checked > CHECK_SECONDS:
                checked = now
                if self._finished():
                    break
            if now - noted > CHECKPOINT_SECONDS:
                noted = now
                spool.checkpoint(_consumed(consumer, topic, ends))
                log.info("archive: spooled", extra={"records": spool.records})
        ends = _consumed(consumer, topic, ends)
        spool.checkpoint(ends, complete=True)
        return ends

    def _finished(self) -> bool:
        """Whether every symbol has been read beyond the day, or to its last id."""
        for key, value in self._latest.items():
            trade_id, time_us = self._schemas.sample(value)
            symbol = key.decode(errors="replace")
            position = self._recorded.positions.get(symbol)
            if time_us >= self._end + BEYOND_US or (position is not None and trade_id >= position.last_id):
                self._beyond.add(symbol)
        self._latest.clear()
        return all(
            symbol in self._beyond or (one.last_time_us is not None and one.last_time_us < self._start)
            for symbol, one in self._recorded.positions.items()
        )
