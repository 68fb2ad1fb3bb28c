"""Two shards, each with two slots and an agent: Kafka, registry, simulator and Prometheus are shared."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ingest_ops.agent.client import AgentClient
from ingest_ops.agent.process_slots import ProcessConfig, ProcessSlots, Release, write_config
from ingest_ops.agent.slots import SLOTS
from tests.campaigns.deployment.environment import QUICK, TOKEN, options, process_environment, releases
from tests.harness.environment import Environment
from tests.harness.kafka import free_ports
from tests.harness.processes import ROOT, Process, http_json
from tests.harness.prometheus import Prometheus
from tests.harness.registry import Registry
from tests.harness.stack import Stack

SHARDS = ("0", "1")
START_SECONDS = 90.0


class ShardAgent:
    """The agent of one shard, a process, and its slots."""

    def __init__(self, directory: Path, settings: Mapping[str, str], special: Mapping[str, Release]) -> None:
        """``special``: what this agent runs under a version's name, in place of what the others run."""
        blue, green, blue_control, green_control, port = free_ports(5)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.status_urls = {"blue": f"http://127.0.0.1:{blue}", "green": f"http://127.0.0.1:{green}"}
        self.config = ProcessConfig(
            environment={**settings, "K2_PEERS": ",".join(self.status_urls.values())},
            status_ports={"blue": blue, "green": green},
            control_ports={"blue": blue_control, "green": green_control},
            releases=releases() | dict(special),
        )
        write_config(directory / "agent.json", self.config)
        command = [
            sys.executable, "-m", "ingest_ops", "agent", "--backend", "process", "--port", str(port),
            "--directory", str(directory / "slots"), "--config", str(directory / "agent.json"),
        ]  # fmt: skip
        self.process = Process("agent", command, directory=directory, environment=process_environment())
        self.client = AgentClient(self.url, TOKEN)

    def answers(self) -> bool:
        try:
            return bool(http_json(f"{self.url}/health", timeout=1.0))
        except OSError:
            return False

    def role(self, slot: str) -> str:
        """What a slot says that it is; empty while it does not answer."""
        try:
            status = self.client.status(slot)
            return str(http_json(f"{status.control_url}/control/status", token=TOKEN, timeout=2.0).get("role", ""))
        except (OSError, ValueError):
            return ""

    def writing(self) -> tuple[str, ...]:
        """Slot and version of what writes."""
        return tuple(f"{slot} {self.client.status(slot).version}" for slot in SLOTS if self.role(slot) == "active")

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        slots = ProcessSlots(self.directory / "slots", self.config)
        for slot in SLOTS:
            slots.stop(slot)


class FleetEnvironment(Environment):
    """Everything that a deployment to two shards needs, in ``directory``. Blue writes v1 in each once it is open."""

    def __init__(self, directory: Path, bootstrap_servers: str, special: Mapping[str, Mapping[str, Release]]) -> None:
        """``special``: shard -> what its agent runs under a version's name."""
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory)
        self._bootstrap = bootstrap_servers
        self._special = special
        self.agents: dict[str, ShardAgent] = {}

    def open(self) -> None:
        """Start everything; returns when both shards are written."""
        registry = self._exit.enter_context(Registry())
        self.stack = self._exit.enter_context(
            Stack(
                self.directory, bootstrap_servers=self._bootstrap, registry_url=registry.url,
                simulator=["--symbols", "8", "--rate", "400"], topic="trades.fleet",
                settings={"K2_SHARD_COUNT": str(len(SHARDS))},
            )
        )  # fmt: skip
        settings = {key: value for key, value in self.stack.settings().items() if key != "K2_CONTROL_PORT"}
        targets: dict[str, dict[str, str]] = {}
        for shard in SHARDS:
            agent = ShardAgent(
                self.directory / shard, settings | {"K2_SHARD_INDEX": shard}, self._special.get(shard, {})
            )
            self._exit.callback(agent.close)
            agent.process.start(wait=False)
            self.agents[shard] = agent
            targets |= {url: {"slot": slot, "shard": shard} for slot, url in agent.status_urls.items()}
            targets[agent.url] = {"shard": shard}
        self.prometheus = self._exit.enter_context(
            Prometheus(self.directory / "prometheus", targets, scrape_seconds=QUICK["scrape_seconds"])
        )
        for agent in self.agents.values():
            self._wait(agent.answers, "the agent")
            agent.client.start("blue", "v1")
        for agent in self.agents.values():
            self._wait(lambda agent=agent: agent.role("blue") == "active", "blue as writer")  # type: ignore[misc]
        self._wait(lambda: len(self.prometheus.query('up{slot="blue"} == 1')) == len(SHARDS), "a scrape of each shard")
        shards = [{"name": shard, "agent_url": agent.url} for shard, agent in self.agents.items()]
        (self.directory / "fleet.json").write_text(json.dumps({"shards": shards}))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m ingest_ops``."""
        audit = [
            "python", "-m", "ingest", "audit", "--bootstrap-servers", self._bootstrap, "--topic", "trades.fleet",
            "--schema-registry-url", self.stack.registry_url, "--ledger", self.stack.simulator.admin_url,
            "--expect-to-head",
        ]  # fmt: skip
        environment = process_environment() | {
            "K2_DEPLOY_JOURNAL_URL": f"sqlite:///{self.directory / 'journal.db'}",
            "K2_DEPLOY_PROMETHEUS_URL": self.prometheus.url,
            "K2_DEPLOY_FLEET_FILE": str(self.directory / "fleet.json"),
            "K2_DEPLOY_REPORTS": str(self.directory / "reports"),
            "K2_DEPLOY_AUDIT_COMMAND": " ".join(audit),
        }
        return subprocess.run(
            [sys.executable, "-m", "ingest_ops", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False, timeout=900,
        )  # fmt: skip

    def deploy(self, version: str, name: str) -> subprocess.CompletedProcess[str]:
        """Deploy to all shards, with short windows."""
        return self.command("deploy", version, "--id", name, "--json", *options(QUICK))

    def writing(self) -> list[tuple[str, ...]]:
        """What writes in each shard: slot and version."""
        return [agent.writing() for agent in self.agents.values()]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {START_SECONDS:g} s; logs are in {self.directory}")
            time.sleep(0.05)
