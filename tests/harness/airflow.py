"""A real Airflow on loopback, each component a process of its own that can be killed. Knows nothing of pytest."""

import base64
import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psutil

from tests.harness.kafka import free_ports
from tests.harness.processes import ROOT, Process, http_json

START_SECONDS = 180.0
GET_ATTEMPTS = 5
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Airflow:
    """Metadata in SQLite, LocalExecutor, everybody is admin: for tests alone."""

    def __init__(
        self, directory: Path, *, environment: Mapping[str, str] | None = None, dags: Path | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "K2_"))},
            "AIRFLOW_HOME": str(directory),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags or ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(directory / "plugins"),  # ours is installed: it has an entry point
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{directory / 'airflow.db'}",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            # The log servers of other instances on this machine have the default ports.
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_ports(1)[0]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_ports(1)[0]),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "plugins"))),
            **(environment or {}),
        }
        self.processes: dict[str, Process] = {}
        self._exit = ExitStack()
        self._token = ""

    def cli(self, *arguments: str) -> str:
        """Run ``airflow`` with these arguments; its output. Raises ``RuntimeError``."""
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def __enter__(self) -> Self:
        self.cli("db", "migrate")
        self.cli("pools", "set", "ingest", "1", "deployments and soaks, one at a time", "--include-deferred")
        with ExitStack() as stack:
            for name in COMPONENTS:
                command = [sys.executable, "-m", "airflow", name]
                process = Process(name, command, directory=self.directory, environment=self.environment)
                self.processes[name] = process.start(wait=False)
                stack.callback(process.terminate, 10.0)
            self.wait(self._answers, "the API server")
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def kill(self, name: str, *, tasks: bool = True) -> None:
        """SIGKILL for a component and everything that it has started, as when its container goes.

        Without ``tasks`` those that run live on for a while, as on a bare machine: they lead groups of their own.
        """
        process = self.processes[name]
        below: list[psutil.Process] = []
        if tasks and process.alive and process.process is not None:
            process.pause()  # nobody is born meanwhile
            below = psutil.Process(process.process.pid).children(recursive=True)
        process.signal(signal.SIGKILL)
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(10)
        psutil.wait_procs(below, timeout=10)

    def start(self, name: str) -> None:
        """Start a component again."""
        self.processes[name].start(wait=False)

    def _answers(self) -> bool:
        try:
            self._token = str(http_json(f"{self.url}/auth/token", method="GET")["access_token"])
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            return False
        return True

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> float:
        """Poll once a second until ``condition``. Raises ``TimeoutError`` with the ends of all logs."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                logs = "\n".join(f"--- {name}\n{one.tail(20)}" for name, one in self.processes.items())
                raise TimeoutError(f"{what} did not come within {seconds:g} s\n{logs}")
            time.sleep(1.0)
        return time.monotonic() - began

    def api(self, path: str, *, method: str = "GET", body: object | None = None) -> Any:
        """One call of ``/api/v2``; reading is tried again where a busy machine does not answer in time.

        Raises ``urllib.error.HTTPError``.
        """
        for attempt in itertools.count(1):
            try:
                return http_json(f"{self.url}/api/v2/{path}", method=method, body=body, token=self._token, timeout=60.0)
            except urllib.error.HTTPError:
                raise
            except OSError:
                if method != "GET" or attempt == GET_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def trigger(self, dag_id: str, conf: Mapping[str, object]) -> str:
        """Wait until the DAG is known, unpause it and start a run; its id."""
        self.wait(lambda: self.knows(dag_id), f"the DAG {dag_id}")
        self.api(f"dags/{dag_id}", method="PATCH", body={"is_paused": False})
        run = self.api(f"dags/{dag_id}/dagRuns", method="POST", body={"logical_date": None, "conf": dict(conf)})
        return str(run["dag_run_id"])

    def trigger_paused(self, dag_id: str) -> str:
        """Start a run of a DAG that is paused: it waits; its id."""
        run = self.api(f"dags/{dag_id}/dagRuns", method="POST", body={"logical_date": None, "conf": {}})
        return str(run["dag_run_id"])

    def heartbeat(self, name: str) -> float:
        """When the newest scheduler or triggerer last said that it lives, seconds since 1970; 0 if none has."""
        said = self._health().get(name, {}).get(f"latest_{name}_heartbeat")
        return 0.0 if said is None else datetime.fromisoformat(said).timestamp()

    def _health(self) -> dict[str, dict[str, str | None]]:
        return dict(self.api("monitor/health"))

    def knows(self, dag_id: str) -> bool:
        """Whether a DAG has been read."""
        try:
            self.api(f"dags/{dag_id}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def pause(self, dag_id: str) -> None:
        """No more runs of it by themselves."""
        self.api(f"dags/{dag_id}", method="PATCH", body={"is_paused": True})

    def end(self, dag_id: str, run_id: str) -> None:
        """Mark a run failed, as a person does who wants it to end."""
        self.api(f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}", method="PATCH", body={"state": "failed"})

    def end_all(self, dag_id: str) -> None:
        """Mark every run failed that is not over."""
        for run in self.api(f"dags/{dag_id}/dagRuns")["dag_runs"]:
            if run["state"] in ("queued", "running"):
                self.end(dag_id, run["dag_run_id"])

    def began(self, dag_id: str, run_id: str, task_id: str) -> float:
        """When a task was first begun, seconds since 1970. Raises ``KeyError`` while it was not."""
        said = self.tasks(dag_id, run_id)[task_id]["start_date"]
        if said is None:
            raise KeyError(f"{task_id} has not begun")
        return datetime.fromisoformat(said).timestamp()

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self.api(f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run by task."""
        found = self.api(f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances")["task_instances"]
        return {str(one["task_id"]): one for one in found}

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """The log of one try of a task, as JSON text."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{attempt}"
        return json.dumps(self.api(f"{path}?full_content=true"))


class Alone:
    """An Airflow that has a database and nothing that runs: for commands and ``dag.test()``."""

    def __init__(self, folder: Path, *, dags: Path) -> None:
        self.journal_url = f"sqlite:///{folder / 'journal.db'}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "K2_"))},
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
            "K2_DEPLOY_JOURNAL_URL": self.journal_url,
            "K2_DEPLOY_REPORTS": str(folder / "reports"),
            "K2_DEPLOY_AGENT_URL": "http://127.0.0.1:9",
        }
        said = self.run("airflow db migrate")
        if not said.endswith("exit code 0"):
            raise RuntimeError(said)

    def run(self, command: str) -> str:
        """A line of a page; returns everything that it said, and at the end its exit code."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=600,
        )  # fmt: skip
        return f"{done.stdout}{done.stderr}\nexit code {done.returncode}"

    def python(self, code: str) -> str:
        """The same for Python."""
        self.environment["K2_TEST_CODE"] = code
        return self.run('python -c "$K2_TEST_CODE"')
