"""What the examples share: one Kafka, one registry. Each example has its own simulator, topics and service."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, ServiceProcess, http_json, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

TOKEN = "a-token-for-tests-only"  # noqa: S105
SIMULATOR = ("--symbols", "4", "--rate", "100", "--seed", "24")
QUICK_SETTINGS = {
    "K2_BINANCE_VOID_CONFIRM_SECONDS": "4",
    "K2_BINANCE_BACKOFF_MAXIMUM_SECONDS": "2",
    "K2_BINANCE_HEALTH_CHECK_INTERVAL": "2",
    "K2_BINANCE_HEALTH_CHECK_TIMEOUT": "5",
    "K2_BINANCE_OPEN_TIMEOUT_SECONDS": "3",
    "K2_BINANCE_REST_TIMEOUT_SECONDS": "3",
    "K2_BINANCE_SYMBOL_REFRESH_SECONDS": "2",
    "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES": "280",
    "K2_READY_MAX_COMMIT_AGE_SECONDS": "10",
}
"""Shorter times than the defaults, so that an example takes seconds."""
PATIENCE = 60.0
FIRST_TRADE_SECONDS = 10.0
"""A market in which nothing trades is the subject of some examples."""


class Environment:
    """Starts what the examples share when the first of them needs it."""

    def __init__(self, directory: Path, bootstrap_servers: str | None = None) -> None:
        self.directory = directory
        self._given = bootstrap_servers
        self._exit = ExitStack()
        self._broker: KafkaBroker | None = None
        self._registry: Registry | None = None
        self._number = 0
        self._run = uuid.uuid4().hex[:6]
        """Part of each topic's name: a given Kafka may have those of an earlier run."""
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def bootstrap_servers(self) -> str:
        """The shared Kafka; started on first use."""
        with self._lock:
            return self._started_broker()

    def _started_broker(self) -> str:
        if self._given is None:
            self._given = self._exit.enter_context(KafkaBroker(self.directory / "kafka")).bootstrap_servers
        return self._given

    @property
    def registry(self) -> Registry:
        """The shared registry; started on first use."""
        with self._lock:
            if self._registry is None:
                self._registry = self._exit.enter_context(Registry())
            return self._registry

    @cached_property
    def admin(self) -> AdminClient:
        """An administrator of the shared Kafka; it must outlive its futures."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def folder(self, name: str) -> Path:
        """A new folder."""
        with self._lock:
            self._number += 1
            folder = self.directory / f"{self._number:03}-{name}"
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def stack(
        self,
        name: str,
        *simulator: str,
        symbols: str = "*",
        registry_url: str | None = None,
        bootstrap_servers: str | None = None,
        **settings: str,
    ) -> Iterator[Stack]:
        """Simulator and topics of one example; services are added by ``Stack.service``."""
        folder = self.folder(name)
        with Stack(
            folder,
            bootstrap_servers=bootstrap_servers or self.bootstrap_servers,
            registry_url=registry_url or self.registry.url,
            simulator=simulator or SIMULATOR,
            settings={**QUICK_SETTINGS, **settings},
            topic=f"field.{self._run}.{folder.name}",
            symbols=symbols,
        ) as stack:
            yield stack

    @contextmanager
    def begun(self, name: str, *simulator: str, **options: Any) -> Iterator[tuple[Stack, ServiceProcess]]:
        """As ``stack``, with a service that writes every symbol."""
        with self.stack(name, *simulator, **options) as stack:
            yield stack, begin(stack)

    # --- administration of topics ---

    def configure(self, topic: str, **options: str) -> None:
        """Change a topic's configuration; underscores stand for dots."""
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in options.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(30)

    def configuration(self, topic: str) -> dict[str, Any]:
        """Every configuration entry of a topic."""
        described = self.admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)])
        return dict(next(iter(described.values())).result(30))

    def delete(self, *topics: str) -> None:
        """Delete topics, and wait until they are gone."""
        for future in self.admin.delete_topics(list(topics)).values():
            future.result(30)
        until(lambda: not set(topics) & set(self.admin.list_topics(timeout=10).topics), "the topics to be gone", 30)

    def create(self, topic: str, partitions: int, **options: str) -> None:
        """Create a topic as an operator would by hand."""
        config = {key.replace("_", "."): value for key, value in options.items()}
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
            future.result(30)
        until(lambda: topic in self.admin.list_topics(timeout=10).topics, "the topic to be there", 30)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        for future in self.admin.create_partitions([NewPartitions(topic, partitions)]).values():
            future.result(30)


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE, every: float = 0.1) -> float:
    """Wait; returns the seconds. Raises ``TimeoutError``."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(every)
    return time.monotonic() - began


def happens(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether something becomes true within a time."""
    try:
        until(condition, "", seconds)
    except TimeoutError:
        return False
    return True


