"""Where the rows are played: Kafka, a registry, the simulator and one service, measured around each fault."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.environment import Environment
from tests.harness.kafka import KafkaBroker
from tests.harness.preloaded import NoCompilerError
from tests.harness.processes import http_json
from tests.harness.registry import Registry
from tests.harness.stack import PATIENCE, Stack
from tests.harness.wall_clock import WallClock

TOKEN = "a-token-for-tests-only"  # noqa: S105
SIMULATOR = ("--symbols", "8", "--rate", "400", "--ping-interval", "1", "--pong-timeout", "5")
SETTINGS = {
    "K2_BINANCE_DUAL_CONNECTIONS": "true",
    "K2_BINANCE_VOID_CONFIRM_SECONDS": "4",
    "K2_BINANCE_BACKOFF_MAXIMUM_SECONDS": "2",
    "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES": "280",
    "K2_BINANCE_HEALTH_CHECK_INTERVAL": "5",
    "K2_BINANCE_HEALTH_CHECK_TIMEOUT": "5",
    "K2_BINANCE_OPEN_TIMEOUT_SECONDS": "3",
    "K2_BINANCE_REST_TIMEOUT_SECONDS": "3",
    "K2_BINANCE_ROTATION_OVERLAP_SECONDS": "3",
}


def _wall_clock(file: Path) -> WallClock | None:
    try:
        return WallClock(file)
    except NoCompilerError:
        if os.environ.get("CI"):
            raise
        return None


class FaultEnvironment(Environment):
    """The parts, on directories and ports of their own."""

    def __init__(self, directory: Path, broker: KafkaBroker, registry: Registry, name: str = "faults") -> None:
        super().__init__(directory / name)
        self.stack = Stack(
            self.directory,
            bootstrap_servers=broker.bootstrap_servers,
            registry_url=registry.url,
            simulator=SIMULATOR,
            settings=SETTINGS,
            topic=f"trades.{name}",
        )
        self.wall_clock = _wall_clock(self.directory / "clock")
        """The service's time of day; None where it cannot be moved."""

    def open(self) -> None:
        """Start the simulator and the service, and wait until every symbol is in Kafka."""
        self._exit.enter_context(self.stack)
        clock = self.wall_clock.environment if self.wall_clock is not None else {}
        self._exit.callback(self.stack.service(start=True, **clock).resume)
        self.until(self.stack.writing, "the service as writer")
        self.until(lambda: len(self.stack.committed()) == 8, "all symbols in Kafka")

    def fault(self, kind: str, **options: Any) -> dict[str, Any]:
        """Inject a fault of the simulator."""
        return self.simulator.fault(kind, **options)

    def counters(self) -> dict[str, int]:
        """The simulator's."""
        return dict(self.simulator.state()["counters"])

    def rest_calls(self) -> int:
        """Calls for history and last ids that the exchange has had."""
        wanted = ("rest_calls:/api/v3/historicalTrades", "rest_calls:/api/v3/ticker/24hr")
        counters = self.counters()
        return sum(counters.get(name, 0) for name in wanted)

    def settled(self) -> int:
        """Wait until every symbol trades and nothing is asked of REST any more; returns the calls so far.

        The market stands still while it is audited, longer on a busy machine, and the service asks why.
        """
        self.wait_committed({symbol: head + 1 for symbol, head in self.heads().items()})
        calls, deadline = self.rest_calls(), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(1.0)
            before, calls = calls, self.rest_calls()
            if calls == before:
                break
        return calls

    def order(self, verb: str) -> None:
        """Give an order by the control API."""
        http_json(f"{self.service.control_url}/control/{verb}", method="POST", body={}, token=TOKEN, timeout=30)

    def audited(self, *, to_head: bool = True, options: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
        """Close the market, audit, open it again."""
        self.simulator.market("stop")
        try:
            if to_head:
                self.until(self.stack.caught_up, "the last trade in Kafka")
            else:
                time.sleep(1.0)
            # Row 21 moves clocks by an hour, and its records stay in the topic.
            return self.stack.audit(*options, "--clock-tolerance", "7200", expect_to_head=to_head)
        finally:
            self.simulator.market("start")
