"""The compose project of the test: its commands, its ports, its secrets, in a folder as a user's checkout."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.campaigns.stack.checkout import check_out, clone, remove
from tests.campaigns.stack.stand_ins import run
from tests.harness import loopback
from tests.harness.kafka import ROOT, free_ports

PROJECT = "k2-stack-test"
VERSION = "stack-test"
PROFILES = ("live", "green", "sim", "sim-green", "fleet", "audit", "monitoring", "airflow")
PORTS = {
    "INGEST_PORT": 9095, "INGEST_GREEN_PORT": 9195, "FLEET_1_PORT": 9291, "FLEET_2_PORT": 9292, "FLEET_3_PORT": 9293,
    "KAFKA_PORT": 29092, "SCHEMA_REGISTRY_PORT": 8081,
    "PROMETHEUS_PORT": 9090, "ALERTMANAGER_PORT": 9093, "GRAFANA_PORT": 3000, "AIRFLOW_PORT": 8080,
}  # fmt: skip
"""What the product publishes, as the compose file has it."""
END_SECONDS = 180.0


class Failed(Exception):
    """What must hold does not."""


class Project:
    """The stack under a name of its own; everything of it is gone after the context.

    Commands get from this process the name of the project, the images' version, other ports where the product's are
    used, and how often the simulator's auditor runs. Everything else is what the documented commands write.
    """

    def __init__(self, *profiles: str, commit: str | None = None, version: str = VERSION) -> None:
        self.folder = clone()
        check_out(self.folder, commit)
        self.ports = {name: port if _free(port) else free_ports(1)[0] for name, port in PORTS.items()}
        self._profiles = profiles
        self.environment = {
            **{name: str(port) for name, port in self.ports.items() if port != PORTS[name]},
            "COMPOSE_PROJECT_NAME": PROJECT,
            "K2_VERSION": version,
            "K2_REVISION": run("git", "rev-parse", "--short", commit or "HEAD", cwd=ROOT).strip(),
            "SIMULATED_AUDIT_SECONDS": "45",
            "DOCKER_BUILDKIT": "0",  # the builder that every Docker has
        }

    def pull(self, version: str) -> None:
        """As `git pull`: the folder's files become those of this working tree, and images that of ``version``."""
        check_out(self.folder)
        self.environment |= {
            "K2_VERSION": version,
            "K2_REVISION": run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).strip(),
        }

    def add(self, profile: str) -> None:
        """Let further commands speak of a profile's services, too."""
        self._profiles = (*self._profiles, profile)

    def secret(self, name: str) -> str:
        """What a secret of the project is."""
        return (self.folder / "secrets" / name).read_text().strip()

    def secrets(self) -> list[str]:
        """Every secret that `make secrets` has made."""
        return [path.read_text().strip() for path in sorted((self.folder / "secrets").iterdir())]

    def line(self, command: str) -> str:
        """A line of a page, to its end; returns what it printed."""
        return run("bash", "-c", command, cwd=self.folder, env=self.environment)

    @contextmanager
    def foreground(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A line of a page that stays in the foreground; ended by Ctrl-C after the context."""
        with (self.folder.with_suffix(".out")).open("ab") as out:
            process = subprocess.Popen(
                shlex.split(command), cwd=self.folder, env={**os.environ, **self.environment}, stdout=out,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=_heeds_interrupts,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
                process.kill()
                process.wait()

    def said(self) -> str:
        """The end of what the commands in the foreground printed."""
        path = self.folder.with_suffix(".out")
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def compose(self, *command: str, profiles: tuple[str, ...] | None = None) -> str:
        """``docker compose`` with a command; returns what it printed."""
        chosen = self._profiles if profiles is None else profiles
        return run(
            "docker", "compose", *(f"--profile={name}" for name in chosen), *command,
            cwd=self.folder, env=self.environment,
        )  # fmt: skip

    def states(self) -> dict[str, dict[str, Any]]:
        """Service -> its container as ``docker compose ps`` tells it."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {one["Service"]: one for one in map(json.loads, lines)}

    def wait_healthy(self, seconds: float, *, without: tuple[str, ...] = ()) -> None:
        """Until every container but those ``without`` is healthy, runs without a check, or has done its work."""
        deadline = time.monotonic() + seconds
        while waiting := {
            name: _state(one) for name, one in self.states().items() if name not in without and not _is_well(one)
        }:
            if time.monotonic() > deadline:
                raise Failed(f"not healthy after {seconds:g} s: {waiting}")
            time.sleep(1)

    def fetch(self, port: str, path: str, **form: str) -> str:
        """GET from a published port."""
        query = "&".join(f"{name}={quote(value)}" for name, value in form.items())
        address = f"http://127.0.0.1:{self.ports[port]}{path}{'?' + query if query else ''}"
        with loopback.urlopen(address, timeout=30) as response:
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
        self.folder.with_suffix(".out").unlink(missing_ok=True)
        remove(self.folder)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20", profiles=PROFILES)


def _heeds_interrupts() -> None:
    """Ctrl-C ends the command, also where this process was started in the background and ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _state(container: dict[str, Any]) -> str:
    return f"{container['State']} {container['Health']}".strip()


def _is_well(container: dict[str, Any]) -> bool:
    if container["State"] == "running":
        return container["Health"] in ("healthy", "")
    return bool(container["State"] == "exited" and container["ExitCode"] == 0)
