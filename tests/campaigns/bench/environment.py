"""One case of the benchmark: source, broker, and the client on a core of its own; what is counted is the client."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from confluent_kafka import Producer

from ingest.kafka import topics
from ingest.settings import load
from tests.campaigns.bench.clients import CryptofeedProcess, PlainProcess, SourceProcess, cpu_seconds
from tests.campaigns.bench.latencies import WAIT_SECONDS, Ends, Latencies, count_keys
from tests.harness import compiled
from tests.harness.environment import Environment
from tests.harness.processes import Process, ProcessFailedError, ServiceProcess
from tests.harness.registry import Registry

CORES = sorted(os.sched_getaffinity(0))
SCALES = len(CORES) >= 4
"""Whether a second shard can have a core of its own."""
CLIENT = [{CORES[0]}, {CORES[1]} if SCALES else {CORES[0]}]
"""Core of each shard."""
OTHERS = set(CORES[2:]) if SCALES else set(CORES[1:2] or CORES[:1])
Broker = Literal["kafka", "mock"]


@contextlib.contextmanager
def on_core(cores: set[int]) -> Iterator[None]:
    """What is started here runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def until(condition: Callable[[], bool], what: str, pause: float = 0.1) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(pause)


@dataclass(frozen=True)
class Case:
    """What is measured."""

    client: str = "websockets"
    """``plain``, ``cryptofeed``, or a transport of the service."""
    tls: bool = False
    broker: Broker = "kafka"
    symbols: int = 300
    dual: bool = False
    shards: int = 1
    commit_ms: int = 100
    settings: dict[str, str] = field(default_factory=dict)
    compiled: bool = True
    """Whether the service's hot path is compiled, as in the image."""
    version: str = ""
    """Of cryptofeed."""
    python: str = ""
    """The interpreter that has it."""

    @property
    def ours(self) -> bool:
        """Whether the client is the service."""
        return self.client not in ("plain", "cryptofeed")


