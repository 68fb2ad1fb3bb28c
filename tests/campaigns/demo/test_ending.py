"""``make demo`` that is ended from outside stops everything and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.interpreters import ROOT
from tests.harness.kafka import KafkaUnavailable, jars, java

pytestmark = pytest.mark.integration
DEMO = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # nohup, or a shell for its background jobs, ignores some
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "tests.campaigns.demo"])
"""


def of(folder: Path) -> list[str]:
    """Command lines of the processes that were started with this folder for temporary files."""
    wanted = f"TMPDIR={folder}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_demo_that_is_ended_leaves_no_process_and_no_folder(number: signal.Signals, tmp_path: Path) -> None:
    try:
        java()
        jars()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    folder, output = tmp_path / "tmp", tmp_path / "output"
    folder.mkdir()
    with output.open("w") as file:
        demo = subprocess.Popen(
            [sys.executable, "-c", DEMO], cwd=ROOT, stdout=file, stderr=file,
            env={**os.environ, "TMPDIR": str(folder), "DEMO_SECONDS": "60"},
        )  # fmt: skip
    deadline = time.monotonic() + 200
    while "the market opens" not in output.read_text() and time.monotonic() < deadline and demo.poll() is None:
        time.sleep(0.1)
    running = of(folder)
    demo.send_signal(number)
    assert demo.wait(120) == 128 + number, output.read_text()
    assert len(running) >= 3, "the demo, Kafka, the simulator and the service ran"
    assert of(folder) == []
    assert list(folder.iterdir()) == []
    assert "Traceback" not in output.read_text()
    assert f"ended by {number.name}" in output.read_text()
