"""The real parts under faults: Kafka behind the proxy, a registry, the simulator, two services and a consumer."""

import bisect
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from ingest.core.connection import State
from tests.harness.consumer import CommittedConsumer
from tests.harness.environment import Environment, ResourceSampler
from tests.harness.kafka import KafkaBroker, free_ports
from tests.harness.netns import Drop, can_drop
from tests.harness.preloaded import NoCompilerError
from tests.harness.processes import ServiceProcess
from tests.harness.proxy import KafkaProxy
from tests.harness.registry import Registry
from tests.harness.stack import Stack
from tests.harness.wall_clock import WallClock

NAMES = ("blue", "green")
SETTINGS = {
    "K2_TAKEOVER_AFTER_SECONDS": "3",
    "K2_BINANCE_VOID_CONFIRM_SECONDS": "6",
    "K2_BINANCE_BACKOFF_MAXIMUM_SECONDS": "2",
    "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES": "140",
    "K2_BINANCE_REST_WEIGHT_FRACTION": "0.25",
    "K2_BINANCE_HEALTH_CHECK_INTERVAL": "5",
    "K2_BINANCE_HEALTH_CHECK_TIMEOUT": "5",
    "K2_BINANCE_REST_TIMEOUT_SECONDS": "3",
    "K2_BINANCE_OPEN_TIMEOUT_SECONDS": "3",
    "K2_KAFKA_HEARTBEAT_INTERVAL_MS": "500",
}
"""Two services share one address, so each takes half of what one may; waits are short, as faults follow quickly."""


