"""The compose project of the test: its commands, its ports, its secrets."""

import json
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.campaigns.stack.stand_ins import run
from tests.harness.kafka import ROOT, free_ports

PROJECT = "k2-stack-test"
VERSION = "stack-test"
PROFILES = ("live", "green", "sim", "sim-green", "audit", "monitoring", "airflow")
PORTS = (
    "INGEST_PORT", "INGEST_GREEN_PORT", "KAFKA_PORT", "SCHEMA_REGISTRY_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT",
    "GRAFANA_PORT", "AIRFLOW_PORT",
)  # fmt: skip
SOCKET = Path("/var/run/docker.sock")


class Failed(Exception):
    """What must hold does not."""


class Project:
    """The stack under a name of its own; everything of it is gone after the context."""

    def __init__(self, *profiles: str) -> None:
        self.canary = f"canary-{secrets.token_hex(8)}"
        self._folder = Path(tempfile.mkdtemp(prefix="k2-stack-"))
        self._secrets = _secrets(self.canary)
        for name, value in self._secrets.items():
            path = self._folder / name
            path.write_text(value)
            path.chmod(0o444)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._profiles = profiles
        self.environment = {
            **{name: str(port) for name, port in self.ports.items()},
            "K2_VERSION": VERSION,
            "K2_REVISION": run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).strip(),
            "K2_CONTROL_PORT": "9096",
            "K2_CONTROL_TOKEN_SOURCE": str(self._folder / "control_token"),
            "K2_SECRETS": str(self._folder),
            "CANARY": self.canary,
            "SIMULATED_AUDIT_SECONDS": "45",
            "DOCKER_GROUP": str(SOCKET.stat().st_gid if SOCKET.exists() else 0),
        }

    def add(self, profile: str) -> None:
        """Let further commands speak of a profile's services, too."""
        self._profiles = (*self._profiles, profile)

    def secret(self, name: str) -> str:
        """What a secret of the project is."""
        return self._secrets[name]

    def compose(self, *command: str, profiles: tuple[str, ...] | None = None) -> str:
        """``docker compose`` with a command; returns what it printed."""
        chosen = self._profiles if profiles is None else profiles
        return run(
            "docker", "compose", "--project-name", PROJECT, "--file", "docker-compose.yaml",
            "--file", "tests/campaigns/stack/override.yaml", *(f"--profile={name}" for name in chosen), *command,
            cwd=ROOT, env=self.environment,
        )  # fmt: skip

    def states(self) -> dict[str, dict[str, Any]]:
        """Service -> its container as ``docker compose ps`` tells it."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {one["Service"]: one for one in map(json.loads, lines)}

    def wait_healthy(self, seconds: float) -> None:
        """Until every container is healthy, runs without a check, or has done its work."""
        deadline = time.monotonic() + seconds
        while waiting := {name: _state(one) for name, one in self.states().items() if not _is_well(one)}:
            if time.monotonic() > deadline:
                raise Failed(f"not healthy after {seconds:g} s: {waiting}")
            time.sleep(1)

    def fetch(self, port: str, path: str, **form: str) -> str:
        """GET from a published port."""
        query = "&".join(f"{name}={quote(value)}" for name, value in form.items())
        address = f"http://127.0.0.1:{self.ports[port]}{path}{'?' + query if query else ''}"
        with urllib.request.urlopen(address, timeout=30) as response:
            return str(response.read().decode())

    def query(self, promql: str) -> list[dict[str, Any]]:
        """An instant query to the stack's Prometheus."""
        answer = json.loads(self.fetch("PROMETHEUS_PORT", "/api/v1/query", query=promql))
        return list(answer["data"]["result"])

    def alerts(self) -> dict[str, str]:
        """Name -> severity of what is active in Alertmanager."""
        try:
            found = json.loads(self.fetch("ALERTMANAGER_PORT", "/api/v2/alerts", active="true"))
        except (urllib.error.URLError, OSError):
            return {}
        return {alert["labels"]["alertname"]: alert["labels"]["severity"] for alert in found}

    def execute(self, service: str, *command: str) -> tuple[int, str]:
        """Run something in a container that is up; returns exit code and output."""
        identity = self.compose("ps", "--quiet", service).strip()
        done = subprocess.run(["docker", "exec", identity, *command], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        identity = self.compose("ps", "--all", "--quiet", service).strip()
        return dict(json.loads(run("docker", "inspect", identity))[0])

    def __enter__(self) -> Self:
        self.down()  # left behind by a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20", profiles=PROFILES)


def _secrets(canary: str) -> dict[str, str]:
    """Every secret with the canary in it, and each of a form that its reader takes."""
    names = ("control_token", "agent_token", "grafana_password", "postgres_password", "airflow_password")
    made = {name: f"{canary}-{name}" for name in names}
    return {
        **made,
        "airflow_database_url": f"postgresql+psycopg2://airflow:{made['postgres_password']}@postgres/airflow",
        "airflow_fernet_key": canary.ljust(43, "A") + "=",  # 32 bytes in the alphabet of URLs
        "airflow_jwt_secret": f"{canary}-airflow_jwt_secret".ljust(64, "j"),
    }


def _state(container: dict[str, Any]) -> str:
    return f"{container['State']} {container['Health']}".strip()


def _is_well(container: dict[str, Any]) -> bool:
    if container["State"] == "running":
        return container["Health"] in ("healthy", "")
    return bool(container["State"] == "exited" and container["ExitCode"] == 0)
