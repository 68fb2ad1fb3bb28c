"""Finds the offset of a trade id by bisection: a symbol's ids grow with its offsets."""

from collections.abc import Callable, Iterator

from ingest.reader.consumer import Event, Message, TopicConsumer

NEAR = 2_000
"""Closer than this, reading on is cheaper than another step."""

TradeId = Callable[[Message], int | None]


def partition_of(key: bytes, partitions: int) -> int:
    """Where the service puts a key: murmur2, as the Java client and librdkafka's ``murmur2_random`` do."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


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
        if isinstance(event, Message) and event.key == key:
            return id_of(event)
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
