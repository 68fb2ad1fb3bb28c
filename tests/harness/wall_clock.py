"""A wall clock that jumps, for a process of ours alone: its monotonic clock and everybody else's stay as they are.

A small library (``wall_clock.c``) is compiled once and preloaded. libfaketime, which is made for this, cannot be used:
under it Python's ``time.sleep`` fails with EINVAL, and librdkafka's waits never end, for it knows nothing of C11's
``cnd_timedwait`` (0.9.10 with CPython 3.11).
"""

import struct
from pathlib import Path

from tests.harness.preloaded import library

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The time of day as processes with ``environment`` see it."""

    def __init__(self, file: Path) -> None:
        """Raises ``NoCompilerError``."""
        self._file = file
        self._library = library(SOURCE)
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
