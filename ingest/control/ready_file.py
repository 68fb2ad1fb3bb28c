"""The ready file: written once the ports are bound."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_ready_file(path: Path, addresses: Mapping[str, str]) -> None:
    """Write pid and addresses. The file is replaced whole, a link stays a link.

    Raises ``OSError``, also for what is no regular file: opening a pipe that nothing reads would block the service.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise OSError(f"K2_READY_FILE={path}: not a regular file; name another one")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of an earlier process with this id, as every container's first one has
    with draft.open("x", encoding="utf-8") as file:
        json.dump({"pid": os.getpid(), **addresses}, file)
    draft.replace(target)
