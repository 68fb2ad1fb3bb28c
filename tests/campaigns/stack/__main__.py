"""``make stack-test``: the whole stack on Docker, from the images to an alert that fires and resolves.

Builds stand-ins for what cannot be pulled and the product's images, upgrades a stack of the previous version, then
follows README.md line by line in a fresh folder, with the files that those lines write: without secrets, with them, the
simulator, monitoring. Looks at it, takes Kafka away, watches the alerts, audits the topic and removes everything. With
STACK_AIRFLOW=1 also the profile airflow, and a blue-green deployment through it. Durations of rules are those of the
product. Writes a log with times; exit code 1 with the reason where something does not hold.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.stack import airflow, checks
from tests.campaigns.stack.checkout import check_out, commands, previous
from tests.campaigns.stack.checks import HARMLESS, IMAGE, must
from tests.campaigns.stack.compose import VERSION, Failed, Project
from tests.campaigns.stack.stand_ins import ensure, run
from tests.harness.kafka import ROOT

UP_SECONDS = 900.0
ALERT_SECONDS = 420.0
AWAY_SECONDS = 60.0
AIRFLOW = os.environ.get("STACK_AIRFLOW", "0") == "1"
WANTED = "IngestTransactionsStalled"
PREVIOUS = "stack-test-previous"
README = ROOT / "README.md"


class Journal:
    """Lines with the seconds since the start, on the terminal and in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Say something."""
        line = f"{time.monotonic() - self._began:7.1f} s  {text}\n"
        for out in (sys.stdout, self._file):
            out.write(line)
            out.flush()


def wait(condition: Callable[[], bool], what: str, seconds: float) -> float:
    """Poll until it holds; returns the seconds it took. Raises ``Failed``."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{what} did not come within {seconds:g} s")
        time.sleep(1)
    return time.monotonic() - began


def build(log: Journal) -> None:
    """The product's images, without BuildKit, as the deploy agent builds them."""
    before = previous()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "previous"
        folder.mkdir()
        check_out(folder, before)
        _build(PREVIOUS, run("git", "rev-parse", "--short", before, cwd=ROOT).strip(), folder)
    log(f"image of {before} built, to upgrade from")
    revision = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT).strip()
    _build(VERSION, revision, ROOT)
    log(f"image {IMAGE} built")
    if AIRFLOW:
        log(airflow.build(revision))


def _build(version: str, revision: str, folder: Path) -> None:
    arguments = ("--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={revision}")
    run(
        "docker", "build", "-q", "-t", f"k2-ingest:{version}", *arguments, ".", cwd=folder, env={"DOCKER_BUILDKIT": "0"}
    )


def outage(project: Project, log: Journal) -> None:
    """Kafka goes away for a minute: the right alerts fire, and resolve once it is back."""
    before = set(project.alerts())
    must(before <= HARMLESS, f"alerts before anything happened: {sorted(before - HARMLESS)}")
    must("Watchdog" in before, "Watchdog does not fire")
    project.compose("kill", "kafka")
    log("Kafka killed")
    began = time.monotonic()
    seen: set[str] = set()

    def fired() -> bool:
        seen.update(project.alerts())
        return WANTED in seen

    took = wait(fired, f"{WANTED} in Alertmanager", ALERT_SECONDS)
    log(f"{WANTED} is in Alertmanager {took:.0f} s after the kill")
    while time.monotonic() - began < AWAY_SECONDS:
        fired()
        time.sleep(1)
    project.compose("start", "kafka")
    log(f"Kafka started again after {time.monotonic() - began:.0f} s")

    def resolved() -> bool:
        active = set(project.alerts())
        seen.update(active)
        return WANTED not in active

    log(f"{WANTED} resolved {wait(resolved, 'its resolution', ALERT_SECONDS):.0f} s later")
    must(seen <= HARMLESS, f"alerts that an outage of Kafka does not explain: {sorted(seen - HARMLESS)}")
    log(f"fired meanwhile: {', '.join(sorted(seen - {'Watchdog'}))}")
    told = wait(
        lambda: '"status": "resolved"' in project.compose("logs", "--no-log-prefix", "alert-log"),
        "the webhook's message of the resolution",
        ALERT_SECONDS,
    )
    log(f"the webhook was told of the resolution {told:.0f} s later")
    project.wait_healthy(UP_SECONDS)


def upgrade(log: Journal) -> None:
    """From the previous version's stack to this one by `make upgrade`: the live slot goes on, nothing is lost."""
    before = previous()
    with Project("sim", "monitoring", commit=before, version=PREVIOUS) as project:
        project.line("make secrets")
        project.compose("up", "--detach", "--no-build")
        project.wait_healthy(UP_SECONDS)
        stay = checks.before_upgrade(project)
        log(f"{before} is healthy")
        project.pull(VERSION)
        for line in commands(ROOT / "docs" / "how_to" / "upgrade.md", "make "):
            project.line(line)
            log(f"upgraded by `{line}`")
        project.wait_healthy(UP_SECONDS)
        log(checks.upgraded(project, stay))
        log(checks.audit(project))
    log("everything removed")


