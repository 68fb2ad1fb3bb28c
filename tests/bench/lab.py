"""One case of the benchmark: source, broker, and the client on a core of its own; what is counted is the client."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.support.processes import Process, ServiceProcess, http_json, inherited
from tests.support.registry import Registry

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
CLIENT, OTHERS = {CORES[0]}, set(CORES[1:2] or CORES[:1])
WAIT_SECONDS = 120.0


@contextlib.contextmanager
def on_core(cores: set[int]) -> Iterator[None]:
    """What is started here runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(process: Process) -> float:
    """CPU time of a process so far, user and system."""
    assert process.process is not None
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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
    """``plain``, or a transport of the service."""
    tls: bool = False
    symbols: int = 300
    dual: bool = False
    shards: int = 1
    commit_ms: int = 100
    settings: dict[str, str] = field(default_factory=dict)


class SourceProcess(Process):
    """``tests.bench.source``."""

    def __init__(self, directory: Path, case: Case) -> None:
        ready = directory / "source.ready.json"
        command = [sys.executable, "-m", "tests.bench.source", "--symbols", str(case.symbols)]
        command += ["--ready-file", str(ready), *(["--tls", str(directory)] if case.tls else [])]
        super().__init__("source", command, directory=directory, environment=inherited())

    def state(self) -> dict[str, Any]:
        return dict(http_json(f"{self.ready['control_url']}/bench"))

    def order(self, trades: int, rate: float | None = None) -> None:
        http_json(f"{self.ready['control_url']}/bench", method="POST", body={"trades": trades, "rate": rate})

    def done(self) -> bool:
        run = self.state()["run"]
        return bool(run is not None and run["state"] == "done")


class PlainProcess(Process):
    """``tests.bench.plain``."""

    def __init__(
        self, directory: Path, case: Case, source: SourceProcess, kafka: str, registry: str, topic: str
    ) -> None:
        command = [
            sys.executable, "-m", "tests.bench.plain", "--ws-url", source.ready["ws_url"], "--topic", topic,
            "--bootstrap-servers", kafka, "--registry-url", registry, "--symbols", str(case.symbols),
            "--ready-file", str(directory / "plain.ready.json"),
            *(["--ca", str(directory / "ca.pem")] if case.tls else []),
        ]  # fmt: skip
        super().__init__("plain", command, directory=directory, environment=inherited())

    def delivered(self) -> int:
        with urllib.request.urlopen(self.ready["metrics_url"]) as answer:  # noqa: S310 -- loopback
            for line in answer.read().decode().splitlines():
                if line.startswith("plain_messages_produced_total{"):
                    return int(float(line.rpartition(" ")[2]))
        return 0


