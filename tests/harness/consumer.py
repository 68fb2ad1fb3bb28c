"""A consumer of committed records that notes when they became visible."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer

from tests.harness.stack import TOPIC
from tests.harness.topics import beginning


class CommittedConsumer(threading.Thread):
    """Reads a topic from its beginning, ``read_committed``. Its methods are safe from any thread.

    Times are monotonic, durations in seconds.
    """

    def __init__(self, bootstrap_servers: str, topic: str = TOPIC) -> None:
        super().__init__(name="committed-consumer", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers, "group.id": "committed-consumer", "log_level": 0,
                "isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500,
            }
        )  # fmt: skip
        self._topic = topic
        self._closing = threading.Event()
        self._seen = threading.Condition()
        self.count = 0
        self.last_at = 0.0
        self.longest_gap = 0.0
        """The longest time without a new record since ``forget_gaps``."""
        self._counts: dict[int, int] = {}
        self._latest: dict[int, int] = {}
        self._last: dict[int, float] = {}
        self._longest: dict[int, float] = {}

    def run(self) -> None:
        self._consumer.assign(beginning(self._consumer, self._topic))
        while not self._closing.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            found = [first, *self._consumer.consume(10_000, 0)]
            records = [message for message in found if message.error() is None]
            if records:
                self._note([message.partition() for message in records])
                self._note_places({message.partition() or 0: message.offset() or 0 for message in records})
        self._consumer.close()

    def _note(self, partitions: list[int | None]) -> None:
        with self._seen:
            now = time.monotonic()
            if self.last_at:
                self.longest_gap = max(self.longest_gap, now - self.last_at)
            self.last_at = now
            self.count += len(partitions)
            for partition in {one for one in partitions if one is not None}:
                self._counts[partition] = self._counts.get(partition, 0) + partitions.count(partition)
                last = self._last.get(partition, now)
                self._longest[partition] = max(self._longest.get(partition, 0.0), now - last)
                self._last[partition] = now
            self._seen.notify_all()

    def _note_places(self, latest: dict[int, int]) -> None:
        """Partition -> offset of the latest record."""
        with self._seen:
            self._latest.update(latest)
            self._seen.notify_all()

    def wait_beyond(self, ends: Mapping[int, int], seconds: float) -> bool:
        """Wait until a record at or beyond one of these offsets has become visible."""
        with self._seen:
            return self._seen.wait_for(
                lambda: any(offset >= ends.get(partition, 0) for partition, offset in self._latest.items()), seconds
            )

    def forget_gaps(self) -> None:
        """Measure the longest gap from now on."""
        with self._seen:
            self.longest_gap = 0.0
            self.last_at = time.monotonic()
            self._longest.clear()
            self._last = dict.fromkeys(self._last, self.last_at)

    def longest_partition_gap(self) -> float:
        """The longest time without a new record in any partition since ``forget_gaps``."""
        with self._seen:
            return max(self._longest.values(), default=0.0)

    def wait_new(self, since: int, seconds: float) -> bool:
        """Wait until more than ``since`` records have become visible."""
        with self._seen:
            return self._seen.wait_for(lambda: self.count > since, seconds)

    def wait_each(self, seconds: float, partitions: int = 2) -> bool:
        """Wait until each partition, at least ``partitions`` of them, has a new record."""
        with self._seen:
            before = dict(self._counts)
            return self._seen.wait_for(
                lambda: len(self._counts) >= partitions and all(n > before.get(p, 0) for p, n in self._counts.items()),
                seconds,
            )

    def quiet(self, seconds: float, limit: float = 20.0) -> int:
        """Wait until no record has come for ``seconds``, at most ``limit``; returns the count."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and time.monotonic() - self.last_at < seconds:
            time.sleep(0.05)
        return self.count

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.join(10)
