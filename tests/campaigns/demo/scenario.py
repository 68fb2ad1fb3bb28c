"""What happens to the service in the demo's minute, and what is remembered of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.demo.view import View
from tests.harness.processes import ServiceProcess
from tests.harness.stack import Stack

INSTANCE = "blue"


@dataclass
class Outcome:
    """What was seen while it ran."""

    recoveries: list[dict[str, Any]] = field(default_factory=list)
    rotations: int = 0
    duplicates_dropped: int = 0
    gaps_filled: int = 0
    backfilled: int = 0
    rss_max: int = 0
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds since the market opened, trades sent, trades in Kafka."""
    events: list[tuple[float, str]] = field(default_factory=list)


class Scenario:
    """Rotation, dropped connection, a hole, ``kill -9``, shutdown notice: each at its share of the time."""

    def __init__(self, stack: Stack, view: View, *, seconds: float) -> None:
        self._stack = stack
        self._view = view
        self._seconds = seconds
        self._began = 0.0
        self._before_kill = (0.0, 0.0, 0.0, 0.0)
        self._totals = (0.0, 0.0, 0.0, 0.0)
        self.outcome = Outcome()

    @property
    def service(self) -> ServiceProcess:
        """The one instance."""
        return self._stack.services[INSTANCE]

    def run(self) -> None:
        """Live through everything; returns when the time is up."""
        self._began = time.monotonic()
        steps: list[tuple[float, str, Callable[[], None]]] = [
            (0.08, "rotation asked for: the new connection opens before the old one closes", self._rotate),
            (0.22, "the exchange resets the connection", lambda: self._fault("reset")),
            (
                0.36,
                "the exchange leaves 25 trades out of the stream (REST has them)",
                lambda: self._fault("gap", count=25),
            ),
            (0.48, "kill -9 of the service", self._kill),
            (0.60, "the exchange announces a shutdown and closes", lambda: self._fault("server_shutdown", lead_s=2.0)),
            (0.72, "the exchange loses 3 trades for good", lambda: self._fault("void", count=3)),
        ]
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,), name="watch", daemon=True)
        watcher.start()
        try:
            for share, text, act in steps:
                self._until(share)
                self._view.event(text)
                self.outcome.events.append((round(time.monotonic() - self._began, 2), text))
                act()
            self._until(1.0)
        finally:
            stop.set()
            watcher.join(5)

    def _until(self, share: float) -> None:
        time.sleep(max(0.0, self._began + share * self._seconds - time.monotonic()))

    def _rotate(self) -> None:
        from tests.harness.processes import http_json

        http_json(
            f"{self.service.control_url}/control/rotate",
            method="POST",
            body={},
            token=self._stack.settings()["K2_CONTROL_TOKEN"],
        )

    def _fault(self, kind: str, **parameters: object) -> None:
        before = sum(self._stack.committed().values())
        at = time.monotonic()
        self._stack.simulator.fault(kind, **parameters)
        self._recovered(kind, at, before)

    def _kill(self) -> None:
        before = sum(self._stack.committed().values())
        self._before_kill = self._totals
        self.service.kill()
        at = time.monotonic()
        time.sleep(0.3)
        self.service.start()
        self._recovered("kill", at, before)

    def _recovered(self, kind: str, at: float, before: int) -> None:
        """Wait until more is committed than before the fault, and note how long that took."""
        limit = at + 20.0
        while time.monotonic() < limit:
            if sum(self._stack.committed().values()) > before:
                seconds = time.monotonic() - at
                self.outcome.recoveries.append({"fault": kind, "seconds": round(seconds, 3)})
                self._view.event(f"committing again {seconds:.2f} s later")
                return
            time.sleep(0.01)
        self.outcome.recoveries.append({"fault": kind, "seconds": None})
        self._view.event(f"nothing was committed within 20 s of {kind!r}")

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            self.look()

    def books(self) -> dict[str, int]:
        """How many order books are recorded and in sync, once all of them are or a few seconds have passed."""
        books: dict[str, int] = {}
        limit = time.monotonic() + 15.0
        while time.monotonic() < limit and not books.get("in_sync", 0) == books.get("recorded", -1) > 0:
            time.sleep(0.1)
            try:
                books = dict(self.service.status()["streams"]["depth"]["books"])
            except (OSError, ValueError, KeyError):
                continue
        return books

    def look(self) -> None:
        """Read the service's own figures; a killed process takes its counters along, so they are added up."""
        try:
            samples = self.service.metrics()
            positions = self._stack.committed(INSTANCE)
            symbols = self._stack.simulator.state()["symbols"]
        except (OSError, ValueError, KeyError):
            return
        sent = sum(entry["last_id"] - entry["first_id"] + 1 for entry in symbols.values())
        # By position, not by counter: a process that is killed takes its counters along. One that has just started
        # does not know the positions yet; they never go back.
        known = (last - symbols[symbol]["first_id"] + 1 for symbol, last in positions.items() if symbol in symbols)
        committed = max(sum(known), self.outcome.samples[-1][2] if self.outcome.samples else 0)

        def total(name: str) -> float:
            return sum(value for key, value in samples.items() if key == name or key.startswith(name + "{"))

        now = (
            total("binance_connection_rotations_total"),
            total("ingest_duplicates_dropped_total"),
            total("ingest_gaps_filled_total"),
            total("ingest_trades_backfilled_total"),
        )
        self._totals = tuple(a + b for a, b in zip(self._before_kill, now, strict=True))  # type: ignore[assignment]
        outcome = self.outcome
        outcome.rotations, outcome.duplicates_dropped, outcome.gaps_filled, outcome.backfilled = (
            int(value) for value in self._totals
        )
        outcome.rss_max = max(outcome.rss_max, self.service.rss())
        if positions:
            outcome.samples.append((round(time.monotonic() - self._began, 2), sent, committed))
        self._view.progress(
            {
                "sent": f"{sent:,}",
                "committed": f"{committed:,}",
                "holes open": int(total("ingest_gaps_open")),
                "back-filled": outcome.backfilled,
                "rotations": outcome.rotations,
                "rss": f"{self.service.rss() / 2**20:.0f} MB",
            }
        )
