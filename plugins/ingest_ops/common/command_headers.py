"""The id and the time that every command to a service or the agent carries (``ingest.http.commands``)."""

import time
import uuid

from ingest.http.commands import ID_HEADER, TIME_HEADER


def command_headers() -> dict[str, str]:
    """Return the headers of one new command."""
    return {ID_HEADER: uuid.uuid4().hex, TIME_HEADER: f"{time.time_ns() / 1e9:.3f}"}