class SharedParts(Environment):
    """Broker, proxy and registry: slow to start, so they serve one run after another."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="k2-chaos-")))

    def open(self) -> None:
        """Start them."""
        self._exit.callback(shutil.rmtree, self.directory, True)
        self.proxy = KafkaProxy(free_ports(1)[0])
        self.broker = KafkaBroker(self.directory / "kafka", proxied=self.proxy.port)
        self._exit.enter_context(self.broker)
        assert self.broker.proxied_port is not None
        self.proxy.target = self.broker.proxied_port
        self._exit.enter_context(self.proxy)
        self.registry = self._exit.enter_context(Registry())


class Commits(threading.Thread):
    """Remembers when records became visible."""

    def __init__(self, consumer: CommittedConsumer) -> None:
        super().__init__(name="commits", daemon=True)
        self._consumer = consumer
        self._closing = threading.Event()
        self.times: list[float] = []

    def run(self) -> None:
        seen = 0
        while not self._closing.wait(0.01):
            if self._consumer.count > seen:
                seen = self._consumer.count
                self.times.append(self._consumer.last_at)

    def first_after(self, moment: float) -> float | None:
        """Seconds from a moment to what became visible next."""
        place = bisect.bisect_right(self.times, moment)
        return self.times[place] - moment if place < len(self.times) else None

    def since(self, moment: float) -> int:
        """How many times something became visible after a moment."""
        return len(self.times) - bisect.bisect_right(self.times, moment)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.join(2)


class ChaosEnvironment(Environment):
    """One run: a topic, a simulator and two services of its own on a shared that may be shared."""

    def __init__(
        self,
        shared: SharedParts,
        name: str,
        simulator: Sequence[str],
        *,
        module: Sequence[str] = ("ingest", "run"),
        settings: Mapping[str, str] | None = None,
        peers: bool = False,
    ) -> None:
        """``peers``: the two services watch each other's process (``K2_PEERS``)."""
        self.shared = shared
        super().__init__(shared.directory / name)
        self._module = module
        self.stack = Stack(
            self.directory,
            bootstrap_servers=shared.broker.bootstrap_servers,
            registry_url=shared.registry.url,
            simulator=simulator,
            settings={**SETTINGS, **(settings or {})},
            topic=f"trades.{name}",
            service_bootstrap_servers=f"127.0.0.1:{shared.proxy.port}",
        )
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True)) if peers else {}
        self._ports = {name: {"K2_METRICS_PORT": str(port)} for name, port in ports.items()}
        self._peers = {"K2_PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports.values())} if peers else {}
        shards = int((settings or {}).get("K2_SHARD_COUNT", "1"))
        self.others = {f"shard-{index}": index for index in range(1, shards)}
        """Services that write the other shards, and their shards."""
        self.clocks_moved = False
        """Whether a service's time of day was wrong, and with it times of ingestion."""
        self.frozen: set[str] = set()
        self.resting: dict[str, float] = {}
        """Services that shall not be started before a time."""
        self.exits: list[tuple[str, int | None]] = []
        """How services ended, by themselves or asked."""
        self.expected: set[str] = set()
        """Services whose next end is of our doing."""
        self.registry_refuses = False
        self.clocks = self._clocks()
        """Each service's time of day; empty where none can be moved."""
        self.began = 0.0
        """When the first fault was due."""
        self.struck_writer = False
        """Whether the last fault that chose an instance has struck the one that wrote."""

    def open(self) -> None:
        """Start the simulator, the services and the observers."""
        self._exit.enter_context(self.stack)
        for name in NAMES:
            clock = self.clocks[name].environment if self.clocks else {}
            own = {**clock, **self._peers, **self._ports.get(name, {})}
            self.stack.service(name, start=False, module=self._module, **own).start(wait=False)
        for name, index in self.others.items():
            own = {"K2_SHARD_INDEX": str(index)}
            self.stack.service(name, start=False, module=self._module, **own).start(wait=False)
        self.consumer = self._exit.enter_context(
            CommittedConsumer(self.shared.broker.bootstrap_servers, self.stack.topic)
        )
        self.commits = self._exit.enter_context(Commits(self.consumer))
        self.resources = self._exit.enter_context(ResourceSampler(self.stack.services))
        self.drop = Drop(int(urlsplit(self.stack.simulator.ws_url).port or 0)) if can_drop() else None
        if self.drop is not None:
            self._exit.callback(self.drop.end)
        self._exit.callback(self._resume)

    def _resume(self) -> None:
        for service in self.stack.services.values():
            service.resume()

    def _clocks(self) -> dict[str, WallClock]:
        try:
            return {name: WallClock(self.directory / f"{name}.clock") for name in NAMES}
        except NoCompilerError:
            if os.environ.get("CI"):
                raise
            return {}

    # --- services ---

    def role(self, name: str) -> str | None:
        """What an instance says it is; None where it does not answer."""
        status = self._status(name)
        return None if status is None else str(status["role"])

    def connected(self) -> bool:
        """Whether the instance that writes receives the streams."""
        return any(self._receives(name) for name in NAMES)

    def all_receive(self) -> bool:
        """Whether of each shard the instance that writes receives the streams."""
        return self.connected() and all(self._receives(name) for name in self.others)

    def _receives(self, name: str) -> bool:
        status = self._status(name)
        if status is None or status["role"] != "active":
            return False
        return any(connection["state"] == State.LIVE.value for connection in status["connections"])

    def _status(self, name: str) -> dict[str, Any] | None:
        service = self.stack.services[name]
        if name in self.frozen or not service.alive or not service.ready_file.exists():
            return None
        try:
            status = service.status()
        except (OSError, ValueError, KeyError):
            return None
        return status if "role" in status else None

    def writer(self) -> str | None:
        """The instance that writes."""
        return next((name for name in NAMES if self.role(name) == "active"), None)

    def available(self) -> list[str]:
        """Instances that run and are not frozen."""
        return [name for name in NAMES if name not in self.frozen and self.stack.services[name].alive]

    def instance(self, name: str) -> ServiceProcess:
        return self.stack.services[name]

    def keep(self) -> None:
        """What an orchestrator does: whoever has ended is started again; an end that nobody asked for is noted."""
        for name, service in self.stack.services.items():
            if service.alive:
                continue
            if name not in self.resting:
                code = service.returncode
                asked = name in self.expected or (code == 3 and self.registry_refuses)
                self.expected.discard(name)
                if not asked:
                    self.exits.append((name, code))
                self.resting[name] = time.monotonic() if asked else time.monotonic() + 0.5
            if time.monotonic() >= self.resting[name]:
                del self.resting[name]
                service.start(wait=False)

    # --- ends ---

    def heal(self) -> None:
        """Everything that lasts is taken back."""
        self.shared.proxy.heal()
        for clock in self.clocks.values():
            clock.jump(0.0)
        self.shared.registry.failing = None
        self.registry_refuses = False
        if self.drop is not None:
            self.drop.end()
        self.shared.broker.resume()
        if not self.shared.broker.alive:
            self.shared.broker.start()
        for name in list(self.frozen):
            self.instance(name).resume()
            self.frozen.discard(name)
        self.stack.simulator.fault("clear")
        self.stack.simulator.fault("layout", name="current")
        self.stack.simulator.fault("handshake", attempts=0)

    def settle(self, seconds: float) -> bool:
        """Close the market and wait until everything is in the topic and one instance writes."""
        self.stack.simulator.market("stop")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.keep()
            roles = [self.role(name) for name in NAMES]
            if sorted(map(str, roles)) == ["active", "standby"]:
                writer = NAMES[roles.index("active")]
                if all(self.stack.caught_up(name) for name in (writer, *self.others)):
                    return True
            time.sleep(0.2)
        return False

    def unsettled(self) -> str:
        """What each instance is and what it lacks, for the report of a run that did not settle."""
        state = self.stack.simulator.state()["symbols"]
        texts = []
        for name in NAMES:
            committed = self.stack.committed(name)
            behind = [f"{one} {committed[one]} of {state[one]['last_id']}" for one in sorted(committed) if one in state]
            behind = [text for text in behind if len(set(text.split()[1::2])) > 1]
            texts.append(f"{name} {self.role(name)}, behind: {', '.join(behind[:5]) or 'none'}")
        return "; ".join(texts)

    def conclude(self, *, to_head: bool) -> tuple[int, dict[str, Any], dict[str, int | None]]:
        """Stop the services and audit: the auditor's exit code, its report, the services' exit codes.

        Where not everything has arrived (``to_head``), what is late is not called lost.
        """
        codes = {name: service.terminate() for name, service in self.stack.services.items()}
        code, audit = self.stack.audit(*self._tolerance(), expect_to_head=to_head)
        return code, audit, codes

    def _tolerance(self) -> tuple[str, ...]:
        return ("--clock-tolerance", "7200") if self.clocks_moved else ()

    def audit_streams(self) -> dict[str, dict[str, Any]]:
        """Audit every stream besides the trades, after ``conclude``; returns the reports."""
        streams = self.stack.settings().get("K2_BINANCE_STREAMS", "trade").split(",")
        return {one: self.stack.audit_stream(one, *self._tolerance())[1] for one in streams if one != "trade"}
