"""The trail: one JSON line for each thing that a deployment did or found, each holding its predecessor's hash.

A line that is changed, removed or inserted afterwards breaks the chain; cutting off the end is seen against the
journal, which holds the number of lines. Written with ``fsync``, under a lock: several processes may take turns.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.common.files import read_file

GENESIS = "0" * 64


class BrokenTrail(Exception):
    """The chain does not hold: the text names the line."""


class AuditTrail:
    """One deployment's file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, at: float, actor: str, what: str, data: Mapping[str, Any]) -> str:
        """Add a line and return its hash. Half a line left by a crash is cut off first. Raises ``OSError``."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            previous, number = self._last(file)
            body = {"n": number + 1, "at": round(at, 6), "actor": actor, "what": what, "data": dict(data)}
            digest = _digest(previous, body)
            line = json.dumps({**body, "previous": previous, "hash": digest}, ensure_ascii=False, allow_nan=False)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return digest

    @staticmethod
    def _last(file: Any) -> tuple[str, int]:
        file.seek(0)
        content: bytes = file.read()
        whole, _, rest = content.rpartition(b"\n")
        if rest:
            file.truncate(len(content) - len(rest))
        if not whole:
            return GENESIS, 0
        try:
            with decoding():
                last = decode_json(whole.rpartition(b"\n")[2])
                return str(last["hash"]), int(last["n"])
        except Undecodable as error:
            raise BrokenTrail(f"its last line is unreadable ({error})") from error

    def lines(self) -> list[dict[str, Any]]:
        """Every line, checked. Raises ``BrokenTrail``; a missing file is an empty trail."""
        return list(self._checked())

    def _checked(self) -> Iterator[dict[str, Any]]:
        try:
            content = read_file(self.path)
        except FileNotFoundError:
            return
        previous = GENESIS
        whole = content.rpartition(b"\n")[0]
        for number, raw in enumerate(whole.split(b"\n") if whole else (), start=1):
            try:
                with decoding():
                    line = decode_json(raw)
                    body = {key: line[key] for key in ("n", "at", "actor", "what", "data")}
                    holds = (
                        line["n"] == number and line["previous"] == previous and line["hash"] == _digest(previous, body)
                    )
            except Undecodable as error:
                raise BrokenTrail(f"{self.path.name}, line {number}: unreadable ({error})") from error
            if not holds:
                raise BrokenTrail(f"{self.path.name}, line {number}: changed, or not where it was written")
            previous = line["hash"]
            yield line


def _digest(previous: str, body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()
