"""The last trade id that the trades topic holds of a symbol: a symbol with records never starts without a position.

Partitions are read backwards in windows that double, so that an active symbol is found at once. Proof that a symbol has
no records needs the whole topic; the search therefore has a budget, and reports when it is spent.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaException

from ingest.core.errors import Retry
from ingest.kafka.encoding import EXCHANGE
from ingest.kafka.partition_consumer import PartitionConsumer
from ingest.settings import Settings

log = logging.getLogger(__name__)

WINDOW = 20_000
"""Offsets of the first window from the end of a partition."""
BUDGET_SECONDS = 120.0
QUERY_SECONDS = 10.0
_ID = re.compile(rb"\d{1,19}")


def record_id(symbol: str, value: bytes) -> int | None:
    """Return the trade id in an encoded record, None if it is no record of this symbol.

    Every schema that a trade fits has the field ``message_id``, and Avro writes it as its length and its bytes.
    """
    prefix = f"{EXCHANGE}-{symbol}-".encode()
    place = value.find(prefix)
    while place > 0:
        # One byte of length, or two for a long symbol. The second of two is too low to be the length itself.
        for length in (value[place - 1] >> 1, (value[place - 1] << 7 | value[place - 2] & 0x7F) >> 1):
            digits = value[place + len(prefix) : place + length]
            if _ID.fullmatch(digits):
                return int(digits)
        place = value.find(prefix, place + 1)
    return None


class LastRecords:
    """Searches the trades topic. One search at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        budget_seconds: float = BUDGET_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topic = settings.kafka.topic
        self._budget_seconds = budget_seconds
        self._monotonic = monotonic

    async def last_recorded(self, symbols: Iterable[str]) -> Mapping[str, int]:
        """Return symbol -> last id for those of ``symbols`` that have records. Raises ``Retry`` or ``Stop``."""
        return await asyncio.to_thread(self.find, frozenset(symbols))

    def find(self, symbols: frozenset[str]) -> dict[str, int]:
        """Like ``last_recorded``, on the calling thread."""
        deadline = self._monotonic() + self._budget_seconds
        found: dict[str, int] = {}
        complete = True
        try:
            with PartitionConsumer(self._settings, "records", self._topic) as consumer:
                for partition in consumer.partitions(QUERY_SECONDS):
                    last_ids = self._search(consumer, partition, symbols, deadline)
                    complete &= last_ids is not None
                    for symbol, last_id in (last_ids or {}).items():
                        found[symbol] = max(found.get(symbol, -1), last_id)
        except KafkaException as error:
            raise Retry(f"searching {self._topic} for records: {error}", after=1.0) from error
        except Retry as error:
            log.warning("searching %s for records: %s", self._topic, error, extra={"topic": self._topic})
            raise
        unknown = sorted(symbols - found.keys())
        if unknown and not complete:
            log.warning(
                "%s was not read to its beginning within %g s; without a record in what was read: %s",
                self._topic, self._budget_seconds, ", ".join(unknown[:20]),
                extra={"topic": self._topic, "symbols": len(unknown)},
            )  # fmt: skip
        return found

    def _search(
        self, consumer: PartitionConsumer, partition: int, symbols: frozenset[str], deadline: float
    ) -> dict[str, int] | None:
        """Search one partition from its end; None if neither all were found nor its beginning was reached in time."""
        low, high = consumer.limits(partition, QUERY_SECONDS)
        found: dict[str, int] = {}
        width = WINDOW
        while high > low and symbols - found.keys():
            begin = max(low, high - width)
            window = self._window(consumer, partition, (begin, high), symbols, deadline)
            if window is None:
                return found or None
            found = {**window, **found}
            high, width = begin, 2 * width
        return found

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
                last_id = record_id(symbol, value) if symbol in symbols else None
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
