"""Runs ``archive day`` in a process of its own and kills it (SIGKILL) at a step, the n-th time that it gets there.

``python -m tests.campaigns.archive.killed STEP N SETTINGS DAY NOW_US``; SETTINGS is the path of a JSON file. Exit
code 0: the run ended without reaching the step so often.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from ingest_ops.archive import build, day
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.spool import Spool
from ingest_ops.archive.storage import Storage
from ingest_ops.archive.table import DayTable

Step = tuple[Any, str, str]
"""Owner, function, and whether it is killed ``before``, ``after`` or ``within`` it."""

STEPS: dict[str, Step] = {
    "reading": (Spool, "add", "before"),
    "checkpoint": (Spool, "checkpoint", "before"),
    "checkpoint noted": (Spool, "checkpoint", "after"),
    "decoding": (build, "as_table", "before"),
    "bucket written": (build, "write_whole", "before"),
    "bucket noted": (build, "write_whole", "after"),
    "upload": (Storage, "upload", "before"),
    "half a file": (Storage, "upload", "within"),
    "uploaded": (Storage, "upload", "after"),
    "locator": (Storage, "write", "before"),
    "certificate": (Storage, "write", "after"),
    "commit": (DayTable, "_commit", "before"),
    "committed": (DayTable, "_commit", "after"),
    "cleaning": (shutil, "rmtree", "before"),
}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(step: str, count: int) -> None:
    """Kill this process when it gets to the step for the ``count``-th time."""
    owner, name, where = STEPS[step]
    before = getattr(owner, name)
    calls = itertools.count(1)

    def call(*args: Any, **others: Any) -> Any:
        mine = next(calls)  # buckets are written by several threads
        if mine == count and where == "within":
            _half_an_upload(args)
        if mine == count and where != "after":
            _die()
        found = before(*args, **others)
        if mine == count:
            _die()
        return found

    setattr(owner, name, call)


def _half_an_upload(args: tuple[Any, ...]) -> None:
    """Half of the file under its temporary name."""
    storage, source, location = args
    _, path = storage.place(location)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    Path(path + ".part").write_bytes(data[: len(data) // 2])


def written(settings: ArchiveSettings, path: Path) -> Path:
    """The settings as a file for ``main``."""
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    path.write_text(json.dumps(values, default=str))
    return path


def read(path: Path) -> ArchiveSettings:
    """What ``written`` wrote."""
    convert: dict[str, Callable[[Any], Any]] = {"work": Path, "catalog_options": tuple, "kafka_options": tuple}
    values = json.loads(path.read_text())
    return ArchiveSettings(**{name: convert.get(name, lambda one: one)(value) for name, value in values.items()})


def main() -> int:
    """Run, and die."""
    step, count, settings, one, now_us = sys.argv[1:]
    plant(step, int(count))
    day.archive_day(read(Path(settings)), date.fromisoformat(one), int(now_us))
    return 0


if __name__ == "__main__":
    sys.exit(main())
