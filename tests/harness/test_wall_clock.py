"""The clock that jumps: the time of day moves, intervals do not, and a wait for a time of day sees the jump."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.preloaded import NoCompilerError
from tests.harness.wall_clock import WallClock

HOUR = 3600.0
WATCHED = """
import sys, threading, time
def turn(): print("here", flush=True); return input()
def offset(): return time.time() - time.monotonic()
before = offset()
turn()
print(round((offset() - before) / 100), flush=True)
began = time.monotonic(); time.sleep(0.05); threading.Event().wait(0.05)
print(0.05 <= time.monotonic() - began < 60, flush=True)
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
producer.produce("topic", b"x")
began = time.monotonic()
threading.Thread(target=lambda: producer.flush(0.2)).start()
turn()
print(producer.flush(0.5), 0.4 < time.monotonic() - began < 60, flush=True)
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_the_time_of_day_jumps_and_intervals_do_not(tmp_path: Path, hours: int) -> None:
    try:
        clock = WallClock(tmp_path / "clock")
    except NoCompilerError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED],
        env={**os.environ, **clock.environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def go_on(seconds: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        clock.jump(seconds)
        process.stdin.write("\n")
        process.stdin.flush()

    with process:
        go_on(hours * HOUR)
        assert process.stdout.readline() == f"{hours * 36}\n"
        assert process.stdout.readline() == "True\n"
        go_on(-hours * HOUR)
        assert process.stdout.readline() == "1 True\n"
    assert process.returncode == 0
