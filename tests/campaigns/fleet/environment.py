"""What a fleet campaign runs on: the real Kafka, the simulator with its real limits, and the log of all writers."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness.environment import Environment
from tests.harness.fleet import Fleet, WriterLog, fleet_settings
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ServiceProcess
from tests.harness.registry import Registry
from tests.harness.stack import Stack

CONNECTS, CONNECT_SECONDS = 300, 300.0
"""Handshakes that the exchange allows an address."""


@dataclass(frozen=True)
class Plan:
    """What is played."""

    faults: int = 40
    seed: int = 1
    symbols: int = 60
    rate: int = 1000
    shards: int = 6
    instances: int = 3
    standbys: int = 0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Plan":
        """Read the plan; raises ``ValueError`` for what is no number."""
        return cls(**{name: int(environment.get(name.upper(), default)) for name, default in vars(cls()).items()})


class Handshakes(threading.Thread):
    """Samples how many handshakes the exchange has had, and keeps the most in any of its windows."""

    def __init__(self, count: Callable[[], int]) -> None:
        """``count``: all handshakes until now; none before this is made. May raise what a failed request does."""
        super().__init__(name="handshakes", daemon=True)
        self._count = count
        self._closing = threading.Event()
        self._samples = [(time.monotonic(), 0)]
        self.taken, self.failed = 0, 0
        """Samples."""
        self.most = 0
        """In a window."""

    def run(self) -> None:
        """Sample once a second until closed."""
        while not self._closing.wait(1.0):
            self.sample(time.monotonic())

    def sample(self, now: float) -> None:
        """Take one."""
        try:
            count = self._count()
        except (OSError, ValueError, KeyError):
            self.failed += 1
            return
        self.taken += 1
        self._samples = [one for one in self._samples if now - one[0] <= CONNECT_SECONDS] + [(now, count)]
        self.most = max(self.most, count - self._samples[0][1])

    @property
    def within_limit(self) -> bool:
        """Whether handshakes were seen and never too many; not without samples, or if one in ten is missing."""
        return 0 < self.most <= CONNECTS and self.failed * 10 <= self.taken

    def __enter__(self) -> "Handshakes":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.join(10)


class FleetEnvironment(Environment):
    """Everything but the instances."""

    def __init__(self, plan: Plan, *, bootstrap_servers: str | None = None) -> None:
        """``bootstrap_servers``: of a broker that runs already."""
        super().__init__(Path(tempfile.mkdtemp(prefix="k2-fleet-")))
        self.plan = plan
        self._bootstrap_servers = bootstrap_servers
        self.began = time.monotonic()

    def open(self) -> None:
        """Start it."""
        plan, servers = self.plan, self._bootstrap_servers
        if servers is None:
            servers = self._exit.enter_context(KafkaBroker(self.directory / "kafka")).bootstrap_servers
        registry = self._exit.enter_context(Registry())
        self.stack = self._exit.enter_context(
            Stack(
                self.directory,
                bootstrap_servers=servers,
                registry_url=registry.url,
                simulator=(
                    "--symbols", str(plan.symbols), "--rate", str(plan.rate), "--seed", str(plan.seed),
                    "--max-connects", str(CONNECTS),
                ),
                settings=fleet_settings(
                    plan.shards,
                    K2_STANDBY_WARM=str(plan.standbys),
                    K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES=str(CONNECTS),
                    K2_FLEET_LEAVE_TIMEOUT_SECONDS="30",
                ),
                topic=f"fleet-{plan.seed}-{time.monotonic_ns()}",
            )
        )  # fmt: skip
        self.fleet = Fleet(self.stack, plan.shards)
        topic = f"{self.stack.topic}.positions"
        self.log = self._exit.enter_context(WriterLog(self.stack.bootstrap_servers, topic, plan.shards))
        self.handshakes = self._exit.enter_context(
            Handshakes(lambda: int(self.stack.simulator.state()["counters"].get("handshakes", 0)))
        )

    def instance(self, name: str) -> ServiceProcess:
        """Start an instance, or start it again; it is not waited for."""
        service = self.stack.services.get(name) or self.stack.service(name, start=False)
        if not service.alive:
            service.start(wait=False)
        return service

    @property
    def running(self) -> list[str]:
        """Names of the instances that run."""
        return sorted(name for name, service in self.stack.services.items() if service.alive)

    def say(self, text: str) -> None:
        """A line of progress."""
        sys.stdout.write(f"{time.monotonic() - self.began:7.1f} s  {text}\n")
        sys.stdout.flush()
