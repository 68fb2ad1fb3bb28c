"""The positions topic: how far each symbol is recorded, and which ids are void. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ingest_ops.archive.certificate import VoidEntry
from ingest_ops.archive.errors import ArchiveError

VERSION = 1
"""Of the records' format."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a symbol is accounted for."""

    first_id: int
    last_id: int
    last_time_us: int | None
    partition: int
    """Of the positions topic."""


@dataclass(slots=True)
class Recorded:
    """The content of the positions topic."""

    positions: dict[str, Position] = field(default_factory=dict)
    voids: dict[str, dict[int, VoidEntry]] = field(default_factory=dict)
    committed_us: dict[int, int] = field(default_factory=dict)
    """Partition -> when its writer committed last."""

    def voids_of(self, symbol: str) -> list[VoidEntry]:
        """A symbol's voids, ascending."""
        return sorted(self.voids.get(symbol, {}).values(), key=lambda one: one.first_id)

    def committed_at(self, symbol: str) -> int:
        """When the symbol's writer committed last, microseconds; 0 if it never did."""
        position = self.positions.get(symbol)
        return 0 if position is None else self.committed_us.get(position.partition, 0)


def read_records(records: Iterable[tuple[int, bytes, bytes | None]]) -> Recorded:
    """Apply records in the order of their offsets: partition, key, value. Raises ``ArchiveError``."""
    found = Recorded()
    for partition, key, value in records:
        kind, _, name = key.decode(errors="replace").partition(":")
        if value is None:
            _remove(found, kind, name)
            continue
        try:
            data = json.loads(value)
            version = int(data["v"])
            if version <= VERSION:
                _take(found, kind, name, data, partition)
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"positions topic, partition {partition}, key {key[:80]!r}: {error!r}") from error
        if version > VERSION:
            raise ArchiveError(f"the positions topic has format {version}, this version reads {VERSION}: update it")
    return found


def _take(found: Recorded, kind: str, name: str, data: dict[str, Any], partition: int) -> None:
    if kind == "position":
        time_us = data.get("last_time_us")
        found.positions[name] = Position(
            int(data["first_id"]), int(data["last_id"]), None if time_us is None else int(time_us), partition
        )
    elif kind == "void":
        entry = VoidEntry(int(data["first_id"]), int(data["last_id"]), str(data["reason"]))
        if entry.first_id <= entry.last_id:
            found.voids.setdefault(str(data["symbol"]), {})[entry.first_id] = entry
    elif kind == "writer":
        found.committed_us[partition] = max(found.committed_us.get(partition, 0), int(data["committed_at_us"]))


def _remove(found: Recorded, kind: str, name: str) -> None:
    symbol, _, first_id = name.rpartition(":")
    if kind == "position":
        found.positions.pop(name, None)
    elif kind == "void" and first_id.isdecimal():
        found.voids.get(symbol, {}).pop(int(first_id), None)
