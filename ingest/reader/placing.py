"""Finds the offset of a trade id by bisection: a symbol's ids grow with its offsets."""

from collections.abc import Callable, Iterator

from ingest.reader.consumer import Event, Message, TopicConsumer

NEAR = 2_000
"""Closer than this, reading on is cheaper than another step."""

TradeId = Callable[[Message], int | None]


def partition_of(key: bytes, partitions: int) -> int:
    """Where the service puts a key: murmur2, as the Java client and librdkafka's ``murmur2_random`` do."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def places(key: bytes, partitions: int) -> list[int]:
    """Where records of a key can lie: its partition now, then those it had while the topic had fewer of them."""
    return list(dict.fromkeys(partition_of(key, number) for number in range(partitions, 0, -1)))


def offsets_of(consumer: TopicConsumer, partitions: int, symbol: str, trade_id: int, id_of: TradeId) -> dict[int, int]:
    """Partition -> an offset at or before the symbol's first record there with this id or a later one.

    Always of its partition now. A partition that it had before is searched only if all later ones begin after the id;
    of a topic that has grown twice this leaves out what lies between, if the symbol has come back to its partition.
    """
    found: dict[int, int] = {}
    for partition in places(symbol.encode(), partitions):
        low, _ = consumer.bounds(partition)
        first = _first_id(consumer.events({partition: low}, follow=False), symbol, id_of)
        if first is not None or not found:
            found[partition] = offset_of(consumer, partition, symbol, trade_id, id_of)
        if first is not None and first <= trade_id:
            break
    return found


def offset_of(consumer: TopicConsumer, partition: int, symbol: str, trade_id: int, id_of: TradeId) -> int:
    """An offset at or before the first record of the symbol with this id or a later one."""
    low, high = consumer.bounds(partition)
    end = high
    while high - low > NEAR:
        middle = (low + high) // 2
        found = _first_id(consumer.events({partition: middle}, follow=False), symbol, id_of) if middle < end else None
        if found is None or found >= trade_id:
            high = middle
        else:
            low = middle
    return low


def _first_id(events: Iterator[Event], symbol: str, id_of: TradeId) -> int | None:
    key = symbol.encode()
    for event in events:
        if isinstance(event, Message) and event.key == key and (found := id_of(event)) is not None:
            return found
    return None


def _murmur2(data: bytes) -> int:
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    found = (0x9747B28C ^ length) & mask
    whole = length - length % 4
    for at in range(0, whole, 4):
        part = int.from_bytes(data[at : at + 4], "little") * multiplier & mask
        part = (part ^ part >> 24) * multiplier & mask
        found = (found * multiplier & mask) ^ part
    if whole < length:
        found = (found ^ int.from_bytes(data[whole:], "little")) * multiplier & mask
    found = (found ^ found >> 13) * multiplier & mask
    return found ^ found >> 15
