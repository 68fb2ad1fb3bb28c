"""The last id that a topic holds of a symbol: one with records never starts without a position.

A symbol is looked for where its key lies: in its partition, and then in those that it had while the topic had fewer.
They are read backwards in windows that double, so that an active symbol is found at once. Proof that a symbol has no
records needs all of a partition; the search therefore has a budget for each, says for which symbols it is spent, and
goes on from there when it is asked again. "No records" is said only of what was read to its beginning.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from confluent_kafka import KafkaException

from ingest.core.errors import Retry
from ingest.core.streams import AGG_TRADE, BLOCK_TRADE, TRADE, Stream
from ingest.kafka.encoding import EXCHANGE
from ingest.kafka.partition_consumer import PartitionConsumer
from ingest.kafka.placing import places
from ingest.settings import Settings

log = logging.getLogger(__name__)

WINDOW = 20_000
"""Offsets of the first window from the end of a partition."""
WIDEST = 640_000
"""Offsets of a window at most: what was read of an unfinished one is read again."""
NARROWEST = 100
BUDGET_SECONDS = 5.0
"""For each partition, in one search: other symbols wait for it."""
EARLIER_MS = 3_600_000
"""A record may carry a time that much before the trade: the clocks of exchange and writer differ."""
QUERY_SECONDS = 10.0
_KINDS = {TRADE.name: "", AGG_TRADE.name: "agg-", BLOCK_TRADE.name: "block-"}
"""Stream -> what its identities have between symbol and id; bars have the stream's name."""
_ID = re.compile(rb"\d{1,19}")


def record_id(symbol: str, value: bytes, stream: Stream = TRADE) -> int | None:
    """Return the id in an encoded record of a numbered stream, None if it is no record of this symbol and stream.

    Every schema that a trade fits has the field ``message_id``, and Avro writes it as its length and its bytes.
    """
    return _number(f"{EXCHANGE}-{symbol}-{_KINDS.get(stream.name, f'{stream.name}-')}".encode(), value)


def last_id_of(symbol: str, value: bytes, stream: Stream) -> int | None:
    """Return the last id that an encoded record of any stream accounts for, None if there is none.

    Of books and quotes that is the last update id, or the one before the record behind a break. A snapshot accounts
    for no update.
    """
    if stream.contract == "numbered":
        return record_id(symbol, value, stream)
    kind = "book" if stream.contract == "chained" else "quote"
    number = _number(f"{EXCHANGE}-{symbol}-{kind}-{'update-' * (kind == 'book')}".encode(), value)
    if number is not None:
        return number
    behind = _number(f"{EXCHANGE}-{symbol}-{kind}-break-".encode(), value)
    return None if behind is None else behind - 1


def _number(prefix: bytes, value: bytes) -> int | None:
    """The digits that end the text which begins with ``prefix``."""
    place = value.find(prefix)
    while place > 0:
        # One byte of length, or two for a long symbol. The second of two is too low to be the length itself.
        for length in (value[place - 1] >> 1, (value[place - 1] << 7 | value[place - 2] & 0x7F) >> 1):
            digits = value[place + len(prefix) : place + length]
            if _ID.fullmatch(digits):
                return int(digits)
        place = value.find(prefix, place + 1)
    return None


def _by_partition(symbols: Iterable[str], count: int) -> Iterator[tuple[int, set[str]]]:
    """Partitions to search and the symbols to look for in each: the present ones of all symbols first."""
    found: dict[tuple[int, int], set[str]] = {}
    for symbol in symbols:
        for order, partition in enumerate(places(symbol.encode(), count)):
            found.setdefault((min(order, 1), partition), set()).add(symbol)
    for (_, partition), here in sorted(found.items()):
        yield partition, here


class Found(msgspec.Struct, frozen=True):
    """The result of a search: a symbol that is in neither field has no records."""

    last_ids: dict[str, int]
    """Symbol -> last id."""
    unfinished: frozenset[str] = frozenset()
    """Symbols whose search ran out of time: whether they have records is not known yet."""


class _Reading:
    """How far back a partition is read for one symbol."""

    def __init__(self, end: int) -> None:
        self.end = end
        """The end offset when the search began: a symbol without a position gets no records meanwhile."""
        self.back_to = end
        """Nothing of the symbol lies from here to ``end``."""


