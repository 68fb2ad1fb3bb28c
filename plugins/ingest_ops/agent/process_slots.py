"""Slots as plain processes, for machines without Docker: ``python -m ingest run`` with the slot's environment.

What was started is kept in a file for each slot, with the pid and the process's start time: an agent that is killed
and started again finds its children (they live on in sessions of their own), and a reused pid is not mistaken for one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time_ns
from typing import Annotated

import msgspec
import psutil
from msgspec import Meta, field

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.agent.slots import SLOTS, AgentRefusal, AgentTrouble, SlotStatus, check_slot, check_version
from ingest_ops.common.files import read_file

STOP_SECONDS = 15.0
"""A slot drains within 10 s by default."""
ANY_VERSION = "*"
Port = Annotated[int, Meta(ge=1, le=65_535)]


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a version is run. ``{python}`` and ``{version}`` are filled in."""

    command: tuple[str, ...] = ("{python}", "-m", "ingest", "run")
    environment: dict[str, str] = {}


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The agent's configuration file."""

    environment: dict[str, str] = {}
    """For both slots: the service's settings."""
    status_ports: dict[str, Port] = field(default_factory=lambda: {"blue": 9095, "green": 9195})
    control_ports: dict[str, Port] = field(default_factory=lambda: {"blue": 9096, "green": 9196})
    releases: dict[str, Release] = field(default_factory=lambda: {ANY_VERSION: Release()})
    """By version; ``*`` stands for those that are not named: the installation that the agent runs from."""


def load_config(path: Path) -> ProcessConfig:
    """Read the file. Raises ``AgentRefusal``."""
    try:
        return decode_typed(path.read_bytes(), ProcessConfig)
    except (OSError, Undecodable) as error:
        raise AgentRefusal(f"{path}: {error}") from error


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    pid: int
    created: float
    """When the process began, as the system tells it: pid and this together are never reused."""
    at: float
    """When it was started, by the agent's clock: the system's is only good to a second."""


