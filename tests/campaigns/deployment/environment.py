"""The real parts for a deployment: Kafka, registry, simulator, Prometheus, the agent. Knows no pytest."""

import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest_ops.agent.client import AgentClient
from ingest_ops.agent.process_slots import ProcessConfig, ProcessSlots, Release, write_config
from ingest_ops.agent.slots import SLOTS
from tests.campaigns.deployment.faulty import VERSIONS
from tests.harness.environment import Environment
from tests.harness.kafka import free_ports
from tests.harness.processes import ROOT, Process, http_json
from tests.harness.prometheus import Prometheus
from tests.harness.registry import Registry
from tests.harness.stack import Stack

TOKEN = "a-token-for-tests-only"  # noqa: S105
QUICK = {
    "watch_seconds": 20, "grace_seconds": 4, "validate_seconds": 20, "hold_seconds": 4, "holds": 1,
    "scrape_seconds": 1, "min_compared": 500, "max_memory_mb": 300, "standby_seconds": 90, "min_coverage": 0.8,
    "max_gap_seconds": 5,
}  # fmt: skip
"""A plan for a market of a few hundred trades a second, scraped every second."""


class DeploymentEnvironment(Environment):
    """Everything that a deployment needs, in ``directory``. Blue runs v1 and writes once it is open."""

    def __init__(
        self, directory: Path, bootstrap_servers: str, *, rate: int = 500, symbols: int = 4,
        scrape_seconds: float = 1.0, topic: str = "market.crypto.trades.binance",
        plan: Mapping[str, float] = QUICK, command_seconds: float = 300.0,
    ) -> None:  # fmt: skip
        """``plan``: what is not the deployer's default; one with long windows needs more ``command_seconds``."""
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory)
        self._bootstrap = bootstrap_servers
        self._simulator = ["--symbols", str(symbols), "--rate", str(rate)]
        self._scrape = scrape_seconds
        self._plan = plan
        self._command_seconds = command_seconds
        self._topic = topic
        self._ports = free_ports(5)

    def open(self) -> None:
        """Start everything; returns when blue writes."""
        registry = self._exit.enter_context(Registry())
        self.stack = self._exit.enter_context(
            Stack(
                self.directory, bootstrap_servers=self._bootstrap, registry_url=registry.url,
                simulator=self._simulator, topic=self._topic,
            )
        )  # fmt: skip
        self._start_agent()
        targets: dict[str, dict[str, str]] = {
            self.agent.status(slot).status_url: {"slot": slot} for slot in SLOTS
        }  # fmt: skip
        targets[self.agent_url] = {}
        self.prometheus = self._exit.enter_context(
            Prometheus(self.directory / "prometheus", targets, scrape_seconds=self._scrape)
        )
        self.agent.start("blue", "v1")
        self.wait(lambda: self.role("blue") == "active", "blue as writer", seconds=60)
        self.wait(lambda: bool(self.prometheus.query('up{slot="blue"} == 1')), "a scrape of blue")

    def _start_agent(self) -> None:
        blue, green, blue_control, green_control, agent = self._ports
        environment = {k: v for k, v in self.stack.settings().items() if k != "K2_CONTROL_PORT"}
        environment["K2_PEERS"] = f"http://127.0.0.1:{blue},http://127.0.0.1:{green}"
        self.config = ProcessConfig(
            environment=environment,
            status_ports={"blue": blue, "green": green},
            control_ports={"blue": blue_control, "green": green_control},
            releases=releases(),
        )
        write_config(self.directory / "agent.json", self.config)
        self.agent_url = f"http://127.0.0.1:{agent}"
        command = [
            sys.executable, "-m", "ingest_ops", "agent", "--backend", "process", "--port", str(agent),
            "--directory", str(self.directory / "slots"), "--config", str(self.directory / "agent.json"),
        ]  # fmt: skip
        self.agent_process = Process("agent", command, directory=self.directory, environment=self.environment())
        self._exit.callback(self._stop_slots)
        self._exit.callback(self.agent_process.kill)
        self.start_agent()
        self.agent = self._exit.enter_context(AgentClient(self.agent_url, TOKEN))

    def start_agent(self) -> None:
        """Start the agent (again)."""
        self.agent_process.start(wait=False)
        self.wait(self.agent_answers, "the agent")

    def agent_answers(self) -> bool:
        """Whether the agent is there."""
        try:
            return bool(http_json(f"{self.agent_url}/health", timeout=1.0))
        except (urllib.error.URLError, OSError):
            return False

    def _stop_slots(self) -> None:
        slots = ProcessSlots(self.directory / "slots", self.config)
        for slot in SLOTS:
            slots.stop(slot)

    def environment(self) -> dict[str, str]:
        """For the deployer and the agent."""
        return process_environment()

    def deploy_environment(self) -> dict[str, str]:
        """For ``python -m ingest_ops``."""
        audit = [
            "python", "-m", "ingest", "audit", "--bootstrap-servers", self._bootstrap, "--topic", self._topic,
            "--schema-registry-url", self.stack.registry_url, "--ledger", self.stack.simulator.admin_url,
            "--expect-to-head",
        ]  # fmt: skip
        return self.environment() | {
            "K2_DEPLOY_JOURNAL_URL": f"sqlite:///{self.directory / 'journal.db'}",
            "K2_DEPLOY_PROMETHEUS_URL": self.prometheus.url,
            "K2_DEPLOY_AGENT_URL": self.agent_url,
            "K2_DEPLOY_REPORTS": str(self.directory / "reports"),
            "K2_DEPLOY_AUDIT_COMMAND": " ".join(audit),
            "K2_DEPLOY_LEASE_SECONDS": "10",
        }

    def command(self, *arguments: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``python -m ingest_ops``."""
        return subprocess.run(
            [sys.executable, "-m", "ingest_ops", *arguments], cwd=ROOT, env=self.deploy_environment(),
            capture_output=True, text=True, check=False, timeout=seconds or self._command_seconds,
        )  # fmt: skip

    def deploy(self, version: str, name: str, **plan: float) -> tuple[int, dict[str, Any]]:
        """Deploy; returns the exit code and the report."""
        done = self.command("deploy", version, "--id", name, *options({**self._plan, **plan}))
        (self.directory / f"{name}.out").write_text(done.stdout + done.stderr)
        return done.returncode, self.report(name)

    def report(self, name: str) -> dict[str, Any]:
        """A deployment's report. Raises ``RuntimeError`` with the command's output where there is none."""
        path = self.directory / "reports" / "deployments" / f"{name}.json"
        if not path.exists():
            out = self.directory / f"{name}.out"
            raise RuntimeError(f"no report of {name}:\n{out.read_text() if out.exists() else ''}")
        return dict(json.loads(path.read_text()))

    def role(self, slot: str) -> str:
        """What a slot says that it is; empty while it does not answer."""
        try:
            status = self.agent.status(slot)
            return str(http_json(f"{status.control_url}/control/status", token=TOKEN, timeout=2.0).get("role", ""))
        except (urllib.error.URLError, OSError, ValueError):
            return ""

    def writers(self) -> list[str]:
        """The slots that write."""
        return [slot for slot in SLOTS if self.role(slot) == "active"]

    def log(self, slot: str) -> Path:
        """A slot's log."""
        return self.directory / "slots" / f"{slot}.log"

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
        """Poll until ``condition``. Raises ``TimeoutError``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [self.agent_process.log, *(self.log(slot) for slot in SLOTS)]
                tails = "\n".join(f"--- {path}\n{path.read_text()[-2000:]}" for path in logs if path.exists())
                raise TimeoutError(f"{what} did not come within {seconds:g} s\n{tails}")
            time.sleep(0.05)


def releases() -> dict[str, Release]:
    """What the agent can run: three good versions, and the faulty ones."""
    good = {name: Release() for name in ("v1", "v2", "v3")}
    return good | {name: faulty(name) for name in VERSIONS}


def faulty(name: str) -> Release:
    """A version with a planted fault."""
    return Release(command=("{python}", "-m", "tests.campaigns.deployment.faulty", name))


def process_environment() -> dict[str, str]:
    """For the deployer and the agent."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("K2_")}
    return kept | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "K2_AGENT_TOKEN": TOKEN, "K2_CONTROL_TOKEN": TOKEN}


def options(plan: dict[str, float]) -> Sequence[str]:
    """A plan as options of ``deploy``."""
    return [part for key, value in plan.items() for part in (f"--{key.replace('_', '-')}", f"{value:g}")]
