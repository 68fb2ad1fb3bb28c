"""The reader: committed records in order, with what lies between them."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from ingest.reader.beginning import beginning, check_topic, checked_symbols
from ingest.reader.consumer import Message, TopicConsumer, after
from ingest.reader.continuity import Continuity
from ingest.reader.market_records import MarketRecord, Sequenced, sequenced
from ingest.reader.records import Deleted, Gap, ReaderError, RecordError, Start, Trade, Undecodable, Void
from ingest.reader.schemas import Decoder
from ingest.reader.topic_watch import TopicWatch
from ingest.reader.voids import Voids

KINDS = ("trades", "agg_trades", "block_trades", "bars", "quotes", "books")
"""Of topics: each is ``market.crypto.<kind>.binance``, and may be given by its kind alone."""
TOPIC = "market.crypto.trades.binance"
BOOTSTRAP_SERVERS = "127.0.0.1:29092"
SCHEMA_REGISTRY_URL = "http://127.0.0.1:8081/apis/ccompat/v7"
"""Defaults: the compose stack, seen from its host."""
TIMEOUT = 10.0

Record = Trade | MarketRecord | Void | Gap | Deleted | Undecodable
"""What a reader yields."""


class Reader:
    """Iterates over one topic, of any stream. Use it as a context manager, or ``read``.

    ``topic``: its name, or its kind (see ``KINDS``). ``symbols``: in upper case; by default all. ``follow``: go on
    after the head, also in partitions that are added. ``positions_topic``: where voids are recorded, by default the
    name of the topic of trades with ``.positions``. ``options``: further ones of librdkafka, as ``sasl.username``.
    ``on_error``: at a record that cannot be decoded, ``raise`` ends the read, ``skip`` yields ``Undecodable``.
    Raises ``ReaderError``.
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
        on_error: Literal["raise", "skip"] = "raise",
        timeout: float = TIMEOUT,
    ) -> None:
        self.topic = f"market.crypto.{topic}.binance" if topic in KINDS else topic
        self._symbols = checked_symbols(symbols)
        self._keys = {symbol.encode() for symbol in self._symbols}
        self._start = start or Start.earliest()
        if on_error not in ("raise", "skip"):
            raise ReaderError(f'on_error {on_error!r}: expected "raise" or "skip"')
        self._skip = on_error == "skip"
        check_topic(self._start, self.topic)
        checked_symbols(self._start.ids if self._start.offsets is None else ())
        self._follow = follow
        self._decoder = Decoder(schema_registry_url, timeout=timeout)
        kept = dict(options or {})
        self._voids = Voids(
            bootstrap_servers, positions_topic or f"{sibling(self.topic, 'trades')}.positions", kept, timeout=timeout
        )
        self._continuity = Continuity(self._start.ids, self._voids.find)
        self._consumer = TopicConsumer(bootstrap_servers, self.topic, kept, timeout=timeout)
        self._watch = TopicWatch(bootstrap_servers, self.topic, kept, timeout=timeout)
        self._offsets: dict[int, int] = {}
        self._topic_id: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the broker."""
        self._watch.close()
        self._consumer.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield records, voids, gaps and what was deleted. A second iteration goes on behind the first.

        Raises ``ReaderError``, also for a topic that is deleted or created again while it is read.
        """
        self._begin()
        for event in self._consumer.events(self._offsets, follow=self._follow, added=self._watch.added):
            if isinstance(event, Message) and event.value is not None and self._has_key(event):
                yield from self._records(event, event.value)
                continue
            self._offsets[event.partition] = after(event)
            if isinstance(event, Deleted):
                yield event

    def _begin(self) -> None:
        """Find the offsets to begin at; of a reader that has begun, check that they still mean something."""
        self._consumer.partitions()  # the clearer error of a topic that does not exist
        state = self._watch.begin()
        start = Start(offsets=self._offsets, topic_id=self._topic_id) if self._offsets else self._start
        self._offsets = beginning(self._consumer, self.topic, state, start, self._symbols, self._id_of)
        self._topic_id = state.topic_id

    def _has_key(self, message: Message) -> bool:
        return not self._keys or message.key in self._keys

    def position(self) -> dict[str, Any]:
        """Where this reader is, after the last record that was yielded: plain JSON for ``Start.at_position``."""
        offsets = {str(partition): offset for partition, offset in self._offsets.items()}
        return {
            "topic": self.topic,
            "topic_id": self._topic_id,
            "offsets": offsets,
            "next_ids": self._continuity.next_ids,
        }

    def _records(self, message: Message, value: bytes) -> Iterator[Record]:
        try:
            one = self._typed(message, value)
        except RecordError as error:
            if not self._skip:
                raise
            self._offsets[message.partition] = message.offset + 1
            yield Undecodable(message.partition, message.offset, str(error))
            return
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
            raise RecordError(f"{where}: not a record of {schema} as this reader reads it: {error}") from error

    def _id_of(self, message: Message) -> int | None:
        try:
            return self._typed(message, message.value).last if message.value is not None else None
        except RecordError:
            if self._skip:
                return None
            raise


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
