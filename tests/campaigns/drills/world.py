"""What every drill stands on: the real Kafka, a registry, the simulator, services, eyes on the topic and a report."""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer

from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, ServiceProcess
from tests.harness.registry import Registry
from tests.harness.stack import TOPIC, Stack
from tests.harness.topics import beginning

MB = 2**20
AUDITED = ("missing", "duplicated", "reordered", "altered")


class Eyes(threading.Thread):
    """Reads the trades topic as a consumer would (``read_committed``) and remembers when what became visible."""

    def __init__(self, bootstrap_servers: str, topic: str = TOPIC) -> None:
        super().__init__(name="eyes", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers, "group.id": "eyes", "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10, "enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 0,
            }
        )  # fmt: skip
        self._topic = topic
        self._closing = threading.Event()
        self._seen = threading.Condition()
        self.count = 0
        self.last_at = 0.0
        self.longest_gap = 0.0
        """The longest time without anything new since ``forget_gap``."""

    def run(self) -> None:
        self._consumer.assign(beginning(self._consumer, self._topic))
        while not self._closing.is_set():
            if self._consumer.poll(0.1) is None:
                continue
            more = len(self._consumer.consume(10_000, 0))
            with self._seen:
                now = time.monotonic()
                if self.last_at:
                    self.longest_gap = max(self.longest_gap, now - self.last_at)
                self.count += 1 + more
                self.last_at = now
                self._seen.notify_all()
        self._consumer.close()

    def forget_gap(self) -> None:
        """Begin to look for the longest gap anew."""
        with self._seen:
            self.longest_gap = 0.0
            self.last_at = time.monotonic()

    def wait_new(self, since: int, seconds: float) -> bool:
        """Wait until more than ``since`` records have become visible."""
        with self._seen:
            return self._seen.wait_for(lambda: self.count > since, seconds)

    def quiet(self, seconds: float, limit: float = 20.0) -> int:
        """Wait until nothing new has come for ``seconds``; returns the count."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and time.monotonic() - self.last_at < seconds:
            time.sleep(0.05)
        return self.count

    def close(self) -> None:
        """Leave."""
        self._closing.set()
        self.join(5)


class Scales(threading.Thread):
    """Weighs the services twice a second."""

    def __init__(self, services: Mapping[str, ServiceProcess]) -> None:
        super().__init__(name="scales", daemon=True)
        self._services = services
        self._closing = threading.Event()
        self.heaviest = 0

    def run(self) -> None:
        while not self._closing.wait(0.5):
            for service in list(self._services.values()):
                self.heaviest = max(self.heaviest, service.rss())

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self.join(2)


class World:
    """One drill's parts; everything is stopped at its end."""

    def __init__(self, name: str, simulator: Sequence[str], settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._simulator = simulator
        self._settings = settings
        self._exit = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=f"k2-{name}-"))
        self.began = time.monotonic()
        self.audit_options: tuple[str, ...] = ()
        """Further options of the audit in the end."""

    def __enter__(self) -> Self:
        with self._exit:
            self.broker = self._exit.enter_context(KafkaBroker(self.directory / "kafka"))
            registry = self._exit.enter_context(Registry())
            self.stack = self._exit.enter_context(
                Stack(
                    self.directory,
                    bootstrap_servers=self.broker.bootstrap_servers,
                    registry_url=registry.url,
                    simulator=self._simulator,
                    settings=self._settings,
                )
            )
            self.eyes = Eyes(self.broker.bootstrap_servers)
            self._exit.callback(self.eyes.close)
            self.eyes.start()
            self.scales = Scales(self.stack.services)
            self._exit.callback(self.scales.close)
            self.scales.start()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def say(self, text: str) -> None:
        """A line of progress."""
        sys.stdout.write(f"{time.monotonic() - self.began:7.1f} s  {text}\n")
        sys.stdout.flush()

    def settle(self, *instances: str, seconds: float = 300.0) -> float:
        """Close the market and wait until one of the instances has everything in Kafka; returns the seconds."""
        self.stack.simulator.market("stop")
        seconds = self.stack.wait(
            lambda: any(self.stack.writing(one) and self.stack.caught_up(one) for one in instances),
            "the last trade in Kafka",
            seconds=seconds,
        )
        self.say(f"the market is closed; everything is in Kafka {seconds:.1f} s later")
        return seconds

    def conclude(self, figures: Mapping[str, object], *, also: Mapping[str, bool] | None = None) -> int:
        """Stop the services, audit, print a table, write the report; returns the exit code."""
        codes = {name: service.terminate() for name, service in self.stack.services.items()}
        code, audit = self.stack.audit(*self.audit_options)
        totals = audit["totals"]
        checks = {
            "audit": code == 0 and totals["committed"] > 0,
            "exit codes": all(value == 0 for value in codes.values()),
            **(also or {}),
        }
        summary: dict[str, Any] = {
            "schema_version": 1,
            "drill": self.name,
            "verdict": "PASS" if all(checks.values()) else "FAIL",
            "checks": checks,
            "trades_sent": totals["ledger"],
            "trades_committed": totals["committed"],
            **{name: totals[name] for name in (*AUDITED, "voids")},
            "rss_max_mb": round(self.scales.heaviest / MB, 1),
            "seconds": round(time.monotonic() - self.began, 1),
            **figures,
        }
        report = ROOT / "reports" / "drills" / f"{self.name}.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(summary, indent=2) + "\n")
        for name, value in summary.items():
            if isinstance(value, int | float | str):
                sys.stdout.write(f"  {name:28}  {f'{value:,}' if isinstance(value, int) else value}\n")
        for name, good in checks.items():
            sys.stdout.write(f"  {'check: ' + name:28}  {'ok' if good else 'FAILED'}\n")
        if summary["verdict"] == "PASS" and "KEEP" not in os.environ:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            sys.stdout.write(f"  logs are in {self.directory}\n")
        return 0 if summary["verdict"] == "PASS" else 1


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th percentile and maximum, milliseconds resolution."""
    if not seconds:
        return {"p50": None, "p95": None, "max": None}
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))
    return {"p50": round(median(ordered), 3), "p95": round(ordered[at], 3), "max": round(ordered[-1], 3)}


def run(drill: Callable[[], int]) -> None:
    """Run a drill as the whole process."""
    sys.exit(drill())
