"""Entries I and N: exit 1 is a verdict and a crash; names that are checked too late."""

import itertools
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.campaigns.field.environment import Environment, ingest, traceback_in
from tests.campaigns.field.example import cases, example, require

CRASH = "exit 1 is a verdict and a crash"
AUDIT = (
    "audit", "--bootstrap-servers", "127.0.0.1:9", "--schema-registry-url", "http://127.0.0.1:9",
    "--ledger", "http://127.0.0.1:9", "--timeout", "1",
)  # fmt: skip
BAD_OPTIONS = {
    "audit": (
        "--newest-hours nan; --newest-hours inf; --newest-hours -3; --newest-hours 1e400; --timeout -1; "
        "--timeout nan; --timeout inf; --rest-weight -5; --rest-weight 0; --every 5 --listen :99999; "
        "--every 5 --listen 127.0.0.1:99999; --every 5 --listen '127.0.0.1:٣'; --every nan; --every -1; "
        "--every 0; --kafka-option no.such.option=1; --kafka-option =x; --topic ''; --topic 'a b\n'; "
        "--ledger-rest http://127.0.0.1:9"
    ),
    "topics": (
        "--partitions 0; --partitions -4; --partitions 99999999999999999999; --replication-factor 0; "
        "--replication-factor -1; --replication-factor 70000"
    ),
    "health": ("--port 70000; --port -1; --timeout nan; --timeout -1; --timeout 0; --timeout 1e300"),
    "simulate": (
        "--rate nan; --rate inf; --rate -1; --keep -1; --retention -5; --history-lag nan; --history-lag -1; "
        "--port 70000; --port -1; --symbols ''; --symbols 0; --symbols -3; --symbols BTCUSDT,BTCUSDT; --burst 0; "
        "--burst -1; --speed nan --replay /nonexistent; --replay /nonexistent; --replay /; --replay /dev/null; "
        "--fault-plan /nonexistent; --fault-plan /dev/null; --fault-rate nan; --fault-rate -1; "
        "--fault-rate 5 --fault-kinds nonsense; --ping-interval nan; --pong-timeout inf; --lifetime nan; "
        "--max-messages -1; --max-streams 0; --max-connects -1; --weight-limit 0; --weight-limit -6000; "
        "--ban-after -1; --notice-lead nan; --host 256.1.1.1; --host 'no such host'; --tls-dir /proc/nope --tls; "
        "--ready-file /proc/nope/ready"
    ),
}
"""Command -> options that cannot be used, as a shell would split them, with `;` between two cases."""
BAD_ADDRESSES = (
    ("", "http://127.0.0.1:9", "http://127.0.0.1:9"),
    ("127.0.0.1:9", "http://", "http://127.0.0.1:9"),
    ("127.0.0.1:9", "http://[::1", "http://127.0.0.1:9"),
    ("127.0.0.1:9", "http://127.0.0.1:x", "http://127.0.0.1:99999"),
)
"""Of Kafka, registry and ledger."""


def _bad(command: str) -> list[tuple[str, ...]]:
    first = AUDIT if command == "audit" else (command,)
    found: list[tuple[str, ...]] = [(*first, *shlex.split(one)) for one in BAD_OPTIONS[command].split(";")]
    names = ("--bootstrap-servers", "--schema-registry-url", "--ledger")
    if command == "audit":
        found += [(command, *itertools.chain(*zip(names, one, strict=True))) for one in BAD_ADDRESSES]
    return found


def _refused(environment: Environment, options: Sequence[tuple[str, ...]]) -> str:
    wrong = []
    for arguments in options:
        try:
            done = ingest(*arguments, seconds=40)
        except Exception as error:  # noqa: BLE001 - it runs on, or cannot be started: both are wrong
            wrong.append(f"{_short(arguments)}: {type(error).__name__}")
            continue
        text = done.stdout + done.stderr
        if traceback_in(text):
            wrong.append(f"{_short(arguments)}: a traceback, exit {done.returncode}")
        elif done.returncode != 2:
            wrong.append(f"{_short(arguments)}: exit {done.returncode}")
    require(not wrong, f"{len(wrong)} of {len(options)}: " + "; ".join(wrong))
    return f"{len(options)} refused with exit 2"


def _short(arguments: Sequence[str]) -> str:
    shown = arguments[len(AUDIT) :] if tuple(arguments[: len(AUDIT)]) == AUDIT else arguments[1:]
    return " ".join((arguments[0], *shown))


for _number, _command in enumerate(BAD_OPTIONS, 1):
    example(
        f"I.1.{_number}", CRASH, "options that cannot be used: exit 2, the option is named, no traceback",
        quick=_command in ("topics", "health"),
    )(partial(_refused, options=_bad(_command)))  # fmt: skip


@example("I.2", CRASH, "a report that cannot be written: exit 2 and a clear line", quick=True)
def unwritable_report(environment: Environment) -> str:
    """The audit's report goes to a folder that does not exist."""
    done = ingest(*AUDIT, "--json", "/proc/nope/audit.json")
    require(not traceback_in(done.stdout + done.stderr), "a traceback")
    require(done.returncode == 2, f"exit {done.returncode}")
    return "exit 2"


