"""The reader: committed trades in order, with what lies between them."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from ingest.reader.consumer import Message, TopicConsumer
from ingest.reader.continuity import Continuity
from ingest.reader.placing import offset_of, partition_of
from ingest.reader.records import ReaderError, Record, Start, Trade
from ingest.reader.schemas import Decoder
from ingest.reader.voids import Voids

TOPIC = "market.crypto.trades.binance"
BOOTSTRAP_SERVERS = "127.0.0.1:29092"
SCHEMA_REGISTRY_URL = "http://127.0.0.1:8081/apis/ccompat/v7"
"""Defaults: the compose stack, seen from its host."""
TIMEOUT = 10.0


class Reader:
    """Iterates over one topic. Use it as a context manager, or ``read``.

    ``follow``: go on after the head. ``positions_topic``: where voids are recorded, by default ``<topic>.positions``.
    ``options``: further options of librdkafka, e.g. ``security.protocol``.
    """

    def __init__(
        self,
        topic: str = TOPIC,
        *,
        symbols: Iterable[str] = (),
        start: Start | None = None,
        follow: bool = False,
        bootstrap_servers: str = BOOTSTRAP_SERVERS,
        schema_registry_url: str = SCHEMA_REGISTRY_URL,
        positions_topic: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.topic = topic
        self._symbols = tuple(dict.fromkeys(symbols))
        self._keys = {symbol.encode() for symbol in self._symbols}
        self._start = start or Start.earliest()
        self._follow = follow
        self._decoder = Decoder(schema_registry_url, timeout=timeout)
        kept = dict(options or {})
        self._voids = Voids(bootstrap_servers, positions_topic or f"{topic}.positions", kept, timeout=timeout)
        self._continuity = Continuity(self._start.ids, self._voids.find)
        self._consumer = TopicConsumer(bootstrap_servers, topic, kept, timeout=timeout)
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield trades, voids and gaps. Raises ``ReaderError``."""
        partitions = self._consumer.partitions()
        self._offsets = self._beginning(partitions)
        for message in self._consumer.read(self._offsets, follow=self._follow):
            if message.value is not None and (not self._keys or message.key in self._keys):
                yield from self._records(message, message.value)
            else:
                self._offsets[message.partition] = message.offset + 1

    def position(self) -> dict[str, Any]:
        """Where this reader is, after the last record that was yielded: plain JSON for ``Start.at_position``."""
        offsets = {str(partition): offset for partition, offset in self._offsets.items()}
        return {"topic": self.topic, "offsets": offsets, "next_ids": self._continuity.next_ids}

    def _records(self, message: Message, value: bytes) -> Iterator[Record]:
        trade = self._trade(message, value)
        trade_id = trade.source_sequence
        wanted = trade_id is None or self._start.offsets is not None or trade_id >= self._start.ids.get(trade.symbol, 0)
        if trade_id is not None and wanted:
            yield from self._continuity.between(trade.symbol, trade_id)
            self._continuity.take(trade.symbol, trade_id)
        self._offsets[message.partition] = message.offset + 1
        if wanted:
            yield trade

    def _trade(self, message: Message, value: bytes) -> Trade:
        where = f"{self.topic}, {message.where}"
        record = self._decoder.decode(value, where)
        try:
            return Trade(**record, partition=message.partition, offset=message.offset)
        except TypeError as error:
            raise ReaderError(f"{where}: not a TradeV2: {error}") from error

    def _beginning(self, partitions: list[int]) -> dict[int, int]:
        start = self._start
        bounds = {partition: self._consumer.bounds(partition) for partition in partitions}
        if start.offsets is not None:
            return {one: max(start.offsets.get(one, low), low) for one, (low, _) in bounds.items()}
        if start.newest:
            return {one: high for one, (_, high) in bounds.items()}
        if start.time is not None:
            return self._consumer.at_time(partitions, start.time)
        if start.ids:
            return self._at_ids(partitions, bounds)
        return {one: low for one, (low, _) in bounds.items()}

    def _at_ids(self, partitions: list[int], bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        found: dict[int, int] = {}
        for symbol, trade_id in self._start.ids.items():
            one = partition_of(symbol.encode(), len(partitions))
            place = offset_of(self._consumer, one, symbol, trade_id, self._id_of)
            found[one] = min(found.get(one, place), place)
        others = [one for one in partitions if one not in found]
        if self._symbols and set(self._symbols) <= set(self._start.ids):
            return found
        return found | {one: bounds[one][0] for one in others}

    def _id_of(self, message: Message) -> int | None:
        return self._trade(message, message.value).source_sequence if message.value is not None else None


def read(topic: str = TOPIC, **options: Any) -> Iterator[Record]:
    """Iterate over a topic and close it in the end: the options of ``Reader``."""
    with Reader(topic, **options) as reader:
        yield from reader
