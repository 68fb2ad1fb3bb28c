"""The reader: committed records in order, with what lies between them."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from ingest.reader.consumer import Message, TopicConsumer
from ingest.reader.continuity import Continuity
from ingest.reader.market_records import MarketRecord, Sequenced, sequenced
from ingest.reader.placing import offset_of, partition_of
from ingest.reader.records import Gap, ReaderError, Start, Trade, Void
from ingest.reader.schemas import Decoder
from ingest.reader.voids import Voids

KINDS = ("trades", "agg_trades", "block_trades", "bars", "quotes", "books")
"""Of topics: each is ``market.crypto.<kind>.binance``, and may be given by its kind alone."""
TOPIC = "market.crypto.trades.binance"
BOOTSTRAP_SERVERS = "127.0.0.1:29092"
SCHEMA_REGISTRY_URL = "http://127.0.0.1:8081/apis/ccompat/v7"
"""Defaults: the compose stack, seen from its host."""
TIMEOUT = 10.0

Record = Trade | MarketRecord | Void | Gap
"""What a reader yields."""


class Reader:
    """Iterates over one topic, of any stream. Use it as a context manager, or ``read``.

    ``topic``: its name, or its kind (see ``KINDS``). ``follow``: go on after the head. ``positions_topic``: where voids
    are recorded, by default the name of the topic of trades with ``.positions``.
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
        self.topic = f"market.crypto.{topic}.binance" if topic in KINDS else topic
        self._symbols = tuple(dict.fromkeys(symbols))
        self._keys = {symbol.encode() for symbol in self._symbols}
        self._start = start or Start.earliest()
        self._follow = follow
        self._decoder = Decoder(schema_registry_url, timeout=timeout)
        kept = dict(options or {})
        self._voids = Voids(
            bootstrap_servers, positions_topic or f"{sibling(self.topic, 'trades')}.positions", kept, timeout=timeout
        )
        self._continuity = Continuity(self._start.ids, self._voids.find)
        self._consumer = TopicConsumer(bootstrap_servers, self.topic, kept, timeout=timeout)
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
        """Yield records, voids and gaps. Raises ``ReaderError``."""
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
        one = self._typed(message, value)
        start = self._start
        wanted = one.last is None or start.offsets is not None or one.last >= start.ids.get(one.record.symbol, 0)
        if wanted:
            yield from self._continuity.before(one)
        self._offsets[message.partition] = message.offset + 1
        if wanted:
            yield one.record

    def _typed(self, message: Message, value: bytes) -> Sequenced:
        where = f"{self.topic}, {message.where}"
        schema, record = self._decoder.decode(value, where)
        try:
            return sequenced(schema, record, message.partition, message.offset)
        except (TypeError, KeyError) as error:
            raise ReaderError(f"{where}: not a record of {schema} as this reader reads it: {error}") from error

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
        return self._typed(message, message.value).last if message.value is not None else None


def sibling(topic: str, kind: str) -> str:
    """The topic of another kind that belongs to one: the same name with the other kind in it.

    What was named without a kind has the topics of the other streams below it: ``name.books``.
    """
    parts = topic.split(".")
    place = next((at for at, part in enumerate(parts) if part in KINDS), None)
    if place is None:
        return topic if kind == "trades" else f"{topic}.{kind}"
    if kind == "trades" and place == len(parts) - 1 and parts[place] != kind:
        return ".".join(parts[:-1])
    return ".".join([*parts[:place], kind, *parts[place + 1 :]])


def read(topic: str = TOPIC, **options: Any) -> Iterator[Record]:
    """Iterate over a topic and close it in the end: the options of ``Reader``."""
    with Reader(topic, **options) as reader:
        yield from reader
