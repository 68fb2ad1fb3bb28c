"""No core dump of a process that knows secrets."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import ROOT

PATTERN = Path("/proc/sys/kernel/core_pattern")
NO_DUMP = 1
SECRET = "canary-in-the-memory-of-a-process"  # noqa: S105
CRASH = f"""
import os, resource, signal, sys
from ingest.command.process import disable_core_dumps
if sys.argv[1] == "disabled":
    disable_core_dumps()
secret = {SECRET!r} * 2
sys.stdout.write(str(resource.getrlimit(resource.RLIMIT_CORE)[0]))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def crash(folder: Path, how: str, shell: str) -> tuple[str, list[Path]]:
    """The soft limit that a process had which crashed in a folder, and the files that this left there."""
    done = subprocess.run(
        ["bash", "-c", f'{shell}; cd "$1"; exec "$2" -c "$3" "$4"', "bash", folder, sys.executable, CRASH, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGSEGV, done.stderr
    return done.stdout, [path for path in folder.iterdir() if path.is_file()]


def test_a_crash_leaves_no_core_dump(tmp_path: Path) -> None:
    limit, left = crash(tmp_path, "disabled", "ulimit -S -c unlimited")
    assert (limit, left) == (str(NO_DUMP), [])


@pytest.mark.skipif(
    not PATTERN.exists() or PATTERN.read_text()[:1] in ("|", "/", "@"), reason="core dumps go elsewhere here"
)
def test_the_dump_that_is_prevented_would_hold_the_secret(tmp_path: Path) -> None:
    """The control of the test above: on this machine a crash does leave a dump."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the hard limit forbids core dumps here")
    _, left = crash(tmp_path, "as it is", "ulimit -S -c unlimited")
    assert len(left) == 1
    assert SECRET.encode() in left[0].read_bytes()


def test_a_limit_that_forbids_dumps_already_stays(tmp_path: Path) -> None:
    limit, left = crash(tmp_path, "disabled", "ulimit -c 0")
    assert (limit, left) == ("0", [])


@pytest.mark.parametrize("module", ["ingest", "ingest_ops"])
def test_every_command_begins_without_core_dumps(module: str) -> None:
    """Before anything else, settings and secrets included."""
    code = f"""
import resource, sys
from {module}.{"cli" if module == "ingest" else "__main__"} import main
try:
    main(["--version"])
except SystemExit:
    pass
sys.stderr.write(str(resource.getrlimit(resource.RLIMIT_CORE)[0]))
"""
    done = subprocess.run(
        ["bash", "-c", 'ulimit -S -c unlimited; exec "$1" -c "$2"', "bash", sys.executable, code],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert done.stderr == str(NO_DUMP)


UNWRITABLE = "ingest: standard output cannot be written: "


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["check --list", "completion bash", "simulate --port 0", "--version", "--help"])
@pytest.mark.parametrize(("to", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_output_that_cannot_be_written_is_one_line(words: str, to: str, why: str, unbuffered: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m ingest {words} {to}', sys.executable],
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(UNWRITABLE)
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_command_that_prints_nothing_works_without_standard_output() -> None:
    code = "import sys; from ingest.command.process import prepare_streams; prepare_streams(); sys.exit(7)"
    done = subprocess.run(["bash", "-c", f"\"$0\" -c '{code}' >&- 2>&-", sys.executable], cwd=ROOT, check=False)
    assert done.returncode == 7
