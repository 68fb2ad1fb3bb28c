"""Everything that a soak runs on: the exchange (simulated or real), Kafka, the registry, Prometheus and the service."""

import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ingest_ops.common.audit_runner import AuditResult, run_audit
from ingest_ops.render.files import write_json
from ingest_ops.soak import report
from ingest_ops.soak.calibration import Recording
from ingest_ops.soak.cli import known_rates, record_path
from ingest_ops.soak.engine import Engine
from ingest_ops.soak.judge import Judgement
from ingest_ops.soak.plan import MB, Plan
from ingest_ops.soak.record import CANDIDATE, PREVIOUS, Record
from ingest_ops.soak.sources import TIMEOUT, PrometheusSource, Source
from tests.harness.environment import Environment
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, ServiceProcess
from tests.harness.prometheus import Prometheus
from tests.harness.registry import Registry
from tests.harness.stack import TOPIC, Stack

BINANCE = "https://api.binance.com"
LEAKY = "leaky"


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What the service listens to, and how it is set."""

    exchange: str = "simulator"
    """``simulator``, or ``binance`` for the real exchange."""
    symbols: int = 50
    rate: float = 2000.0
    """Trades per second, simulator alone."""
    seed: int = 1
    rotation_seconds: float = 600.0
    settings: Mapping[str, str] | None = None
    previous: Path | None = None
    """A checkout of the previous release: it runs beside the candidate on the same feed."""
    leak_bytes_per_trade: int = 0
    """A leak planted in the service."""
    leaky_beside: int = 0
    """A second instance named ``leaky`` with its own topic; it leaks so many bytes a trade from SIGUSR1 on."""
    scrape_seconds: float = 5.0
    """At most a third of the time between two samples: each needs a scrape of its own."""

    def describe(self) -> str:
        """For the report."""
        if self.exchange == "binance":
            return "Binance"
        return f"simulator, {self.symbols} symbols, {self.rate:,.0f} trades/s, seed {self.seed}"


class SoakEnvironment(Environment):
    """A context in which the service records; ``soak`` watches it."""

    def __init__(self, directory: Path, feed: Feed) -> None:
        super().__init__(directory)
        self.feed = feed

    def open(self) -> None:
        """Start everything; returns when every instance writes."""
        self.kafka = self._exit.enter_context(KafkaBroker(self.directory / "kafka", heap="768m"))
        self.registry = self._exit.enter_context(Registry())
        options = [
            "--symbols", str(self.feed.symbols), "--rate", f"{self.feed.rate:g}", "--seed", str(self.feed.seed),
        ]  # fmt: skip
        self.stack = Stack(
            self.directory,
            bootstrap_servers=self.kafka.bootstrap_servers,
            registry_url=self.registry.url,
            simulator=options,
            settings=self._settings(),
        )
        self._exit.enter_context(self.stack)
        self.services = {CANDIDATE: self._service(CANDIDATE, ROOT)}
        if self.feed.previous is not None:
            self.services[PREVIOUS] = self._service(PREVIOUS, self.feed.previous)
        if self.feed.leaky_beside:
            self.services[LEAKY] = self._service(LEAKY, ROOT)
        for name, service in self.services.items():
            self.stack.services[name] = service
            self.stack.wait(functools.partial(self.stack.writing, name), f"{name} as writer", seconds=120)
        self.prometheus = self._exit.enter_context(
            Prometheus(
                self.directory / "prometheus",
                {service.url: {"slot": name} for name, service in self.services.items()},
                scrape_seconds=self.feed.scrape_seconds,
            )
        )

    def _settings(self) -> dict[str, str]:
        settings = {"K2_BINANCE_CONNECTION_MAX_LIFETIME_SECONDS": f"{self.feed.rotation_seconds:g}"}
        if self.feed.exchange == "binance":
            settings |= {
                "K2_BINANCE_WEBSOCKET_URL": "wss://stream.binance.com:9443",
                "K2_BINANCE_REST_URL": BINANCE,
                "K2_BINANCE_SYMBOLS": os.environ.get("SOAK_SYMBOLS", "BTCUSDT,ETHUSDT"),
            }
        return settings | dict(self.feed.settings or {})

    def _service(self, name: str, checkout: Path) -> ServiceProcess:
        settings = self.stack.settings()
        module: tuple[str, ...] = ("ingest", "run")
        leak = {CANDIDATE: self.feed.leak_bytes_per_trade, LEAKY: self.feed.leaky_beside}.get(name, 0)
        if leak:
            settings["SOAK_LEAK_BYTES_PER_TRADE"] = str(leak)
            module = ("tests.campaigns.soak.leaky", "run")
        if name == LEAKY:
            settings["SOAK_LEAK_ON_SIGNAL"] = "yes"
        if name != CANDIDATE:
            settings["K2_KAFKA_TOPIC"] = f"{TOPIC}.{name}"
            self._topics(settings)
        if checkout != ROOT:
            settings["PYTHONPATH"] = str(checkout)
        process = ServiceProcess(self.directory, settings, instance=name, module=module)
        process.working_directory = checkout
        process.start()
        self._exit.callback(process.terminate, 15.0)
        return process

    def _topics(self, settings: Mapping[str, str]) -> None:
        subprocess.run(
            [sys.executable, "-m", "ingest", "topics", "--replication-factor", "1", "--partitions", "2"],
            env={**os.environ, **settings}, cwd=ROOT, check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def sources(self) -> dict[str, Source]:
        """One for each instance, from Prometheus."""
        client = self._exit.enter_context(httpx2.Client(timeout=TIMEOUT, trust_env=False))
        return {name: PrometheusSource(self.prometheus.url, f'slot="{name}"', client=client) for name in self.services}

    def environment(self) -> dict[str, object]:
        """For the report: what a reader needs to believe or repeat it."""
        feed, model = self.feed, platform.processor() or platform.machine()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        return {
            "feed": feed.describe(),
            "rotations": f"each {feed.rotation_seconds:g} s at most",
            "planted leak": f"{feed.leak_bytes_per_trade} bytes a trade" if feed.leak_bytes_per_trade else "none",
            "kafka": "Apache Kafka, one broker, transactions",
            "scrape interval": f"{feed.scrape_seconds:g} s",
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs ({model}), {memory:.0f} GiB",
        }

    def gone(self) -> str | None:
        """How the candidate's process ended; ``None`` while it runs."""
        service = self.services[CANDIDATE]
        return None if service.alive else f"exit code {service.returncode}: {service.tail(3)}"

    def soak(self, run_id: str, plan: Plan, reports: Path, progress: Callable[[str], None] = print) -> Record:
        """Watch until it is over. The record is where ``ingest_ops soak report`` finds it."""
        self.wait_for_scrape()
        path = record_path(reports, run_id)
        engine = Engine.start(
            path, run_id, plan, self.sources(), clock=clock, environment=self.environment(), watch=self.gone
        )
        said = 0
        while True:
            state = engine.tick()
            for event in itertools.islice(engine.record.events, said, None):
                progress(f"{event['kind']}: {event['text']}")
            said = len(engine.record.events)
            if state != "running":
                return engine.record
            time.sleep(max(engine.next_due(), min(2.0, plan.sample_seconds / 4)))

    def wait_for_scrape(self) -> None:
        """Until Prometheus has seen every instance."""
        self.stack.wait(
            lambda: len(self.prometheus.query("process_resident_memory_bytes")) >= len(self.services),
            "the first scrape",
            seconds=60,
        )

    def audit(self, figures: Path) -> AuditResult:
        """Stop the market, let everything be committed, end the service, and let the auditor read the topic."""
        service = self.services[CANDIDATE]
        ledger = ["--ledger-rest", BINANCE]
        if self.feed.exchange == "simulator":
            self.stack.simulator.market("stop")
            self.stack.wait(lambda: self.stack.caught_up(CANDIDATE), "the last trade in Kafka", seconds=300)
            ledger = ["--ledger", self.stack.simulator.admin_url, "--expect-to-head"]
        service.terminate(30.0)
        return run_audit([*self.audit_command(), *ledger], figures, directory=ROOT)

    def audit_command(self) -> list[str]:
        """The auditor on the candidate's topic; the ledger is the caller's choice."""
        topic = self.stack.topic
        return [
            sys.executable, "-m", "ingest", "audit",
            "--bootstrap-servers", self.stack.bootstrap_servers,
            "--schema-registry-url", self.registry.url,
            "--topic", topic, "--positions-topic", f"{topic}.positions",
            "--timeout", "120",
        ]  # fmt: skip

    def noise(self, record: Record, path: Path) -> None:
        """Keep the candidate's resident memory as finely as it was scraped: what the calibration is made from."""
        end = record.ended or record.samples[-1].at
        found = self.prometheus.query(
            f'process_resident_memory_bytes{{slot="{CANDIDATE}"}}[{int(end - record.started)}s]', end
        )
        values: Any = found[0]["values"]
        sizes = [round(float(value) / MB, 3) for _, value in values]
        write_json(path, Recording(record.run_id, self.feed.scrape_seconds, sizes).as_json(), indent=None)


def clock() -> float:
    """Seconds since 1970."""
    return time.time_ns() / 1e9


def soak(
    directory: Path, feed: Feed, plan: Plan, run_id: str, reports: Path
) -> tuple[Judgement, Record, dict[str, Path]]:
    """All of it: run, audit, judge, report."""
    with SoakEnvironment(directory, feed) as world:
        record = world.soak(run_id, plan, reports)
        world.noise(record, record_path(reports, f"{run_id}.noise"))
        audit = world.audit(record_path(reports, f"{run_id}.audit"))
    judgement, paths = report.write(reports, record, audit, known_rates(), now=clock())
    sys.stdout.write(json.dumps({"verdict": judgement.verdict, "report": str(paths["html"])}) + "\n")
    return judgement, record, paths
