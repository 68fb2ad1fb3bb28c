"""The processes of a case: the source, the brokers' mock, and what is compared with the service."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.harness.processes import ROOT, Process, http_json, inherited

CRYPTOFEED_PYTHON = "BENCH_CRYPTOFEED_PYTHON"
CACHE = ROOT / ".cache"
"""Where ``make bench-cryptofeed`` installs it."""


def cryptofeeds(cache: Path = CACHE) -> dict[str, str]:
    """Version of cryptofeed -> the interpreter that has it, oldest first; those that do not answer are left out."""
    named = os.environ.get(CRYPTOFEED_PYTHON)
    if named is None:
        pythons = [str(done.parent / "bin" / "python") for done in cache.glob("cryptofeed*/.complete")]
    else:
        pythons = [name for name in named.split(",") if name]
    code = "from importlib.metadata import version; print(version('cryptofeed'))"
    found = {}
    for python in pythons:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, timeout=60)
            found[done.stdout.strip()] = python
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))


def cpu_seconds(process: Process) -> float:
    """CPU time of a process so far, user and system, with all its threads: the kernel's clock, nanoseconds."""
    assert process.process is not None
    return time.clock_gettime(~process.process.pid << 3 | 2)  # clock_getcpuclockid(3), which Python does not have


class SourceProcess(Process):
    """``tests.campaigns.bench.source``."""

    def __init__(self, directory: Path, symbols: int, *, tls: bool = False, aggregated: bool = False) -> None:
        ready = directory / "source.ready.json"
        command = [
            sys.executable,
            "-m",
            "tests.campaigns.bench.source",
            "--symbols",
            str(symbols),
            "--ready-file",
            str(ready),
        ]
        command += [*(["--tls", str(directory)] if tls else []), *(["--aggregated"] if aggregated else [])]
        super().__init__("source", command, directory=directory, environment=inherited())

    def state(self) -> dict[str, Any]:
        return dict(http_json(f"{self.ready['control_url']}/bench"))

    def order(self, trades: int, rate: float | None = None) -> None:
        http_json(f"{self.ready['control_url']}/bench", method="POST", body={"trades": trades, "rate": rate})

    def skip(self, trades: int) -> None:
        """So many trades that nobody is sent: history has them."""
        http_json(f"{self.ready['control_url']}/bench", method="POST", body={"skip": trades})

    def done(self) -> bool:
        run = self.state()["run"]
        return bool(run is not None and run["state"] == "done")


class MockBrokerProcess(Process):
    """``tests.campaigns.bench.mock_broker``."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.campaigns.bench.mock_broker"]
        command += ["--ready-file", str(directory / "mock.ready.json")]
        super().__init__("mock", command, directory=directory, environment=inherited())

    @property
    def bootstrap_servers(self) -> str:
        return str(self.ready["bootstrap_servers"])


class PlainProcess(Process):
    """``tests.campaigns.bench.plain``."""

    def __init__(
        self, directory: Path, source: SourceProcess, *, kafka: str, registry: str, topic: str, symbols: int, tls: bool
    ) -> None:
        command = [
            sys.executable, "-m", "tests.campaigns.bench.plain", "--ws-url", source.ready["ws_url"], "--topic", topic,
            "--bootstrap-servers", kafka, "--registry-url", registry, "--symbols", str(symbols),
            "--ready-file", str(directory / "plain.ready.json"),
            *(["--ca", str(directory / "ca.pem")] if tls else []),
        ]  # fmt: skip
        super().__init__("plain", command, directory=directory, environment=inherited())


class CryptofeedProcess(Process):
    """``tests.campaigns.bench.cryptofeed_client``, by the Python that has cryptofeed."""

    def __init__(self, directory: Path, source: SourceProcess, *, python: str, kafka: str, topic: str) -> None:
        command = [
            python, "-m", "tests.campaigns.bench.cryptofeed_client", "--ws-url", source.ready["ws_url"],
            "--rest-url", source.ready["rest_url"], "--bootstrap-servers", kafka, "--topic", topic,
            "--ready-file", str(directory / "cryptofeed.ready.json"),
        ]  # fmt: skip
        super().__init__("cryptofeed", command, directory=directory, environment=inherited())
