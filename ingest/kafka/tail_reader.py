"""Reads the end of a topic's partitions, and says which ids are the newest there."""

import logging
import threading
from collections.abc import Sequence

import msgspec
from confluent_kafka import KafkaException

from ingest.core.errors import IngestError
from ingest.core.streams import Stream
from ingest.kafka.last_records import last_id_of
from ingest.kafka.partition_consumer import PartitionConsumer, after
from ingest.kafka.placing import partition_of
from ingest.settings import Settings

log = logging.getLogger(__name__)

MOST_KEY = 256
"""Bytes of a key; a symbol is shorter."""
QUERY_SECONDS = 5.0


class Tail(msgspec.Struct, frozen=True):
    """The end of one topic."""

    newest: dict[str, int] = {}
    """Sequence name -> the highest id seen in the partition that its records are written to now."""
    elsewhere: dict[str, int] = {}
    """The same of other partitions: from a time when the topic had fewer of them. Newer records may exist."""
    complete: frozenset[int] = frozenset()
    """Partitions that were read to the end that they had after the take-over."""
    partitions: int = 0

    def read_to_end(self, symbol: str) -> bool:
        """Whether the partition that the symbol's records are written to was."""
        return self.partitions > 0 and partition_of(symbol.encode(), self.partitions) in self.complete


class TailReader(threading.Thread):
    """Reads the ends of one topic's partitions before and after a take-over."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        streams: Sequence[Stream],
        *,
        tail: int,
        shared: int = 0,
        symbols: frozenset[str] | None = None,
    ) -> None:
        """``tail``: so many offsets of each partition at most, or more where ``shared`` among them gives more.

        ``symbols``: read only the partitions that these are written to.
        """
        super().__init__(name="position-check", daemon=True)
        self._settings = settings
        self.topic = topic
        self.streams = streams
        self._tail, self._shared = tail, shared
        self._symbols = symbols
        self._taken_over = threading.Event()
        self._read = threading.Event()
        """Everything is read, or cannot be."""
        self._ended = False
        self._partitions = 0
        self._next: dict[int, int] = {}
        """Partition -> the offset to read next."""
        self._newest: dict[str, int] = {}
        self._elsewhere: dict[str, int] = {}
        self._complete: set[int] = set()

    def run(self) -> None:
        """Read the present end, wait until the predecessor is fenced, and read what came meanwhile."""
        try:
            with PartitionConsumer(self._settings, "position-check", self.topic, wait_ms=10) as consumer:
                self._read_present(consumer)
                self._taken_over.wait()
                if not self._ended:
                    self._read_rest(consumer)
                self._read.set()  # closing the consumer takes a while
        except (KafkaException, IngestError) as error:
            log.warning(
                "positions cannot be compared with the records of %s: %s", self.topic, error,
                extra={"topic": self.topic},
            )  # fmt: skip
        finally:
            self._read.set()

    def _read_present(self, consumer: PartitionConsumer) -> None:
        partitions = consumer.partitions(QUERY_SECONDS)
        self._partitions = len(partitions)
        if self._symbols is not None:
            partitions = sorted({partition_of(symbol.encode(), len(partitions)) for symbol in self._symbols})
        tail = max(self._tail, self._shared // max(1, len(partitions)))
        for partition in partitions:
            low, high = consumer.limits(partition, QUERY_SECONDS)
            self._next[partition] = max(low, high - tail)
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
            key = (message.key() or b"")[:MOST_KEY]
            symbol = key.decode(errors="replace")
            for stream in self.streams:
                number = last_id_of(symbol, message.value() or b"", stream)
                if number is not None:
                    present = partition == partition_of(key, self._partitions)
                    found, name = self._newest if present else self._elsewhere, stream.sequence_name(symbol)
                    found[name] = max(number, found.get(name, -1))
        return polled.ended

    def fenced(self) -> None:
        """The predecessor writes no more: read what it has written until now."""
        self._taken_over.set()

    def result(self, seconds: float) -> Tail:
        """What was read, after so long at most. The reader ends."""
        self._read.wait(seconds)
        self._ended = True
        # This first: the thread goes on for a moment, and a partition is complete only with all ids that were read.
        complete = frozenset(self._complete)
        return Tail(dict(self._newest), dict(self._elsewhere), complete, self._partitions)

    def cancel(self) -> None:
        """End without a result, where nothing was taken over."""
        self._ended = True
        self._taken_over.set()
