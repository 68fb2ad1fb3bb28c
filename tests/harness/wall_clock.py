"""A wall clock that jumps, for a process of ours alone: its monotonic clock and everybody else's stay as they are.

A small library (``wall_clock.c``) is compiled once and preloaded. libfaketime, which is made for this, cannot be used:
under it Python's ``time.sleep`` fails with EINVAL, and librdkafka's waits never end, for it knows nothing of C11's
``cnd_timedwait`` (0.9.10 with CPython 3.11).
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

from tests.harness.processes import ROOT

SOURCE = Path(__file__).with_name("wall_clock.c")
LIBRARY = ROOT / ".cache" / "wall_clock.so"


class NoCompilerError(Exception):
    """The library cannot be built here; the text says what to install."""


def library() -> Path:
    """Path of the library, built on first use and after a change. Raises ``NoCompilerError``."""
    if LIBRARY.exists() and LIBRARY.stat().st_mtime >= SOURCE.stat().st_mtime:
        return LIBRARY
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompilerError("no C compiler for the clock that jumps (Debian: apt-get install gcc libc6-dev)")
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    fresh = LIBRARY.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(fresh), str(SOURCE)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise NoCompilerError(f"the clock that jumps could not be compiled:\n{done.stderr[-2000:]}")
    fresh.replace(LIBRARY)
    return LIBRARY


class WallClock:
    """The time of day as processes with ``environment`` see it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = library()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        """For the process."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_FILE": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Set the clock so far ahead of the true time (negative: behind it); 0 sets it right."""
        with self._file.open("r+b") as file:  # in place: the process has the page mapped
            file.write(struct.pack("=q", round(seconds * 1e6)))