class Lab:
    """One case, running. ``transfer`` and ``stream`` may be called again and again."""

    def __init__(self, case: Case, directory: Path, kafka: str, registry: Registry, *, create_topics: bool) -> None:
        self.case = case
        self.topic = f"bench-{uuid.uuid4().hex[:8]}"
        self._kafka = kafka
        self._registry = registry
        self._create_topics = create_topics
        self._directory = directory / self.topic
        self._directory.mkdir()
        self._exit = contextlib.ExitStack()
        self.source = SourceProcess(self._directory, case)
        self.clients: list[Process] = []
        self.start_seconds = 0.0

    def __enter__(self) -> "Lab":
        with contextlib.ExitStack() as exit_:
            with on_core(OTHERS):
                exit_.enter_context(self.source)
            if self._create_topics:
                self._topics()
            with on_core(CLIENT):
                for shard in range(self.case.shards):
                    client = self._client(shard)
                    client.start(wait=False)
                    exit_.callback(client.terminate, 5.0)
                    self.clients.append(client)
            for client in self.clients:
                client.wait_ready(WAIT_SECONDS)
            until(self._ready, "the client is not ready", 0.02)
            self._exit = exit_.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _settings(self, shard: int) -> dict[str, str]:
        case = self.case
        return {
            "K2_BINANCE_WEBSOCKET_URL": self.source.ready["ws_url"],
            "K2_BINANCE_WEBSOCKET_FALLBACK_URLS": "",
            "K2_BINANCE_REST_URL": self.source.ready["rest_url"],
            "K2_BINANCE_REST_FALLBACK_URLS": "",
            "K2_BINANCE_SYMBOLS": "*",
            "K2_BINANCE_TRANSPORT": "websockets" if case.client == "plain" else case.client,
            "K2_BINANCE_DUAL_CONNECTIONS": str(case.dual).lower(),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self._kafka,
            "K2_KAFKA_SCHEMA_REGISTRY_URL": self._registry.url,
            "K2_KAFKA_TOPIC": self.topic,
            "K2_KAFKA_COMMIT_INTERVAL_MS": str(case.commit_ms),
            "K2_SHARD_INDEX": str(shard),
            "K2_SHARD_COUNT": str(case.shards),
            **({"K2_BINANCE_CUSTOM_CA_BUNDLE": str(self._directory / "ca.pem")} if case.tls else {}),
            **case.settings,
        }

    def _topics(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ingest", "topics", "--replication-factor", "1", "--partitions", "2"],
            env={**inherited(), **self._settings(0)}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"no topics:\n{done.stdout}{done.stderr}")

    def _client(self, shard: int) -> Process:
        if self.case.client == "plain":
            return PlainProcess(self._directory, self.case, self.source, self._kafka, self._registry.url, self.topic)
        return ServiceProcess(self._directory, self._settings(shard), instance=f"bench{shard}")

    def _ready(self) -> bool:
        if self.case.client == "plain":
            return bool(self.source.state()["streams"] == self.case.symbols)
        committed = self.committed()
        streams = self.case.symbols * (2 if self.case.dual else 1)
        return len(committed) == self.case.symbols and self.source.state()["streams"] == streams

    def committed(self) -> dict[str, int]:
        """Symbol -> last id in Kafka, over all shards."""
        found: dict[str, int] = {}
        for client in self.clients:
            if isinstance(client, ServiceProcess):
                with contextlib.suppress(OSError):
                    entries = client.status().get("symbols", {})
                    found |= {s: e["last_id"] for s, e in entries.items() if e["last_id"] is not None}
        return found

    def _arrived(self, before: int, trades: int) -> bool:
        plain = self.clients[0]
        if isinstance(plain, PlainProcess):
            return plain.delivered() >= before + trades
        return bool(self.committed() == self.source.state()["last_ids"])

    def transfer(self, trades: int, rate: float | None = None) -> dict[str, float]:
        """Send so many trades and wait until all are in Kafka; what that cost the client."""
        plain = self.clients[0]
        before = plain.delivered() if isinstance(plain, PlainProcess) else 0
        used, began = sum(map(cpu_seconds, self.clients)), time.monotonic()
        self.source.order(trades, rate)
        until(self.source.done, "the source does not get rid of its trades")
        until(lambda: self._arrived(before, trades), "not all trades arrive", 0.25)
        elapsed = time.monotonic() - began
        used = sum(map(cpu_seconds, self.clients)) - used
        run = self.source.state()["run"]
        return {
            "cpu_us_per_trade": used / trades * 1e6,
            "cpu_share": used / elapsed,
            "trades_per_second": trades / run["seconds"],
            "rss_bytes": float(max(client.rss() for client in self.clients)),
            "pong_ms_max": max(run["pongs"], default=0.0) * 1e3,
            "source_late_ms": run["late_seconds"] * 1e3,
        }

    def idle(self, seconds: float) -> float:
        """CPU of the client while nothing happens, as a share of a core."""
        before = sum(map(cpu_seconds, self.clients))
        time.sleep(seconds)
        return (sum(map(cpu_seconds, self.clients)) - before) / seconds

    def consumer(self) -> "Latencies":
        return Latencies(self._kafka, self.topic)


class Latencies:
    """A ``read_committed`` consumer at the end of the topic, that reads how old each trade is."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": topic,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 5,
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = [(p, self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1]) for p in partitions]
        self._consumer.assign([TopicPartition(topic, p, end) for p, end in ends])

    def collect(self, trades: int) -> list[float]:
        """Milliseconds from the exchange's stamp to here, for so many trades, ascending."""
        found: list[float] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found) < trades and time.monotonic() < deadline:
            # consume() alone waits for the full number, or its whole time: that was measured as latency once.
            first = self._consumer.poll(0.05)
            messages = [] if first is None else [first, *self._consumer.consume(2000, 0)]
            now = time.time_ns() / 1000
            found += [(now - trade_time(message.value() or b"")) / 1000 for message in messages]
        self._consumer.close()
        return sorted(found)


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
