"""Where a row is played: a registry, the simulator, one service and a consumer of its topic, around a given broker."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness.consumer import CommittedConsumer
from tests.harness.environment import Environment
from tests.harness.registry import Registry
from tests.harness.stack import Stack

SYMBOLS = 8
SIMULATOR = ("--symbols", str(SYMBOLS), "--rate", "300")
SETTINGS = {
    "K2_BINANCE_VOID_CONFIRM_SECONDS": "4",
    "K2_BINANCE_BACKOFF_MAXIMUM_SECONDS": "2",
    "K2_READY_MAX_COMMIT_AGE_SECONDS": "5",
}
START = 90.0
"""Seconds for anything to begin on a machine that is busy."""


class BrokerEnvironment(Environment):
    """Everything around a broker; the service is started by ``begin``."""

    def __init__(
        self,
        directory: Path,
        bootstrap_servers: str,
        *,
        name: str,
        replication_factor: int = 1,
        simulator: Sequence[str] = SIMULATOR,
    ) -> None:
        super().__init__(directory / name)
        self._bootstrap = bootstrap_servers
        self._name = name
        self._replication_factor = replication_factor
        self._simulator = simulator

    def open(self) -> None:
        """Start the registry, the simulator and the consumer."""
        self.registry = self._exit.enter_context(Registry())
        self.stack = Stack(
            self.directory,
            bootstrap_servers=self._bootstrap,
            registry_url=self.registry.url,
            simulator=self._simulator,
            settings=SETTINGS,
            topic=f"trades.{self._name}",
            replication_factor=self._replication_factor,
        )
        self._exit.enter_context(self.stack)
        self.consumer = self._exit.enter_context(CommittedConsumer(self._bootstrap, self.stack.topic))

    def begin(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the service and wait until it writes every symbol."""
        self.stack.service("blue", **(settings or {}))  # type: ignore[arg-type]  # names of settings, no option
        self.until(self.stack.writing, "the service as writer", START)
        self.until(lambda: len(self.stack.committed()) == SYMBOLS, "all symbols in Kafka", START)
        self.flowing(START)

    def flowing(self, seconds: float) -> None:
        """Wait until a consumer gets something new from each partition."""
        if not self.consumer.wait_each(seconds):
            raise TimeoutError(f"a consumer got nothing new from some partition for {seconds:g} s")

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
        """Wait for anything; returns the seconds."""
        return self.stack.wait(condition, what, seconds=seconds)

    def conclude(self, seconds: float = 120.0) -> tuple[dict[str, Any], list[str]]:
        """Close the market, wait, stop the service, audit; returns the audit's totals and what is wrong."""
        problems = []
        self.simulator.market("stop")
        try:
            self.until(self.stack.caught_up, "the last trade in Kafka", seconds)
        except TimeoutError as error:
            problems.append(str(error).splitlines()[0])
        if not self.service.alive:
            problems.append(f"the service has ended by itself with {self.service.returncode}")
        code = self.service.terminate()
        if code != 0:
            problems.append(f"the service ended with {code}")
        verdict, audit = self.stack.audit()
        if verdict != 0:
            problems.append(f"audit: {audit['verdict']}: {audit['reason']}")
        if not audit["totals"]["committed"]:
            problems.append("nothing was committed")
        return audit["totals"], problems


def elapsed(since: float) -> float:
    """Seconds since a monotonic moment."""
    return time.monotonic() - since