class BenchEnvironment(Environment):
    """One case, running. ``transfer`` may be called again and again. ``kafka``: where the case's broker is."""

    def __init__(self, case: Case, directory: Path, kafka: str, registry: Registry) -> None:
        self.case = case
        self.topic = f"bench-{uuid.uuid4().hex[:8]}"
        self.positions_topic = f"{self.topic}.positions"
        self._kafka = kafka
        self._registry = registry
        super().__init__(directory / self.topic)
        self.directory.mkdir()
        self.source = SourceProcess(self.directory, case.symbols, tls=case.tls, aggregated=case.client == "cryptofeed")
        self.clients: list[Process] = []

    def open(self) -> None:
        """Start source and clients."""
        self._exit.callback(self.source.kill)
        with on_core(OTHERS):
            self.source.start(wait=False)
        self._create_topics()
        self.source.wait_ready(WAIT_SECONDS)
        self._ends = self._exit.enter_context(contextlib.closing(Ends(self._kafka, self.topic)))
        self.clients = [self._client(shard) for shard in range(self.case.shards)]
        for client in self.clients:
            self._exit.callback(client.kill)  # what it measured is measured; its topics are not used again
        self._start()

    def _start(self) -> None:
        for shard, client in enumerate(self.clients):
            with on_core(CLIENT[shard]):
                client.start(wait=False)
        for client in self.clients:
            client.wait_ready(WAIT_SECONDS)
        until(self._ready, "the client is not ready", 0.02)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The client is stopped meanwhile, and started again."""
        for client in self.clients:
            client.terminate()
        yield
        self._start()

    def _kafka_settings(self) -> dict[str, str]:
        return {
            "K2_KAFKA_BOOTSTRAP_SERVERS": self._kafka,
            "K2_KAFKA_SCHEMA_REGISTRY_URL": self._registry.url,
            "K2_KAFKA_TOPIC": self.topic,
            "K2_KAFKA_COMMIT_INTERVAL_MS": str(self.case.commit_ms),
            "K2_SHARD_COUNT": str(self.case.shards),
        }

    def _settings(self, shard: int) -> dict[str, str]:
        case = self.case
        return {
            "K2_BINANCE_WEBSOCKET_URL": self.source.ready["ws_url"],
            "K2_BINANCE_WEBSOCKET_FALLBACK_URLS": "",
            "K2_BINANCE_REST_URL": self.source.ready["rest_url"],
            "K2_BINANCE_REST_FALLBACK_URLS": "",
            "K2_BINANCE_SYMBOLS": "*",
            "K2_BINANCE_TRANSPORT": case.client,
            "K2_BINANCE_DUAL_CONNECTIONS": str(case.dual).lower(),
            "K2_SHARD_INDEX": str(shard),
            **self._kafka_settings(),
            **({"K2_BINANCE_CUSTOM_CA_BUNDLE": str(self.directory / "ca.pem")} if case.tls else {}),
            **case.settings,
        }

    def _create_topics(self) -> None:
        if self.case.broker == "kafka":
            topics.create(load(self._kafka_settings()), partitions=2, replication_factor=1)
            return
        # The mock refuses to be asked for topics: it makes what somebody wants to know of.
        producer = Producer({"bootstrap.servers": self._kafka, "log_level": 0})
        for topic in (self.topic, self.positions_topic, f"{self.topic}.voids", f"{self.topic}.dlq"):
            producer.list_topics(topic, timeout=30)

    def _client(self, shard: int) -> Process:
        case = self.case
        if case.client == "plain":
            return PlainProcess(
                self.directory, self.source, kafka=self._kafka, registry=self._registry.url, topic=self.topic,
                symbols=case.symbols, tls=case.tls,
            )  # fmt: skip
        if case.client == "cryptofeed":
            return CryptofeedProcess(
                self.directory, self.source, python=case.python, kafka=self._kafka, topic=self.topic
            )
        module = ("ingest", "run") if case.broker == "kafka" else ("tests.campaigns.bench.mock_service",)
        service = ServiceProcess(self.directory, self._settings(shard), instance=f"bench{shard}", module=module)
        if case.compiled:
            service.working_directory = compiled.tree()
        return service

    def _services(self) -> list[dict[str, Any]]:
        with contextlib.suppress(OSError):
            return [client.status() for client in self.clients if isinstance(client, ServiceProcess)]
        return []

    def _ready(self) -> bool:
        for client in self.clients:
            if not client.alive:
                raise ProcessFailedError(f"{client.name} ended with {client.returncode}:\n{client.tail()}")
        streams = self.case.symbols * (2 if self.case.dual else 1)
        if self.source.state()["streams"] != streams:
            return False
        if not self.case.ours:
            return True
        writing = [status for status in self._services() if status["role"] == "active"]
        return len(writing) == self.case.shards and len(_last_ids(writing)) == self.case.symbols

    def committed(self) -> dict[str, int]:
        """Symbol -> last id in Kafka, over all shards."""
        return _last_ids(self._services())

    def arrive(self, offsets: int) -> float:
        """Wait until the topic has grown to so many offsets, and each symbol's last trade is known to be in it.

        Returns when (monotonic) the first was true. The service, which says the second once a second, is asked only
        then: each of its answers costs time that is counted.
        """
        until(lambda: self._ends.total() >= offsets, "not all trades arrive", 0.05)
        arrived = time.monotonic()
        self.settle()
        return arrived

    def settle(self) -> None:
        """Wait until the service knows that every trade so far is in Kafka: the topic's length counts markers, too."""
        if self.case.ours:
            until(lambda: self.committed() == self.source.state()["last_ids"], "not all trades are accounted for")

    def offsets(self) -> int:
        """How far the topic of the trades reaches for readers of committed records."""
        return self._ends.total()

    def cpu(self) -> float:
        """CPU seconds of the client so far, all shards together."""
        return sum(map(cpu_seconds, self.clients))

    def rss(self) -> float:
        """Resident bytes of the largest shard."""
        return float(max(client.rss() for client in self.clients))

    def warm_up(self, trades: int, rate: float | None = None) -> None:
        """Send so many trades and wait until they are in Kafka, the last few perhaps not; nothing is measured."""
        offsets = self.offsets()
        self.source.order(trades, rate)
        until(lambda: self.offsets() >= offsets + trades, "not all trades of the warm-up arrive", 0.05)

    def transfer(self, trades: int, rate: float | None = None) -> dict[str, float]:
        """Send so many trades and wait until all are in Kafka; what that cost the client.

        ``seconds`` is from the first trade sent to the last one in Kafka.
        """
        offsets = self.offsets()
        used, began = self.cpu(), time.monotonic()
        self.source.order(trades, rate)
        until(self.source.done, "the source does not get rid of its trades")
        arrived = self.arrive(offsets + trades) - began
        elapsed = time.monotonic() - began
        used = self.cpu() - used
        run = self.source.state()["run"]
        return {
            "cpu_us_per_trade": used / trades * 1e6,
            "cpu_share": used / elapsed,
            "trades_per_second": trades / run["seconds"],
            "arrived_per_second": trades / (arrived - run["prepared_seconds"]),
            "seconds": arrived - run["prepared_seconds"],
            "rss_bytes": self.rss(),
            "pong_ms_max": max(run["pongs"], default=0.0) * 1e3,
            "pongs_missing": float(run["unanswered"]),
            "source_late_ms": run["late_seconds"] * 1e3,
        }

    def positions_written(self, during: Callable[[], None]) -> int:
        """Positions that the service writes while something happens, all shards together."""
        ends = Ends(self._kafka, self.positions_topic)
        before = ends.places()
        ends.close()
        during()
        return count_keys(self._kafka, before, b"position:")

    def idle(self, seconds: float) -> float:
        """CPU of the client while nothing happens, as a share of a core."""
        before = self.cpu()
        time.sleep(seconds)
        return (self.cpu() - before) / seconds

    def consumer(self) -> Latencies:
        return Latencies(self._kafka, self.topic)


def _last_ids(services: list[dict[str, Any]]) -> dict[str, int]:
    return {
        symbol: entry["last_id"]
        for status in services
        for symbol, entry in status.get("symbols", {}).items()
        if entry["last_id"] is not None
    }
