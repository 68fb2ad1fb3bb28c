"""One run at a day at a time: a lock on a file, released by the kernel however the process ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest_ops.archive.errors import TryAgain


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock. Raises ``TryAgain`` if another run holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TryAgain(f"{what}: another run is at it (it holds {path})") from error
        yield
