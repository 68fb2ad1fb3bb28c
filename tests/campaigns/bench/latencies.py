"""What a reader of committed records sees of a topic: where it ends, and how old each trade is when it arrives."""

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.harness.topics import beginning

WAIT_SECONDS = 120.0


class Ends:
    """Where a topic ends for readers of committed records. Asks the broker, and costs the client nothing."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._consumer = _consumer(bootstrap_servers, topic)
        self._partitions = beginning(self._consumer, topic)

    def places(self) -> list[TopicPartition]:
        """Where each partition ends."""
        return [
            TopicPartition(self._topic, place.partition, self._consumer.get_watermark_offsets(place, timeout=30)[1])
            for place in self._partitions
        ]

    def total(self) -> int:
        """Offsets so far, all partitions together: records, and the markers of transactions."""
        return sum(place.offset for place in self.places())

    def close(self) -> None:
        self._consumer.close()


class Latencies:
    """A ``read_committed`` consumer at the end of the topic, that reads how old each trade is."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = _consumer(bootstrap_servers, topic)
        places = beginning(self._consumer, topic)
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        self._consumer.assign(places)

    def collect(self, trades: int) -> list[float]:
        """Milliseconds from the exchange's stamp to here, for so many trades, ascending."""
        found: list[float] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found) < trades and time.monotonic() < deadline:
            # consume() alone waits for the full number, or its whole time: that was measured as latency once.
            first = self._consumer.poll(0.05)
            messages = [] if first is None else [first, *self._consumer.consume(2000, 0)]
            now = time.time_ns() / 1000
            values = [message.value() or b"" for message in messages if message.error() is None]
            found += [(now - trade_time(value)) / 1000 for value in values]
        self._consumer.close()
        return sorted(found)


def count_keys(bootstrap_servers: str, begin: list[TopicPartition], prefix: bytes) -> int:
    """Committed records whose key begins so, from these places to the end of each partition."""
    consumer = _consumer(bootstrap_servers, begin[0].topic, {"enable.partition.eof": True})
    consumer.assign(begin)
    found, open_ = 0, {place.partition for place in begin}
    deadline = time.monotonic() + WAIT_SECONDS
    while open_:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the end of {begin[0].topic} is not reached")
        for message in consumer.consume(5000, 0.1):
            error = message.error()
            if error is None:
                found += (message.key() or b"").startswith(prefix)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_.discard(message.partition() or 0)
            else:
                raise KafkaException(error)
    consumer.close()
    return found


def _consumer(bootstrap_servers: str, topic: str, more: Mapping[str, bool] = {}) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": topic,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
            **more,
        }
    )


def trade_time(value: bytes) -> int:
    """The trade's time in a record: behind the header, four strings and the asset class."""
    at = 5
    for _ in range(4):
        at += 1 + (value[at] >> 1)
    at += 1
    number = shift = 0
    while True:
        byte = value[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number >> 1
        shift += 7
        at += 1
