"""What every drill runs on: the real Kafka, a registry, the simulator, services, a consumer and a report."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.harness.consumer import CommittedConsumer
from tests.harness.environment import Environment, ResourceSampler
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT
from tests.harness.registry import Registry
from tests.harness.stack import Stack

MB = 2**20
AUDITED = ("missing", "duplicated", "reordered", "altered")


class DrillEnvironment(Environment):
    """One drill's parts; everything is stopped at its end."""

    def __init__(self, name: str, simulator: Sequence[str], settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._simulator = simulator
        self._settings = settings
        super().__init__(Path(tempfile.mkdtemp(prefix=f"k2-{name}-")))
        self.began = time.monotonic()
        self.audit_options: tuple[str, ...] = ()
        """Further options of the audit in the end."""

    def open(self) -> None:
        """Start everything but the services."""
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
        self.consumer = self._exit.enter_context(CommittedConsumer(self.broker.bootstrap_servers))
        self.resources = self._exit.enter_context(ResourceSampler(self.stack.services))

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
            "rss_max_mb": round(self.resources.rss_max / MB, 1),
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
