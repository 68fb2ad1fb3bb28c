"""librdkafka's in-memory broker, where its speed alone counts. It does not fence: it proves nothing."""

from types import TracebackType
from typing import Self

from confluent_kafka import Producer


class MockKafka:
    """A broker that lives inside a client object of this process."""

    def __init__(self) -> None:
        self._host: Producer | None = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        self._host = Producer({"bootstrap.servers": "ignored", "test.mock.num.brokers": 1, "log_level": 0})
        self.bootstrap_servers = next(
            f"{broker.host}:{broker.port}" for broker in self._host.list_topics(timeout=5).brokers.values()
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._host = None