def first_lines(project: Project, log: Journal) -> None:
    """What README.md says right after cloning, before there are secrets."""
    (line,) = commands(README, "docker compose up")
    with project.foreground(line):
        wait(lambda: _state(project, "topics") == ("exited", 0), f"the topics of `{line}`", UP_SECONDS)
        wait(lambda: _state(project, "ingest")[0] == "running", "the service", UP_SECONDS)
        log(f"{line}: Kafka, registry and topics are there, the service runs")
    wait(lambda: _no_slot_runs(project), "the end of the service", UP_SECONDS)
    (line,) = commands(README, "docker compose --profile sim up")
    with project.foreground(line):
        _healthy(project, "sim-topics")
        log(f"{line}: healthy without secrets")
    project.line("make secrets")
    log("make secrets")


def _no_slot_runs(project: Project) -> bool:
    """Whether the slots have ended: the next line publishes their ports. What they depend on may go on."""
    states = project.states()
    return not any(states.get(slot, {}).get("State") in ("running", "restarting") for slot in ("ingest", "ingest-sim"))


def _state(project: Project, service: str) -> tuple[str, int]:
    found = project.states().get(service, {})
    return str(found.get("State", "")), int(found.get("ExitCode", -1))


def _healthy(project: Project, once: str) -> None:
    """Until everything is healthy and the one-off service has run, without a restart."""
    wait(lambda: _state(project, once) == ("exited", 0), once, UP_SECONDS)
    wait(lambda: _state(project, "ingest-sim")[0] == "running", "the service", UP_SECONDS)
    project.wait_healthy(UP_SECONDS, without=("ingest", "topics"))
    must(project.inspect(once)["RestartCount"] == 0, f"{once} was restarted")


def stack(log: Journal, *, quick: bool) -> None:
    """Up by README.md's lines, looked at, broken and mended (unless ``quick``), audited, deployed to, down."""
    with Project("live", "sim", "monitoring") as project:
        try:
            first_lines(project, log)
            (line,) = commands(README, "docker compose --profile sim up")
            with project.foreground(line):
                _healthy(project, "sim-topics")
                log(f"{line}: healthy with secrets")
                (line,) = commands(README, "docker compose --profile monitoring up")
                project.line(line)
                project.wait_healthy(UP_SECONDS, without=("ingest", "topics"))
                log(f"{line}: healthy")
                watched(project, log, quick=quick)
        except Exception:
            log(project.said() + project.compose("logs", "--tail", "15", "--no-color"))
            raise
    log("everything removed")


def watched(project: Project, log: Journal, *, quick: bool) -> None:
    """Everything that is looked at while it runs."""
    project.compose("rm", "--force", "--stop", "ingest", "topics")  # the real exchange's, of the first line
    log(checks.hardening(project))
    status = project.fetch("INGEST_PORT", "/status")
    must(f'"{VERSION}"' in status, "the version is not in /status")
    wait(lambda: bool(project.query("ingest_audit_verified_trades > 0")), "the audit's first figures", UP_SECONDS)
    wait(lambda: bool(project.query("ingest:rss_min:15m")), "the recording rules", UP_SECONDS)
    time.sleep(45)  # three scrapes: what a rate needs
    log(checks.prometheus(project))
    log(checks.dashboards(project))
    if not quick:
        outage(project, log)
    log(checks.audit(project))
    log(checks.outside(project))
    writer, port = "ingest-sim", "INGEST_PORT"
    if AIRFLOW:
        for line in airflow.stage(project):
            log(line)
        writer, port = "ingest-sim-green", "INGEST_GREEN_PORT"
    log(checks.secrets(project, port))
    log(checks.processes(project))
    log(checks.profiles(project))
    began = time.monotonic()
    project.compose("stop", writer)
    code = project.inspect(writer)["State"]["ExitCode"]
    must(code == 0, f"the service ended with {code} on SIGTERM")
    log(f"the service drained and ended with 0 within {time.monotonic() - began:.1f} s")


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.stack", description=__doc__)
    parser.add_argument("--log", type=Path, default=ROOT / ".cache/stack/stack-test.log", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="without the outage of Kafka")
    options = parser.parse_args()
    log = Journal(options.log)
    try:
        ensure(log, airflow=AIRFLOW)
        build(log)
        log(checks.image())
        upgrade(log)
        stack(log, quick=options.quick)
    except (Failed, subprocess.CalledProcessError, OSError) as error:
        log(f"FAILED: {error}\n" + "\n".join(getattr(error, "__notes__", [])))
        return 1
    log("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
