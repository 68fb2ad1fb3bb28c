"""Compares stored positions with the newest records of their topics: a contradicted position is not used.

A record of the positions topic may be well-formed and foreign: of another program, of a restored backup, of a test
against production. At every take-over the ends of the topics are read beside the take-over itself, so that it becomes
hardly longer; what is not seen there is looked for in ``service.position_trust``, within a bound.

A record beyond the position: writing on would write it twice. A position beyond the newest record, without voids that
explain it: writing on would skip ids. Only committed records count, and only a partition that was read to its end of
the take-over proves that a newer record does not exist: an open transaction, of another shard for example, hides those
behind it.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from confluent_kafka import KafkaException

from ingest.core.errors import IngestError, Retry, Stop
from ingest.core.streams import STREAMS, TRADE, Stream, split_name
from ingest.core.trade import Position
from ingest.kafka.last_records import LastRecords, last_id_of
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer, after
from ingest.kafka.placing import partition_of
from ingest.kafka.positions import ShardState, stored_void
from ingest.settings import Settings

log = logging.getLogger(__name__)

TAIL = 2_000
"""Offsets read from the end of each partition at a take-over, so many at most."""
WAIT_SECONDS = 0.25
"""What is not read so long after the take-over is looked for later."""
LOST_TAIL = 20_000
LOST_SECONDS = 2.0
"""The same where a stream of books or quotes has no position at all: its positions are lost, or it is new."""
MOST_KEY = 256
"""Bytes of a key; a symbol is shorter."""
QUERY_SECONDS = 5.0
SILENCE_SECONDS = 20.0


class Checked(msgspec.Struct, frozen=True):
    """What the ends of the topics say about positions, by sequence name. Positions in no field are right."""

    lost: dict[str, int] = {}
    """Position -> the id of a record beyond it."""
    ahead: dict[str, int] = {}
    """Position -> the newest record, before it: voids may explain that."""
    unseen: frozenset[str] = frozenset()
    """No record was seen, or not all of the end was read."""
    provable: frozenset[str] = frozenset()
    """Of ``unseen``: no newer record is hidden by an open transaction."""
    recorded: frozenset[str] = frozenset()
    """Symbols of recent trades without a position in this shard, or with a rebuilt one: of other shards, or forgotten.

    A rebuilt position, and one of an older version, has no time.
    """
    spans: dict[str, int] = {}
    """Books and quotes that have no position and recent records -> the last id of these: what follows is a break."""


class Tail(msgspec.Struct, frozen=True):
    """The end of one topic."""

    newest: dict[str, int] = {}
    """Sequence name -> the highest id seen."""
    complete: frozenset[int] = frozenset()
    """Partitions that were read to their end of the take-over."""
    partitions: int = 0


def numbered_topics(settings: Settings) -> dict[str, list[Stream]]:
    """The topics whose records have numbers, with their streams."""
    found: dict[str, list[Stream]] = {settings.kafka.topic: [TRADE]}
    for stream in settings.streams:
        if stream.contract == "numbered":
            found.setdefault(settings.stream_topics[stream.name], []).append(stream)
    return found


def compare(positions: Mapping[str, Position], tail: Tail, streams: Iterable[Stream]) -> Checked:
    """What the end of a topic says about the positions of its streams. Pure."""
    names = {stream.name for stream in streams}
    lost, ahead, unseen, provable = {}, {}, set(), set()
    for name, position in positions.items():
        stream, symbol = split_name(name)
        if stream not in names:
            continue
        complete = tail.partitions > 0 and partition_of(symbol.encode(), tail.partitions) in tail.complete
        newest = tail.newest.get(name)
        if newest is not None and newest > position.last_id:
            lost[name] = newest
        elif newest is not None and newest < position.last_id and complete:
            ahead[name] = newest
        elif newest != position.last_id:
            unseen.add(name)
            provable |= {name} if complete else set()
    timed = {name for name, position in positions.items() if position.last_time_us is not None}
    recorded = frozenset(name for name in tail.newest.keys() - timed if split_name(name)[0] == TRADE.name)
    return Checked(lost, ahead, frozenset(unseen), frozenset(provable), recorded)


def explained(newest: int, position: Position, voids: Mapping[int, int]) -> bool:
    """Whether voids (first id -> last id) reach from the newest record to the position. Pure."""
    due = newest + 1
    while due <= position.last_id and due in voids:
        due = voids[due] + 1
    return due == position.next_id


def not_in_settings(settings: Settings, names: Iterable[str]) -> str:
    """Of these sequences the symbols of trades that the settings do not name: a command had added them. Pure."""
    listed = settings.binance.symbols
    return "" if "*" in listed else ", ".join(name for name in names if ":" not in name and name not in listed)


class TailReader(threading.Thread):
    """Reads the ends of one topic's partitions before and after a take-over."""

    def __init__(self, settings: Settings, topic: str, streams: Sequence[Stream], tail: int | None = None) -> None:
        super().__init__(name="position-check", daemon=True)
        self._settings = settings
        self._topic = topic
        self.streams = streams
        self._tail = TAIL if tail is None else tail
        self._taken_over = threading.Event()
        self._ended = False
        self._next: dict[int, int] = {}
        """Partition -> the offset to read next."""
        self._newest: dict[str, int] = {}
        self._complete: set[int] = set()

    def run(self) -> None:
        """Read the present end, wait until the predecessor is fenced, and read what came meanwhile."""
        try:
            with PartitionConsumer(self._settings, "position-check", self._topic, wait_ms=10) as consumer:
                self._read_present(consumer)
                self._taken_over.wait()
                if not self._ended:
                    self._read_rest(consumer)
        except (KafkaException, IngestError) as error:
            log.warning(
                "positions cannot be compared with the records of %s: %s", self._topic, error,
                extra={"topic": self._topic},
            )  # fmt: skip

    def _read_present(self, consumer: PartitionConsumer) -> None:
        for partition in consumer.partitions(QUERY_SECONDS):
            low, high = consumer.limits(partition, QUERY_SECONDS)
            self._next[partition] = max(low, high - self._tail)
        consumer.assign(self._next)
        ended: set[int] = set()
        while not self._taken_over.is_set() and ended != self._next.keys():
            ended |= self._take(consumer).keys()

    def _read_rest(self, consumer: PartitionConsumer) -> None:
        consumer.assign(self._next)  # a new fetch: its end is of now, after the take-over
        ends: dict[int, int] = {}
        while not self._ended and self._complete != self._next.keys():
            for partition, offset in self._take(consumer).items():
                # The first fetch says where the log ends; an open transaction keeps readers from getting there yet.
                end = ends.setdefault(partition, consumer.cached_end(partition))
                if offset >= end:
                    self._complete.add(partition)

    def _take(self, consumer: PartitionConsumer) -> dict[int, int]:
        polled = consumer.poll()
        for message in polled.records:
            partition = message.partition() or 0
            self._next[partition] = after(message, self._next[partition])
            symbol = (message.key() or b"")[:MOST_KEY].decode(errors="replace")
            for stream in self.streams:
                number = last_id_of(symbol, message.value() or b"", stream)
                if number is not None:
                    name = stream.sequence_name(symbol)
                    self._newest[name] = max(number, self._newest.get(name, -1))
        return polled.ended

    def fenced(self) -> None:
        """The predecessor writes no more: read what it has written until now."""
        self._taken_over.set()

    def result(self, seconds: float) -> Tail:
        """What was read, after so long at most."""
        self.join(seconds)
        self._ended = True
        return Tail(dict(self._newest), frozenset(self._complete), len(self._next))

    def cancel(self) -> None:
        """End without a result, where nothing was taken over."""
        self._ended = True
        self._taken_over.set()


