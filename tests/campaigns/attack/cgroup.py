"""A memory limit for a running process, like the one of its container: Linux control groups 1 or 2, as root."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


class Limit(Protocol):
    """What holds processes within their memory."""

    def add(self, pid: int) -> None:
        """Limit a process."""


class NoLimit:
    """Where there is no control group to write to: the resident memory is looked at all the same."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, pid: int) -> None:
        """Nothing."""


class MemoryLimit:
    """Limits the memory of processes that are added while the context is open."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._limit = limit_bytes
        root = next((root for root in ROOTS if (root / "cgroup.procs").exists() and os.access(root, os.W_OK)), None)
        if root is None:
            raise RuntimeError("no writable control group for memory: run as root on Linux")
        self._path = root / f"k2-{name}-{os.getpid()}"
        self._second_version = not (root / "memory.limit_in_bytes").exists()

    def __enter__(self) -> Self:
        if self._second_version:
            (self._path.parent / "cgroup.subtree_control").write_text("+memory")
        self._path.mkdir()
        name = "memory.max" if self._second_version else "memory.limit_in_bytes"
        (self._path / name).write_text(str(self._limit))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a process that is still there keeps it: it ends with the machine
            self._path.rmdir()

    def add(self, pid: int) -> None:
        """Limit a process; its later memory counts."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def highest(self) -> int:
        """The most bytes so far, page cache included."""
        name = "memory.peak" if self._second_version else "memory.max_usage_in_bytes"
        return int((self._path / name).read_text())
