"""Looks for the records of positions that a take-over has not seen, and for voids, within a bound."""

import asyncio
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException, Message

from ingest.core.errors import Retry
from ingest.core.streams import split_name
from ingest.core.trade import Position
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer
from ingest.kafka.position_check import TAIL, Checked, compare, merged, numbered_topics
from ingest.kafka.position_records import stored_void
from ingest.kafka.tail_reader import QUERY_SECONDS, TailReader
from ingest.settings import Settings

SEARCH_OFFSETS = 60_000
"""Read from the ends of the partitions that the symbols are written to, shared among these."""


class RecordSearch:
    """Looks for what a take-over has not seen. A new client for each question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def compare(self, positions: Mapping[str, Position], seconds: float) -> Checked:
        """Read for so long at most, connecting included, and compare these positions with what was found."""
        return await asyncio.to_thread(self._compare, dict(positions), seconds)

    def _compare(self, positions: Mapping[str, Position], seconds: float) -> Checked:
        deadline, readers = time.monotonic() + seconds, []
        for topic, streams in numbered_topics(self._settings).items():
            names = {stream.name for stream in streams}
            symbols = frozenset(symbol for stream, symbol in map(split_name, positions) if stream in names)
            if symbols:
                reader = TailReader(
                    self._settings, topic, streams, tail=2 * TAIL, shared=SEARCH_OFFSETS, symbols=symbols
                )
                reader.fenced()
                reader.start()
                readers.append(reader)
        tails = [reader.result(max(0.0, deadline - time.monotonic())) for reader in readers]
        return merged(compare(positions, tail, reader.streams) for reader, tail in zip(readers, tails, strict=True))

    async def voids(self, names: Iterable[str]) -> dict[str, dict[int, int]]:
        """Return sequence name -> first id -> last id of its voids. Raises ``Retry`` or ``Stop``."""
        return await asyncio.to_thread(stored_voids, self._settings, frozenset(names))


def stored_voids(settings: Settings, names: frozenset[str]) -> dict[str, dict[int, int]]:
    """The voids of these sequences, of every shard: a symbol may have moved. Name -> first id -> last id.

    Raises ``Retry`` or ``Stop``.
    """
    voids: dict[str, dict[int, int]] = {}

    def take(message: Message) -> None:
        void = stored_void(message.key(), message.value())
        if void is not None and void.symbol in names:
            voids.setdefault(void.symbol, {})[void.first_id] = void.last_id

    try:
        with PartitionConsumer(settings, "voids", settings.positions_topic) as consumer:
            consumer.read_to_end(dict.fromkeys(consumer.partitions(QUERY_SECONDS), FIRST_OFFSET), take)
    except KafkaException as error:
        raise Retry(f"reading {settings.positions_topic}: {error}", after=1.0) from error
    return voids