class LastRecords:
    """Searches the topic of a numbered stream. One search at a time; an unfinished one goes on where it stopped."""

    def __init__(
        self,
        settings: Settings,
        stream: Stream = TRADE,
        *,
        budget_seconds: float = BUDGET_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``budget_seconds``: for each partition of one search."""
        self._settings = settings
        self._stream = stream
        self._topic = settings.kafka.topic if stream is TRADE else settings.stream_topics[stream.name]
        self._budget_seconds = budget_seconds
        self._monotonic = monotonic
        self._read: dict[tuple[str, int], _Reading] = {}
        """Symbol and partition -> how far back an unfinished search has come."""
        self._width = WINDOW
        """Offsets of the first window: half of it after a search that could not read it in time."""

    async def last_recorded(self, symbols: Iterable[str], since_us: Mapping[str, int] | None = None) -> Found:
        """Return the last ids of those of ``symbols`` that have records, and which are not known yet.

        ``since_us``: symbol -> when its first trade ever was, us: it has no records before. Raises ``Retry`` or
        ``Stop``.
        """
        return await asyncio.to_thread(self.find, frozenset(symbols), since_us)

    def find(self, symbols: frozenset[str], since_us: Mapping[str, int] | None = None) -> Found:
        """Like ``last_recorded``, on the calling thread."""
        found: dict[str, int] = {}
        unfinished: set[str] = set()
        try:
            with PartitionConsumer(self._settings, "records", self._topic) as consumer:
                count = len(consumer.partitions(QUERY_SECONDS))
                for partition, here in _by_partition(symbols, count):
                    wanted = here - found.keys()
                    if not wanted:
                        continue
                    begins = {symbol: (since_us or {}).get(symbol, 0) // 1000 for symbol in wanted}
                    last_ids, left = self._search(consumer, partition, begins)
                    found |= last_ids
                    unfinished |= left
        except KafkaException as error:
            raise Retry(f"searching {self._topic} for records: {error}", after=1.0) from error
        except Retry as error:
            log.warning("searching %s for records: %s", self._topic, error, extra={"topic": self._topic})
            raise
        unfinished -= found.keys()
        self._read = {place: one for place, one in self._read.items() if place[0] not in symbols - unfinished}
        if unfinished:
            log.warning(
                "%s is not read to its beginning yet (%g s a partition); no record so far of: %s",
                self._topic, self._budget_seconds, ", ".join(sorted(unfinished)[:20]),
                extra={"topic": self._topic, "symbols": len(unfinished)},
            )  # fmt: skip
        return Found(found, frozenset(unfinished))

    def _search(
        self, consumer: PartitionConsumer, partition: int, begins_ms: Mapping[str, int]
    ) -> tuple[dict[str, int], set[str]]:
        """Search one partition backwards; returns the last ids, and the symbols that time was too short for."""
        deadline = self._monotonic() + self._budget_seconds
        low, high = consumer.limits(partition, QUERY_SECONDS)
        readings = {symbol: self._read.setdefault((symbol, partition), _Reading(high)) for symbol in begins_ms}
        begin_ms = min(begins_ms.values())
        if begin_ms > 0:
            low = max(low, consumer.offset_at(partition, begin_ms - EARLIER_MS, QUERY_SECONDS))
        found: dict[str, int] = {}
        width, first = self._width, True
        while left := {symbol for symbol in readings.keys() - found.keys() if readings[symbol].back_to > low}:
            end = max(readings[symbol].back_to for symbol in left)
            begin = max(low, end - width)
            window = self._window(consumer, partition, (begin, end), frozenset(left), deadline)
            if window is None:
                if first:
                    self._width = max(NARROWEST, width // 2)
                return found, left
            if first:
                self._width, first = min(WINDOW, 2 * width), False
            found |= window
            for symbol in left:
                readings[symbol].back_to = min(readings[symbol].back_to, begin)
            width = min(2 * width, WIDEST)
        return found, set()

    def _window(
        self,
        consumer: PartitionConsumer,
        partition: int,
        offsets: tuple[int, int],
        symbols: frozenset[str],
        deadline: float,
    ) -> dict[str, int] | None:
        """The last id of each symbol between two offsets; None if time is over."""
        begin, end = offsets
        found: dict[str, int] = {}
        consumer.assign({partition: begin})
        while self._monotonic() < deadline:
            polled = consumer.poll()
            for message in polled.records:
                if (message.offset() or 0) >= end:
                    return found
                key, value = message.key(), message.value()
                if key is None or value is None:
                    continue
                symbol = key.decode(errors="replace")
                last_id = record_id(symbol, value, self._stream) if symbol in symbols else None
                if last_id is not None:
                    found[symbol] = last_id
            if polled.ended:
                return found
        return None

    def any(self) -> bool:
        """Whether the topic holds any record. Raises ``Retry``."""
        try:
            with PartitionConsumer(self._settings, "records", self._topic) as consumer:
                limits = (consumer.limits(partition, QUERY_SECONDS) for partition in consumer.partitions(QUERY_SECONDS))
                return any(high > low for low, high in limits)
        except KafkaException as error:
            raise Retry(f"asking for the offsets of {self._topic}: {error}", after=1.0) from error
