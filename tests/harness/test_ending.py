"""A program that is ended from outside leaves by its ``with`` blocks, without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ending
from tests.harness.interpreters import ROOT

PROGRAM = """
import contextlib, os, signal, sys, time
from tests.harness import ending
for number in ending.SIGNALS:  # a background job of a shell, or nohup, ignores some of them
    signal.signal(number, signal.SIG_DFL)
ending.by_signal()

@contextlib.contextmanager
def part():
    try:
        print("started", flush=True)
        yield
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # an impatient second one
        print("stopped", flush=True)

with part():
    time.sleep(100)
"""


@pytest.mark.parametrize("number", ending.SIGNALS)
def test_what_was_started_is_stopped(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("stopped\n", 128 + number)
    assert err == f"\nended by {number.name}: stopping what was started\n"


def test_what_the_caller_ignores_stays_ignored() -> None:
    code = (
        "import os, signal; from tests.harness import ending; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "ending.by_signal(); os.kill(os.getpid(), signal.SIGHUP); print('lives')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("lives\n", "")


@pytest.mark.parametrize("seconds", ["abc", "0", "-1", "nan", "inf", ""])
def test_the_demo_refuses_seconds_that_are_none(seconds: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.demo"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "DEMO_SECONDS": seconds, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"DEMO_SECONDS={seconds}: expected a number of seconds above zero, such as 60\n"
    assert list(tmp_path.iterdir()) == []