def ingest(
    *arguments: str, settings: Mapping[str, str] | None = None, seconds: float = 60.0, module: str = "ingest"
) -> subprocess.CompletedProcess[str]:
    """Run one command of the product to its end."""
    environment = {**inherited(), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}", **(settings or {})}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
    )  # fmt: skip


def records(service: ServiceProcess, least: str = "WARNING") -> list[dict[str, Any]]:
    """The service's log records of a level and above."""
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    wanted = levels[levels.index(least) :]
    found = []
    for line in service.log.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("level", "").upper() in wanted:
            found.append(record)
    return found


def logged(service: ServiceProcess, *words: str, least: str = "WARNING") -> bool:
    """Whether one log record of this level names every word; ``a|b`` means either."""
    for record in records(service, least):
        text = json.dumps(record, ensure_ascii=False).lower()
        if all(any(part.lower() in text for part in word.split("|")) for word in words):
            return True
    return False


def traceback_in(text: str) -> bool:
    """Whether a text holds a traceback of Python."""
    return "Traceback (most recent call last)" in text


def metric(service: ServiceProcess, name: str) -> float:
    """Sum of a series over its labels; 0 if the service does not answer."""
    try:
        samples = service.metrics()
    except OSError:
        return 0.0
    return sum(value for key, value in samples.items() if key == name or key.startswith(f"{name}{{"))


def ends_or_says(service: ServiceProcess, *words: str, seconds: float = PATIENCE) -> int | None:
    """Wait until a service has ended or its log has one of the words; returns the exit code, None while it runs."""

    def decided() -> bool:
        log = service.log.read_text(errors="replace") if service.log.exists() else ""
        return not service.alive or any(word in log for word in words)

    happens(decided, seconds)
    return service.returncode if not service.alive else service.wait(2)


def order(service: ServiceProcess, verb: str, body: object | None = None) -> Any:
    """Give an order by the control API."""
    return http_json(f"{service.control_url}/control/{verb}", method="POST", body=body or {}, token=TOKEN, timeout=60)


def frozen(stack: Stack, service: ServiceProcess) -> list[str]:
    """Symbols that the service has halted."""
    try:
        status = service.status()
    except OSError:
        return []
    return sorted(
        name for name, entry in status.get("symbols", {}).items() if entry.get("frozen") or entry.get("halted")
    )


def begin(stack: Stack, instance: str = "blue", *, symbols: int | None = None, **settings: str) -> ServiceProcess:
    """Start a service and wait until it writes every symbol, and has written a trade where the market trades.

    A symbol's first position may be the exchange's last id before the service: with it alone the topic is empty, and an
    audit has nothing to judge.
    """
    service = stack.service(instance, start=True, **settings)
    stack.wait(lambda: stack.writing(instance), "the service as writer", seconds=PATIENCE)
    wanted = symbols if symbols is not None else len(stack.simulator.state()["symbols"])
    stack.wait(lambda: len(stack.committed(instance)) >= wanted, "every symbol in Kafka", seconds=PATIENCE)
    happens(lambda: recorded(service) > 0, FIRST_TRADE_SECONDS)
    return service


def recorded(service: ServiceProcess, symbol: str = "") -> float:
    """Trades that a service has in Kafka, of one symbol or of all; 0 if it does not answer."""
    name = "ingest_trades_committed_total"
    return metric(service, f'{name}{{symbol="{symbol}"}}' if symbol else name)


def audited(stack: Stack, *options: str, to_head: bool = True) -> tuple[int, dict[str, Any]]:
    """Stop the market, wait for the last trade if asked to, and audit."""
    stack.simulator.market("stop")
    if to_head:
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=PATIENCE)
    else:
        time.sleep(1.5)
    return stack.audit(*options, expect_to_head=to_head)


def wrong_in(totals: Mapping[str, int]) -> dict[str, int]:
    """What an audit counted that breaks the promise."""
    names = ("missing", "duplicated", "reordered", "altered", "false_void", "unaccounted", "position")
    return {name: totals[name] for name in names if totals.get(name)}


def lines(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    """What a command said."""
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
