"""Files that other programs may write: read up to a bound, and only if they are files.

A pipe under the name of a report would keep a deployment, or the parsing of a DAG, waiting without end.
"""

import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 * 2**20


class NoFile(OSError):
    """A pipe, a device, a folder, or a file beyond the bound. ``strerror`` says which, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.strerror = reason


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a file, or of what a link points to. Raises ``OSError``: ``NoFile``, ``FileNotFoundError`` ..."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise NoFile(path, "is no file")
        if status.st_size > most_bytes:
            raise NoFile(path, f"has {status.st_size} bytes, more than {most_bytes}")
        data: bytes = file.read(most_bytes + 1)  # it may grow meanwhile
    if len(data) > most_bytes:
        raise NoFile(path, f"has more than {most_bytes} bytes")
    return data