class PositionCheck:
    """Reads the ends of all numbered topics beside one take-over.

    Without transactions it compares nothing: records may be ahead of their position there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        topics = numbered_topics(settings) if settings.kafka.delivery == "exactly-once" else {}
        self._readers = [TailReader(settings, *one) for one in topics.items()]
        self._spans: list[TailReader] = []
        self._wait_seconds = WAIT_SECONDS
        self._begun = False

    def positions_read(self, state: ShardState) -> None:
        """The take-over has read the positions: begin to read the records, once.

        Not before the broker was reached: a client that cannot log in would try all the time.
        """
        if self._begun:
            return
        self._begun = True
        if self._readers:
            self._spans = list(self._span_readers(state.positions))
        for reader in (*self._readers, *self._spans):
            reader.start()

    def fenced(self) -> None:
        """The predecessor writes no more: read what it has written until now."""
        for reader in (*self._readers, *self._spans):
            reader.fenced()

    def _span_readers(self, positions: Mapping[str, Position]) -> Iterator[TailReader]:
        """Of the topics of books and quotes, where a position is missing."""
        trades = [name for name in positions if split_name(name)[0] == TRADE.name]
        for stream in self._settings.streams:
            if stream.contract != "numbered":
                topic = self._settings.stream_topics[stream.name]
                if not any(split_name(name)[0] == stream.name for name in positions):
                    self._wait_seconds = LOST_SECONDS
                    yield TailReader(self._settings, topic, [stream], LOST_TAIL)
                elif any(stream.sequence_name(symbol) not in positions for symbol in trades):
                    yield TailReader(self._settings, topic, [stream])

    def finish(self, positions: Mapping[str, Position]) -> Checked:
        """After the take-over: what is wrong with these positions. Takes ``WAIT_SECONDS`` at most.

        ``LOST_SECONDS`` where a whole stream has none.
        """
        deadline = time.monotonic() + self._wait_seconds
        tails = [(reader, reader.result(max(0.0, deadline - time.monotonic()))) for reader in self._readers]
        spans = [reader.result(max(0.0, deadline - time.monotonic())) for reader in self._spans]
        found = [compare(positions, tail, reader.streams) for reader, tail in tails]
        return Checked(
            {name: number for one in found for name, number in one.lost.items()},
            {name: number for one in found for name, number in one.ahead.items()},
            frozenset(name for one in found for name in one.unseen),
            frozenset(name for one in found for name in one.provable),
            frozenset(name for one in found for name in one.recorded),
            {name: last for tail in spans for name, last in tail.newest.items() if name not in positions},
        )

    def cancel(self) -> None:
        """End without a result, where nothing was taken over."""
        for reader in (*self._readers, *self._spans):
            reader.cancel()


class RecordSearch:
    """Looks for what a take-over has not seen. A new client for each question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def newest(self, names: Iterable[str], seconds: float) -> dict[str, int]:
        """Search for so long at most: sequence name -> id of the newest record, where it was found."""
        wanted: dict[str, set[str]] = {}
        for name in names:
            stream, symbol = split_name(name)
            wanted.setdefault(stream, set()).add(symbol)
        async with asyncio.TaskGroup() as group:
            searches = [
                (stream, group.create_task(asyncio.to_thread(self._find, stream, frozenset(symbols), seconds)))
                for stream, symbols in wanted.items()
            ]
        return {
            STREAMS[stream].sequence_name(symbol): number
            for stream, search in searches
            for symbol, number in search.result().items()
        }

    def _find(self, stream: str, symbols: frozenset[str], seconds: float) -> dict[str, int]:
        try:
            return LastRecords(self._settings, STREAMS[stream], total_seconds=seconds).find(symbols).last_ids
        except (Retry, Stop) as error:
            log.warning("positions are not compared with their records: %s", error, extra={"stream": stream})
            return {}

    async def voids(self, names: Iterable[str]) -> dict[str, dict[int, int]]:
        """Return sequence name -> first id -> last id of its voids. Raises ``Retry`` or ``Stop``."""
        return await asyncio.to_thread(stored_voids, self._settings, frozenset(names))


def stored_voids(settings: Settings, names: frozenset[str]) -> dict[str, dict[int, int]]:
    """The voids of these sequences, of every shard: a symbol may have moved. Name -> first id -> last id.

    Raises ``Retry`` or ``Stop``.
    """
    voids: dict[str, dict[int, int]] = {}
    try:
        with PartitionConsumer(settings, "voids", settings.positions_topic) as consumer:
            due = dict.fromkeys(consumer.partitions(QUERY_SECONDS), FIRST_OFFSET)
            consumer.assign(due)
            deadline = time.monotonic() + SILENCE_SECONDS
            while due:
                polled = consumer.poll()
                for message in polled.records:
                    void = stored_void(message.key(), message.value())
                    if void is not None and void.symbol in names:
                        voids.setdefault(void.symbol, {})[void.first_id] = void.last_id
                for partition in polled.ended:
                    due.pop(partition, None)
                if polled.records:
                    deadline = time.monotonic() + SILENCE_SECONDS
                elif time.monotonic() >= deadline:
                    raise Retry(f"{settings.positions_topic}: no answer for {SILENCE_SECONDS:g} s")
    except KafkaException as error:
        raise Retry(f"reading {settings.positions_topic}: {error}", after=1.0) from error
    return voids
