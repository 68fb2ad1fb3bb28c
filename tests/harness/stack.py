"""Simulator, Kafka, registry and service as one: what the demo, the integration tests and the chaos runner stand on."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingest.core.streams import STREAMS
from tests.harness.processes import ROOT, ServiceProcess, SimulatorProcess, inherited

TOPIC = "market.crypto.trades.binance"
PATIENCE = 180.0
"""For what takes a second or two on a machine with nothing else to do."""


class Stack:
    """One exchange, one broker (given), one registry (given), any number of service instances on one topic."""

    def __init__(
        self,
        directory: Path,
        *,
        bootstrap_servers: str,
        registry_url: str,
        simulator: Sequence[str],
        settings: Mapping[str, str] | None = None,
        topic: str = TOPIC,
        service_bootstrap_servers: str | None = None,
        symbols: str = "*",
        replication_factor: int = 1,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.bootstrap_servers = bootstrap_servers
        self.registry_url = registry_url
        self.topic = topic
        self.simulator = SimulatorProcess(directory, *simulator)
        self._settings = dict(settings or {})
        self._service_bootstrap = service_bootstrap_servers or bootstrap_servers
        self._symbols = symbols
        self._replication_factor = replication_factor
        self._exit = ExitStack()
        self.services: dict[str, ServiceProcess] = {}

    def __enter__(self) -> Self:
        with self._exit:
            self._exit.enter_context(self.simulator)
            self.create_topics()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def settings(self) -> dict[str, str]:
        """The environment of a service on this stack."""
        return {
            "K2_BINANCE_WEBSOCKET_URL": self.simulator.ws_url,
            "K2_BINANCE_REST_URL": self.simulator.rest_url,
            "K2_BINANCE_SYMBOLS": self._symbols,
            "K2_KAFKA_BOOTSTRAP_SERVERS": self._service_bootstrap,
            "K2_KAFKA_SCHEMA_REGISTRY_URL": self.registry_url,
            "K2_KAFKA_TOPIC": self.topic,
            "K2_CONTROL_PORT": "0",
            "K2_CONTROL_TOKEN": "a-token-for-tests-only",
            **self._settings,
        }

    def create_topics(self) -> None:
        """Create the three topics the way an operator would."""
        environment = inherited() | self.settings() | {"K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        done = subprocess.run(
            [sys.executable, "-m", "ingest", "topics", "--partitions", "2",
             "--replication-factor", str(self._replication_factor)],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"topics were not created:\n{done.stdout}{done.stderr}")

    def service(
        self,
        instance: str = "blue",
        *,
        start: bool = True,
        module: Sequence[str] = ("ingest", "run"),
        **settings: str,
    ) -> ServiceProcess:
        """Add an instance; it is stopped with the stack. ``module``: what ``python -m`` runs."""
        process = ServiceProcess(self.directory, {**self.settings(), **settings}, instance=instance, module=module)
        self.services[instance] = process
        if start:
            process.start()
        self._exit.callback(process.terminate, 5.0)
        return process

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> float:
        """Poll until ``condition``; returns the seconds it took. Raises ``TimeoutError`` saying what did not come."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                logs = "\n".join(f"--- {s.name}\n{s.tail(15)}" for s in self.services.values())
                raise TimeoutError(f"{what} did not come within {seconds:g} s\n{logs}")
            time.sleep(0.02)
        return time.monotonic() - began

    def committed(self, instance: str = "blue") -> dict[str, int]:
        """Symbol -> last id that an instance knows to be in Kafka; empty while it does not answer."""
        try:
            status = self.services[instance].status()
        except (OSError, ValueError, KeyError):
            return {}
        return {
            symbol: entry["last_id"]
            for symbol, entry in status.get("symbols", {}).items()
            if entry["last_id"] is not None
        }

    def writing(self, instance: str = "blue") -> bool:
        """Whether an instance is the active writer."""
        try:
            return self.services[instance].status().get("role") == "active"
        except (OSError, ValueError):
            return False

    def caught_up(self, instance: str = "blue") -> bool:
        """Whether everything that the exchange has made is in Kafka."""
        committed = self.committed(instance)
        state = self.simulator.state()["symbols"]
        return bool(committed) and all(
            committed.get(s, -1) >= entry["last_id"] for s, entry in state.items() if s in committed
        )

    def audit(self, *options: str, expect_to_head: bool = True) -> tuple[int, dict[str, Any]]:
        """Run ``ingest audit`` against the simulator's ledger; returns the exit code and the report."""
        report = self.directory / "audit.json"
        report.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "ingest", "audit",
            "--bootstrap-servers", self.bootstrap_servers,
            "--topic", self.topic,
            "--positions-topic", f"{self.topic}.positions",
            "--schema-registry-url", self.registry_url,
            "--ledger", self.simulator.admin_url,
            "--json", str(report),
            *(["--expect-to-head", "--head-settle", "0"] if expect_to_head else []),
            *options,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600)
        (self.directory / "audit.log").write_text(done.stdout + done.stderr)
        if not report.exists():
            raise RuntimeError(f"no audit:\n{done.stdout}{done.stderr}")
        return done.returncode, json.loads(report.read_text())

    def topic_of(self, stream: str) -> str:
        """The topic of a stream."""
        return self.topic.replace("trades", STREAMS[stream].kind)

    def audit_stream(self, stream: str, *options: str) -> tuple[int, dict[str, Any]]:
        """Audit the topic of one stream against the simulator's ledger, as ``audit`` does that of the trades."""
        return self.audit("--stream", stream, "--topic", self.topic_of(stream), *options, expect_to_head=False)
