"""What the demo shows while it runs, and at the end."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO


class View:
    """One live line on a terminal, a line every few seconds elsewhere; events on lines of their own."""

    def __init__(self, out: TextIO = sys.stdout, *, every: float = 5.0) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._every = every
        self._last = 0.0
        self._began = time.monotonic()
        self._live = False

    def _stamp(self) -> str:
        return f"{time.monotonic() - self._began:6.1f} s"

    def event(self, text: str) -> None:
        """Something happened."""
        self._clear()
        mark = "\x1b[1m>\x1b[0m" if self._terminal else ">"
        self._out.write(f"{self._stamp()} {mark} {text}\n")
        self._out.flush()

    def progress(self, values: Mapping[str, object]) -> None:
        """How it stands."""
        now = time.monotonic()
        if not self._terminal and now - self._last < self._every:
            return
        self._last = now
        line = f"{self._stamp()}   " + "  ".join(f"{name} {value}" for name, value in values.items())
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._out.write(f"\r\x1b[K{line[:width]}")
            self._live = True
        else:
            self._out.write(line + "\n")
        self._out.flush()

    def _clear(self) -> None:
        if self._live:
            self._out.write("\r\x1b[K")
            self._live = False

    def table(self, rows: Sequence[tuple[str, object]]) -> None:
        """The result."""
        self._clear()
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            self._out.write(f"  {name.ljust(width)}  {shown}\n")
        self._out.flush()
