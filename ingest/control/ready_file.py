"""The ready file: written once the ports are bound."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_ready_file(path: Path, addresses: Mapping[str, str]) -> None:
    """Write pid and addresses. A plain file is replaced whole; a pipe or a device is written to. Raises ``OSError``."""
    text = json.dumps({"pid": os.getpid(), **addresses})
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    target = path.resolve()  # a link stays a link
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)
