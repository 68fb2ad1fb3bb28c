"""What every campaign runs on: parts that start together, and what all campaigns ask of them."""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.processes import ServiceProcess, SimulatorProcess
from tests.harness.stack import PATIENCE, Stack


class Environment:
    """Starts its parts in ``open`` and stops them in reverse order, also if one of them fails to start."""

    stack: Stack

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._exit = ExitStack()

    def open(self) -> None:
        """Start the parts: enter each in ``self._exit``."""

    def __enter__(self) -> Self:
        with self._exit:
            self.open()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def simulator(self) -> SimulatorProcess:
        """The exchange."""
        return self.stack.simulator

    @property
    def service(self) -> ServiceProcess:
        """The instance ``blue``."""
        return self.stack.services["blue"]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> float:
        """Wait; returns the seconds. Raises ``TimeoutError``."""
        return self.stack.wait(condition, what, seconds=seconds)

    def metric(self, name: str) -> float:
        """Sum of a series of ``blue`` over its labels."""
        return sum(value for key, value in self.service.metrics().items() if key == name or key.startswith(f"{name}{{"))

    def heads(self) -> dict[str, int]:
        """Symbol -> last id that the exchange has made."""
        return {symbol: entry["last_id"] for symbol, entry in self.simulator.state()["symbols"].items()}

    def wait_committed(self, heads: Mapping[str, int], seconds: float = PATIENCE) -> float:
        """Wait until ``blue`` has committed everything up to these ids; returns the seconds."""

        def reached() -> bool:
            committed = self.stack.committed()
            return all(committed.get(symbol, -1) >= head for symbol, head in heads.items())

        return self.until(reached, "what was traded during the fault in Kafka", seconds)


class ResourceSampler(threading.Thread):
    """Samples the resident memory of services twice a second."""

    def __init__(self, services: Mapping[str, ServiceProcess]) -> None:
        super().__init__(name="resources", daemon=True)
        self._services = services
        self._closing = threading.Event()
        self.rss_max = 0
        """Bytes, of the largest service."""

    def run(self) -> None:
        while not self._closing.wait(0.5):
            for service in list(self._services.values()):
                self.rss_max = max(self.rss_max, service.rss())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.join(2)
