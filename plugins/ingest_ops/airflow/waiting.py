"""A deployment that waits for the pool, as a file: the soak that follows each deployment makes way for the next one."""

import json
from pathlib import Path

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.common.files import read_file
from ingest_ops.render.files import write_atomically

FILE = "waiting-deployment.json"


def announce(reports: Path, deployment: str, at: float) -> None:
    """Say that it waits. ``at``: seconds since 1970. Raises ``OSError``."""
    write_atomically(reports / FILE, json.dumps({"deployment": deployment, "at": at}))


def announced(reports: Path, since: float) -> str:
    """The deployment that has been waiting, announced later than ``since``; empty where there is none."""
    try:
        with decoding():
            found = decode_json(read_file(reports / FILE, 64 * 1024))
            return str(found["deployment"]) if float(found["at"]) > since else ""
    except (OSError, Undecodable):
        return ""