@example("I.3", CRASH, "text that the terminal cannot show is escaped, never an error", quick=True)
def ascii_terminal(environment: Environment) -> str:
    """Symbols beyond ASCII on a terminal that knows ASCII alone."""
    plain = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for arguments in (("check",), ("check", "--json"), ("check", "--list"), ("audit", "--help"), ("--help",)):
        done = ingest(*arguments, settings={**plain, "K2_BINANCE_SYMBOLS": "BTCUSDT,币安人生USDT",
                                            "K2_BINANCE_ALLOW_NON_ASCII_SYMBOLS": "true"})  # fmt: skip
        text = done.stdout + done.stderr
        require(not traceback_in(text), f"`ingest {' '.join(arguments)}`: a traceback: {text[-150:]}")
        require(done.returncode == 0, f"`ingest {' '.join(arguments)}`: exit {done.returncode}: {text[-150:]}")
    done = ingest(*AUDIT, "--symbols", "币安人生USDT", settings=plain)
    require(not traceback_in(done.stdout + done.stderr) and done.returncode == 2, f"audit: exit {done.returncode}")
    return "shown"


@example("I.4", CRASH, "a full device or a closed pipe ends a command without a traceback", quick=True)
def closed_output(environment: Environment) -> str:
    """The output goes to a full device, or to a reader that has gone."""
    import subprocess
    import sys

    from tests.harness.processes import ROOT, inherited

    wrong = []
    for shell in ("{python} -m ingest check > /dev/full", "{python} -m ingest check --list | head -c 1 > /dev/null"):
        done = subprocess.run(
            ["/bin/bash", "-c", shell.format(python=sys.executable)],
            env=inherited(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        if "Traceback" in done.stderr or "Exception ignored" in done.stderr:
            wrong.append(f"{shell}: {done.stderr[-120:]}")
    require(not wrong, "; ".join(wrong))
    return "no traceback"


@example("I.5", CRASH, "nothing listens where the audit should read: exit 2, not 1", quick=True)
def nobody_there(environment: Environment) -> str:
    """Kafka, registry and ledger are away."""
    done = ingest(*AUDIT)
    require(not traceback_in(done.stdout + done.stderr), "a traceback")
    require(done.returncode == 2, f"exit {done.returncode}")
    return "exit 2"


# --- N ---

LATE = "names checked too late, files trusted too far"


def _bad_run_id(environment: Environment, run_id: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix="run-id-", dir=environment.directory))
    began = time.monotonic()
    done = ingest(
        "soak", "run", "--plan", "3min", "--run-id", run_id, "--seconds", "120",
        "--metrics-url", "http://127.0.0.1:9/metrics", "--reports", str(folder / "reports"), module="ingest_ops",
        seconds=180,
    )  # fmt: skip
    seconds = time.monotonic() - began
    require(not traceback_in(done.stdout + done.stderr), "a traceback")
    require(done.returncode == 2, f"exit {done.returncode}")
    require(seconds < 90.0, f"refused after {seconds:.0f} s, when the run was over")
    outside = [path for path in folder.rglob("*") if path.is_file()]
    require(not outside, f"written: {outside}")
    require("run-id" in done.stdout + done.stderr, "the message does not name --run-id")
    return f"refused after {seconds:.1f} s"


cases(
    "N.1.", LATE, "a run id that cannot be a file's name is refused at once with exit 2, and nothing is written",
    [partial(_bad_run_id, run_id=one) for one in ("../../x", "a/b", "..", "", "a b\n", "x" * 300)],
    quick=True,
)  # fmt: skip


@example("N.2", LATE, "`ingest health` asks the address of K2_METRICS_HOST")
def health_by_host(environment: Environment) -> str:
    """The service's metrics are on another address than 127.0.0.1."""

    with environment.begun("metrics-host", K2_METRICS_HOST="127.0.0.3") as (_, service):
        port = service.url.rpartition(":")[2]
        done = ingest("health", settings={"K2_METRICS_HOST": "127.0.0.3", "K2_METRICS_PORT": port})
        require(done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}")
        return "exit 0"


@example("N.3", LATE, "an existing file that is no plain file is not replaced by a report", quick=True)
def not_a_plain_file(environment: Environment) -> str:
    """The audit's report goes to a device, as `--json /dev/stdout` would; the device stays one."""
    folder = environment.folder("device")
    target = folder / "pipe"
    os.mkfifo(target)
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = ingest(*AUDIT, "--json", str(target))
    finally:
        os.close(reader)
    require(not traceback_in(done.stdout + done.stderr), "a traceback")
    require(target.is_fifo(), "the pipe was replaced by a file")
    return f"exit {done.returncode}, the pipe is still one"


@example(
    "Q.1",
    "a promise about versions that nobody runs",
    "a missing topic ends `ingest run` with 3 and without a traceback",
)
def missing_topics(environment: Environment) -> str:
    """The topics were never created."""
    with environment.stack("no-topics") as stack:
        settings = {**stack.settings(), "K2_KAFKA_TOPIC": f"{stack.topic}.never"}
        try:
            done = ingest("run", settings={**settings, "K2_METRICS_PORT": "0"}, seconds=40)
        except Exception as error:
            raise AssertionError(f"it did not end: {type(error).__name__}") from error
        require(not traceback_in(done.stdout + done.stderr), "a traceback")
        require(done.returncode == 3, f"exit {done.returncode}")
        require("ingest topics" in done.stdout + done.stderr, "it does not say to create the topics")
        return "exit 3"
