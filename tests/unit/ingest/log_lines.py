"""What a logger has written."""

import io
import json
import logging
from typing import Any

from ingest.logs import LineHandler, Redactor


class Lines:
    """A logger of its own whose lines can be read."""

    def __init__(self, fmt: Any = "json", *secrets: str, name: str = "ingest.x") -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        self.levels: list[str] = []
        self.handler = LineHandler(
            self.stream, Redactor(frozenset(secrets)), fmt, counter=self.levels.append, monotonic=lambda: self.now
        )
        self.log = logging.Logger(name)  # noqa: LOG001 (not one of the process's, so that examples do not meet)
        self.log.addHandler(self.handler)

    @property
    def written(self) -> str:
        return self.stream.getvalue()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.split("\n") if line]
