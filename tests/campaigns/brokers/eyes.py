"""A consumer of committed records that knows for each partition how long nothing came."""

import threading
import time
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer

from tests.harness.topics import beginning


class PartitionEyes(threading.Thread):
    """Reads a topic, ``read_committed``, from now on; its methods are safe from any thread."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        super().__init__(name="partition-eyes", daemon=True)
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers, "group.id": "partition-eyes", "log_level": 0,
                "isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500,
            }
        )  # fmt: skip
        self._closing = threading.Event()
        self._seen = threading.Condition()
        self.counts: dict[int, int] = {}
        self._last: dict[int, float] = {}
        self._longest: dict[int, float] = {}

    def run(self) -> None:
        self._consumer.assign(beginning(self._consumer, self._topic))
        while not self._closing.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            now = time.monotonic()
            with self._seen:
                for message in [first, *self._consumer.consume(10_000, 0)]:
                    partition = message.partition()
                    if message.error() is not None or partition is None:
                        continue
                    self.counts[partition] = self.counts.get(partition, 0) + 1
                    last = self._last.get(partition)
                    if last is not None:
                        self._longest[partition] = max(self._longest.get(partition, 0.0), now - last)
                    self._last[partition] = now
                self._seen.notify_all()
        self._consumer.close()

    def wait_more(self, seconds: float, partitions: int = 2) -> bool:
        """Wait until something new has come in each partition."""
        with self._seen:
            before = dict(self.counts)
            return self._seen.wait_for(
                lambda: len(self.counts) >= partitions and all(n > before.get(p, 0) for p, n in self.counts.items()),
                seconds,
            )

    def forget(self) -> None:
        """From now on look for the longest pause anew."""
        with self._seen:
            now = time.monotonic()
            self._longest.clear()
            self._last = dict.fromkeys(self._last, now)

    def longest_pause(self) -> float:
        """Seconds without anything new in the partition where that lasted longest, since ``forget``."""
        with self._seen:
            return max(self._longest.values(), default=0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.join(10)
