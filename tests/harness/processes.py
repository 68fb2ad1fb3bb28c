"""The real parts as processes: the simulator and the service, started, watched, stopped and killed.

Nothing here knows pytest: the demo, the chaos runner and the soak tests use it too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness import loopback

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 180.0
"""Patience: a second on a machine with nothing else to do."""
STOP_SECONDS = 60.0
"""As much again: the service itself promises to drain within ten."""


class ProcessFailedError(Exception):
    """A process ended, or did not get ready: the text holds the end of its log."""


def inherited() -> dict[str, str]:
    """The environment without settings of the service, and with compiled modules kept.

    An image of a container holds them, too: without them every start compiles three hundred modules first.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("K2_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".cache" / "pycache"))
    return environment


def http_json(
    url: str, *, method: str = "GET", body: object | None = None, timeout: float = 30.0, token: str | None = None
) -> Any:
    """One JSON request on loopback; raises ``urllib.error.HTTPError`` for a status of 400 and more."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if method == "POST" and token is not None:
        headers |= {"X-Command-Id": uuid.uuid4().hex, "X-Command-Time": f"{time.time_ns() / 1e9:.3f}"}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)  # noqa: S310  # loopback only
    with loopback.urlopen(request, timeout=timeout) as response:
        text = response.read()
    return json.loads(text) if text else None


class Process:
    """A child process in its own group, with its log in a file."""

    def __init__(self, name: str, command: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self.directory = directory
        self.working_directory = ROOT
        """Where its modules are found: another checkout for another release."""
        self.log = directory / f"{name}.log"
        self.ready_file = directory / f"{name}.ready.json"
        self.process: subprocess.Popen[bytes] | None = None
        self._ready: dict[str, Any] = {}
        self.started_at = 0.0

    def start(self, *, wait: bool = True) -> Self:
        """Start it (again); with ``wait`` until it says that it is ready."""
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(  # our own command
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                cwd=self.working_directory,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the ready file is there."""
        deadline = time.monotonic() + seconds
        while not self.ready_file.exists():
            if not self.alive:
                raise ProcessFailedError(f"{self.name} ended with {self.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} was not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(0.01)

    @property
    def ready(self) -> dict[str, Any]:
        """What the ready file says: the ports are new after each start. Empty until the first start is complete."""
        with contextlib.suppress(FileNotFoundError):
            self._ready = json.loads(self.ready_file.read_text())
        return self._ready

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended."""
        return None if self.process is None else self.process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to it and its children; nothing if it has ended."""
        if self.alive and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        self.wait(60)

    def pause(self) -> None:
        """SIGSTOP: frozen as a long collection or a stalled host would."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self, seconds: float = STOP_SECONDS) -> int | None:
        """SIGTERM, wait, and the exit code; SIGKILL if it does not listen."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.wait(seconds) is None:
            self.kill()
        return self.returncode

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; None if it still runs."""
        if self.process is None:
            return None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def rss(self) -> int:
        """Resident bytes now, 0 if it has ended."""
        if not self.alive or self.process is None:
            return 0
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate(5.0)


class SimulatorProcess(Process):
    """The exchange."""

    def __init__(self, directory: Path, *options: str, name: str = "simulator") -> None:
        command = [sys.executable, "-m", "ingest", "simulate", "--ready-file", str(directory / f"{name}.ready.json")]
        super().__init__(name, [*command, *options], directory=directory, environment=inherited())

    @property
    def ws_url(self) -> str:
        """Where the streams are."""
        return str(self.ready["ws_url"])

    @property
    def rest_url(self) -> str:
        """Where the REST API is."""
        return str(self.ready["rest_url"])

    @property
    def admin_url(self) -> str:
        """Where faults and the ledger are."""
        return str(self.ready["admin_url"])

    def state(self) -> dict[str, Any]:
        """Symbols, connections and counters."""
        return dict(http_json(f"{self.admin_url}/admin/state"))

    def sent(self) -> int:
        """Trades that the exchange has made."""
        return sum(symbol["last_id"] - symbol["first_id"] + 1 for symbol in self.state()["symbols"].values())

    def fault(self, kind: str, **parameters: object) -> dict[str, Any]:
        """Inject a fault."""
        return dict(http_json(f"{self.admin_url}/admin/faults", method="POST", body={"kind": kind, **parameters}))

    def market(self, action: str, **parameters: object) -> dict[str, Any]:
        """Start, stop, or change the rate of trading."""
        return dict(http_json(f"{self.admin_url}/admin/market", method="POST", body={"action": action, **parameters}))


class ServiceProcess(Process):
    """One instance of ``ingest run``."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        *,
        instance: str = "blue",
        module: Sequence[str] = ("ingest", "run"),
    ) -> None:
        name = f"service-{instance}"
        environment = inherited() | {
            "K2_INSTANCE_ID": instance,
            "K2_SLOT": instance,
            "K2_METRICS_PORT": "0",
            "K2_READY_FILE": str(directory / f"{name}.ready.json"),
            **settings,
        }
        super().__init__(name, [sys.executable, "-m", *module], directory=directory, environment=environment)

    @property
    def url(self) -> str:
        """Where metrics, health and status are."""
        return str(self.ready["metrics_url"])

    @property
    def control_url(self) -> str:
        """Where the control API is."""
        return str(self.ready["control_url"])

    def status(self) -> dict[str, Any]:
        """What ``/status`` says."""
        return dict(http_json(f"{self.url}/status", timeout=5.0))

    def healthy(self) -> bool:
        """What ``/health/ready`` says."""
        try:
            http_json(f"{self.url}/health/ready", timeout=2.0)
        except (urllib.error.URLError, OSError, json.JSONDecodeError):
            return False
        return True

    def metrics(self) -> dict[str, float]:
        """Every sample as ``name{labels}`` -> value."""
        with loopback.urlopen(f"{self.url}/metrics", timeout=5.0) as response:
            return dict(_samples(response.read().decode()))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)
