"""The deploy agent, the exporter and the auditor as processes, and strangers at their ports."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.campaigns.attack.cgroup import Limit
from tests.campaigns.attack.hostile import Row, forged_commands, row
from tests.campaigns.attack.strangers import ATTACKS, CHEAP
from tests.campaigns.attack.watch import Watch
from tests.campaigns.drills.environment import MB
from tests.harness.kafka import free_ports
from tests.harness.processes import ROOT, inherited

TOKEN = "agent-token-for-attacks"  # noqa: S105 - of this process alone
RSS_LIMIT = 180 * MB
START_SECONDS = 120.0
NOWHERE = ("--bootstrap-servers", "127.0.0.1:1", "--schema-registry-url", "http://127.0.0.1:1",
           "--ledger", "http://127.0.0.1:1", "--every", "3600")  # fmt: skip
"""Options of an auditor that has nothing to audit: it serves all the same."""


def resident(pid: int) -> int:
    """What a process weighs, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def running(folder: Path, module: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program beside the service, until the context ends."""
    environment = {**inherited(), "K2_AGENT_TOKEN": TOKEN, "K2_DEPLOY_REPORTS": str(folder), "PYTHONPATH": "plugins"}
    environment["K2_DEPLOY_JOURNAL_URL"] = f"sqlite:///{folder}/journal.db"
    with (folder / f"{words[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words], cwd=ROOT, env=environment, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def strike(name: str, url: str, process: subprocess.Popen[bytes], paths: tuple[str, str, str], seconds: float) -> Row:
    """One attack of strangers; ``paths``: live, ready, and what the operator asks for."""
    attack, _, program = name.partition(" at ")
    live, ready, operator = (url + path for path in paths)
    watch = Watch(live, ready, operator, TOKEN, lambda: resident(process.pid))
    watch.start()
    done = ATTACKS[attack](url, seconds)
    seen = watch.close()
    checks = {
        "alive": process.poll() is None,
        "live": seen.live.all_good or program != "agent",  # they have no health of their own: they may be slow
        "operator": seen.operator.all_good or program != "agent",
        "answered": seen.operator.good > 0,
        "memory": 0 < seen.rss < RSS_LIMIT,
    }
    return row(name, checks, done, watch)


def play(folder: Path, seconds: float, chosen: list[str], limit: Limit) -> list[Row]:
    """Every cheap attack at each program, and forged commands at the agent."""
    agent_port, exporter_port, auditor_port = free_ports(3)
    rows: list[Row] = []
    programs = (
        ("agent", ("ingest_ops", "agent", "--backend", "process", "--directory", str(folder / "agent"),
                   "--port", str(agent_port)),
         agent_port, ("/health", "/metrics", "/slots")),
        ("exporter", ("ingest_ops", "exporter", "--port", str(exporter_port)), exporter_port, ("/metrics",) * 3),
        ("auditor", ("ingest", "audit", *NOWHERE, "--listen", f"127.0.0.1:{auditor_port}"), auditor_port,
         ("/metrics",) * 3),
    )  # fmt: skip
    for program, words, port, paths in programs:
        names = [name for attack in CHEAP if (name := f"{attack} at {program}") in chosen or "operations" in chosen]
        if not names:
            continue
        url = f"http://127.0.0.1:{port}"
        with running(folder, *words) as process:
            limit.add(process.pid)
            _listening(port)
            rows += [strike(name, url, process, paths, seconds) for name in names]
            if program == "agent":
                rows.append(forged_commands(url, "/slots/green/stop", TOKEN, b"{}", 200))
    return rows


def _listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
