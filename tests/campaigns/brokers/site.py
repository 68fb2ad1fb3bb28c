"""Where a row is played: a registry, the simulator, one service and eyes on its topic, around a given broker."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.campaigns.brokers.eyes import PartitionEyes
from tests.harness.processes import ServiceProcess, SimulatorProcess
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


class Site:
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
        self._exit = ExitStack()
        self._bootstrap = bootstrap_servers
        self._name = name
        self._directory = directory / name
        self._replication_factor = replication_factor
        self._simulator = simulator

    def __enter__(self) -> Self:
        with self._exit:
            self.registry = self._exit.enter_context(Registry())
            self.stack = Stack(
                self._directory,
                bootstrap_servers=self._bootstrap,
                registry_url=self.registry.url,
                simulator=self._simulator,
                settings=SETTINGS,
                topic=f"trades.{self._name}",
                replication_factor=self._replication_factor,
            )
            self._exit.enter_context(self.stack)
            self.eyes = self._exit.enter_context(PartitionEyes(self._bootstrap, self.stack.topic))
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def service(self) -> ServiceProcess:
        """The one service."""
        return self.stack.services["blue"]

    @property
    def simulator(self) -> SimulatorProcess:
        return self.stack.simulator

    def begin(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the service and wait until it writes every symbol."""
        self.stack.service("blue", **(settings or {}))  # type: ignore[arg-type]  # names of settings, no option
        self.until(self.stack.writing, "the service as writer", START)
        self.until(lambda: len(self.stack.committed()) == SYMBOLS, "all symbols in Kafka", START)
        self.flowing(START)

    def flowing(self, seconds: float) -> None:
        """Wait until a consumer gets something new from each partition."""
        if not self.eyes.wait_more(seconds):
            raise TimeoutError(f"a consumer got nothing new from some partition for {seconds:g} s")

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
        """Wait for anything; returns the seconds."""
        return self.stack.wait(condition, what, seconds=seconds)

    def metric(self, name: str) -> float:
        """Sum of a series over its labels."""
        return sum(value for key, value in self.service.metrics().items() if key == name or key.startswith(f"{name}{{"))

    def heads(self) -> dict[str, int]:
        """Symbol -> last id that the exchange has made."""
        return {symbol: entry["last_id"] for symbol, entry in self.simulator.state()["symbols"].items()}

    def behind(self, heads: Mapping[str, int], seconds: float) -> float:
        """Wait until everything up to these ids is committed; returns the seconds."""

        def reached() -> bool:
            committed = self.stack.committed()
            return all(committed.get(symbol, -1) >= head for symbol, head in heads.items())

        return self.until(reached, "what was traded during the fault in Kafka", seconds)

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

    def keep_logs(self, where: Path) -> None:
        """Copy what the parts have logged."""
        shutil.copytree(self._directory, where, dirs_exist_ok=True)


def elapsed(since: float) -> float:
    """Seconds since a monotonic moment."""
    return time.monotonic() - since
