"""The real Prometheus on loopback, scraping what it is told to. Knows nothing of pytest."""

import json
import shutil
import signal
import subprocess
import time
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from tests.harness import loopback
from tests.harness.kafka import free_ports

START_SECONDS = 240.0


class PrometheusUnavailable(Exception):
    """The real Prometheus cannot run here; the text says what to install."""


class Prometheus:
    """One server with its data in a folder; ``restart`` keeps both port and data."""

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, Mapping[str, str]],
        *,
        scrape_seconds: float = 5.0,
        job: str = "ingest",
        retention: str = "30d",
    ) -> None:
        """``targets``: address of a /metrics endpoint -> the labels that its series get."""
        self.directory = directory
        self._targets = targets
        self._scrape = scrape_seconds
        self._job = job
        self._retention = retention
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "prometheus.log"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start it (again) and wait until it is ready. Raises ``PrometheusUnavailable``."""
        program = shutil.which("prometheus")
        if program is None:
            raise PrometheusUnavailable("no prometheus: install it (Debian: apt-get install prometheus)")
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "prometheus.json"
        configuration.write_text(json.dumps(self._configuration()))  # JSON is YAML, too
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    f"--storage.tsdb.retention.time={self._retention}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PrometheusUnavailable(f"prometheus is not ready:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        return self

    def _configuration(self) -> object:
        interval = f"{round(self._scrape * 1000)}ms"
        return {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [
                {
                    "job_name": self._job,
                    "static_configs": [
                        {"targets": [urlsplit(address).netloc], "labels": dict(labels)}
                        for address, labels in self._targets.items()
                    ],
                }
            ],
        }

    def _ready(self) -> bool:
        try:
            with loopback.urlopen(f"{self.url}/-/ready", timeout=10.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def query(self, query: str, at: float | None = None) -> list[dict[str, object]]:
        """The result of an instant query."""
        time_part = "" if at is None else f"&time={at:.3f}"
        address = f"{self.url}/api/v1/query?query={quote(query)}{time_part}"
        with loopback.urlopen(address, timeout=30.0) as answer:
            return list(json.loads(answer.read())["data"]["result"])

    def stop(self, seconds: float = 60.0) -> None:
        """SIGTERM, and SIGKILL if it does not listen."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
