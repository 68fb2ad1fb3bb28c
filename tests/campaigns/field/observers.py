"""Entry M: what only observes must never stop what records."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.campaigns.field.environment import (
    Environment,
    happens,
    logged,
    records,
    traceback_in,
)
from tests.campaigns.field.example import clean, example, require
from tests.harness.processes import ROOT, inherited

OBSERVER = "what only observes stops what records"


@example(
    "M.1", OBSERVER, "no file can be opened any more: the memory sampler fails, is logged once, and the feed goes on"
)
def no_descriptors(environment: Environment) -> str:
    """The process reaches its limit of open files."""
    with environment.begun("emfile", "--symbols", "2", "--rate", "100", K2_MEMORY_SAMPLE_INTERVAL_SECONDS="1") as (
        stack,
        service,
    ):
        assert service.process is not None
        pid = service.process.pid
        used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(used, 3), hard))
        time.sleep(8)
        alive = service.alive
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard)) if alive else None
        require(alive, f"the service ended with {service.returncode}")
        time.sleep(2)
        require(stack.writing(), "the service does not write any more")
        verdict = clean(stack)
        memory = [r for r in records(service) if "memory" in str(r).lower() or "sampl" in str(r).lower()]
        require(len(memory) <= 3, f"{len(memory)} log records about one failure")
        return f"goes on, {len(memory)} warnings; {verdict}"


@example(
    "M.2",
    OBSERVER,
    "a ready file that cannot be written: a clear line (and exit 2 or 3), or it records without; no traceback",
)
def unwritable_ready_file(environment: Environment) -> str:
    """The ready file's folder does not exist."""
    with environment.stack("ready-file", "--symbols", "2", "--rate", "100") as stack:
        log = stack.directory / "ready-file.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingest", "run"],
                env={**inherited(), **stack.settings(), "K2_METRICS_PORT": "0",
                     "K2_READY_FILE": "/proc/nope/ready.json"},
                cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            named = ("/proc/nope/", "K2_READY_FILE")
            happens(lambda: process.poll() is not None or any(name in log.read_text() for name in named))
            time.sleep(3)
            ended = process.poll()
            require(not traceback_in(log.read_text()), "a traceback")
            require(any(name in log.read_text() for name in named), "the log does not name the file")
            require(ended in (None, 2, 3), f"exit {ended}")
        finally:
            process.terminate()
            process.wait(30)
        return "goes on with a warning" if ended is None else f"exit {ended}"


@example("M.3", OBSERVER, "a log that cannot be written any more (a full disk) does not stop the feed")
def full_log(environment: Environment) -> str:
    """Standard error goes to a full device."""
    with environment.stack("full-log", "--symbols", "2", "--rate", "100") as stack:
        ready = stack.directory / "full.ready.json"
        with Path("/dev/full").open("w") as full:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingest", "run"],
                env={**inherited(), **stack.settings(), "K2_METRICS_PORT": "0", "K2_READY_FILE": str(ready)},
                cwd=ROOT, stdout=full, stderr=full, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            happens(lambda: ready.exists() or process.poll() is not None)
            time.sleep(8)
            require(process.poll() is None, f"the service ended with {process.returncode}")
            stack.simulator.market("stop")
            time.sleep(3)
            code, report = stack.audit()
            require(code == 0, f"{report['verdict']}: {report['reason']}")
        finally:
            process.terminate()
            process.wait(30)
        return f"goes on; audit {report['verdict']}"


@example("2.7", "fixed shares of what everybody reads", "/metrics has no `_created` samples")
def no_created_samples(environment: Environment) -> str:
    """A quarter of /metrics was time stamps of creation."""
    with environment.begun("created", "--symbols", "2", "--rate", "50") as (_, service):
        created = [name for name in service.metrics() if name.partition("{")[0].endswith("_created")]
        require(not created, f"{len(created)} samples, e.g. {created[:1]}")
        require(not logged(service, "Traceback"), "a traceback in the log")
        return f"none among {len(service.metrics())} samples"