class ProcessSlots:
    """Two processes, their logs and their records in ``directory``."""

    def __init__(
        self,
        directory: Path,
        config: ProcessConfig,
        *,
        inherited: Mapping[str, str] | None = None,
        python: str = sys.executable,
        time: Callable[[], float] = lambda: time_ns() / 1e9,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._config = config
        self._inherited = dict(os.environ if inherited is None else inherited)
        self._python = python
        self._time = time
        self._locks = {slot: threading.Lock() for slot in SLOTS}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    # --- the verbs ---

    def build(self, version: str) -> str:
        """Look that the version's command can be run at all; there is nothing to compile."""
        release = self._release(version)
        command = self._command(release, version)
        program = shutil.which(command[0])
        if program is None:
            raise AgentRefusal(f"version {version}: no program {command[0]!r}")
        return " ".join([Path(command[0]).name, *command[1:]])  # the path is of no interest to a report

    def start(self, slot: str, version: str) -> SlotStatus:
        """See ``Slots``."""
        release = self._release(version)
        with self._locks[check_slot(slot)]:
            now = self._status(slot)
            if now.running:
                if now.version != version:
                    raise AgentRefusal(f"slot {slot} runs version {now.version}: stop it first")
                return now
            self._spawn(slot, version, release)
            return self._status(slot)

    def stop(self, slot: str) -> SlotStatus:
        """See ``Slots``."""
        with self._locks[check_slot(slot)]:
            process = self._process(slot)
            if process is not None:
                self._signal(process, signal.SIGCONT)
                self._signal(process, signal.SIGTERM)
                if not self._ended(slot, process, STOP_SECONDS):
                    self._signal(process, signal.SIGKILL)
                    if not self._ended(slot, process, STOP_SECONDS):
                        raise AgentTrouble(f"slot {slot}: pid {process.pid} does not end")
            return self._status(slot)

    def status(self, slot: str) -> SlotStatus:
        """See ``Slots``."""
        # Without the lock: a status must not wait for a stop.
        return self._status(check_slot(slot))

    def close(self) -> None:
        """The children live on."""
        self._children.clear()

    def versions(self) -> list[str]:
        """See ``Slots``: the releases of the configuration."""
        return sorted((name for name in self._config.releases if name != ANY_VERSION), reverse=True)

    # --- how ---

    def _release(self, version: str) -> Release:
        releases = self._config.releases
        found = releases.get(check_version(version), releases.get(ANY_VERSION))
        if found is None:
            raise AgentRefusal(f"no version {version}; there are {', '.join(sorted(releases))}")
        return found

    def _command(self, release: Release, version: str) -> list[str]:
        return [part.format(python=self._python, version=version) for part in release.command]

    def _spawn(self, slot: str, version: str, release: Release) -> None:
        config = self._config
        environment = {key: value for key, value in self._inherited.items() if not key.startswith("K2_")}
        environment |= config.environment
        environment |= {
            "K2_INSTANCE_ID": slot,
            "K2_SLOT": slot,
            "K2_VERSION": version,
            "K2_START_MODE": "auto",
            "K2_METRICS_PORT": str(config.status_ports[slot]),
            "K2_CONTROL_PORT": str(config.control_ports[slot]),
        }
        environment |= {key: value.format(version=version) for key, value in release.environment.items()}
        at = self._time()
        try:
            with (self._directory / f"{slot}.log").open("ab") as log:
                child = subprocess.Popen(  # noqa: S603 - the operator's own configuration
                    self._command(release, version),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise AgentTrouble(f"slot {slot}: {error}") from error
        self._children[slot] = child
        try:
            created = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:  # it has ended already
            created = 0.0
        record = _Started(version=version, pid=child.pid, created=created, at=at)
        path = self._record(slot)
        beside = path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(record))
        beside.replace(path)

    def _record(self, slot: str) -> Path:
        return self._directory / f"{slot}.json"

    def _started(self, slot: str) -> _Started | None:
        try:
            return decode_typed(read_file(self._record(slot)), _Started)
        except FileNotFoundError:
            return None
        except Undecodable as error:
            raise AgentTrouble(f"{self._record(slot)}: {error}") from error

    def _process(self, slot: str) -> psutil.Process | None:
        """The slot's process while it runs."""
        started = self._started(slot)
        child = self._children.get(slot)
        if child is not None:
            child.poll()  # else a dead child stays a zombie for as long as the agent lives
        if started is None:
            return None
        try:
            process = psutil.Process(started.pid)
            if process.create_time() != started.created or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    @staticmethod
    def _signal(process: psutil.Process, number: int) -> None:
        try:
            # Each slot leads a session of its own: wrappers and their children go together.
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return

    def _ended(self, slot: str, process: psutil.Process, seconds: float) -> bool:
        child = self._children.get(slot)
        try:
            if child is not None and child.pid == process.pid:
                child.wait(seconds)
            else:
                process.wait(seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        return True

    def _status(self, slot: str) -> SlotStatus:
        started = self._started(slot)
        process = self._process(slot)
        child = self._children.get(slot)
        # Asked again: it may have ended after the last look, and is then known to be gone but not yet how.
        code = child.poll() if child is not None and started is not None and child.pid == started.pid else None
        config = self._config
        return SlotStatus(
            slot=slot,
            running=process is not None,
            version=started.version if started is not None else "",
            started_at=started.at if started is not None else None,
            exit_code=code if process is None else None,
            status_url=f"http://127.0.0.1:{config.status_ports[slot]}",
            control_url=f"http://127.0.0.1:{config.control_ports[slot]}",
            detail=f"pid {process.pid}" if process is not None else "",
        )


def write_config(path: Path, config: ProcessConfig) -> None:
    """Write a configuration file."""
    path.write_text(json.dumps(msgspec.to_builtins(config), indent=2) + "\n", encoding="utf-8")
