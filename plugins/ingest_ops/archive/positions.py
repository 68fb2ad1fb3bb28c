"""The positions topic: how far each symbol is recorded, and which ids are void. Pure."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.archive.certificate import VoidEntry
from ingest_ops.archive.errors import ArchiveError

LARGEST = 2**63 - 1
"""Of an id, and of a time."""

log = logging.getLogger(__name__)

VERSION = 1
"""Of the records' format. A greater one counts in the latest ``writer`` record of a partition alone."""


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
    """Symbol -> the position that is furthest on, of those that the partitions hold."""
    held: dict[str, dict[int, Position]] = field(default_factory=dict)
    """Symbol -> partition -> its position there. A change of the number of shards moves it, and partitions are read in
    any order: the deletion of the old one may come after the new one."""
    voids: dict[str, dict[int, VoidEntry]] = field(default_factory=dict)
    committed_us: dict[int, int] = field(default_factory=dict)
    """Partition -> when its writer committed last."""
    newer: dict[int, int] = field(default_factory=dict)
    """Partition -> the newer format of its latest writer."""
    invalid: int = 0
    """Records that no writer wrote: skipped. What they have replaced is read from the records before."""
    example: str = ""
    """The latest of them, described."""

    def voids_of(self, symbol: str) -> list[VoidEntry]:
        """A symbol's voids, ascending."""
        return sorted(self.voids.get(symbol, {}).values(), key=lambda one: one.first_id)

    def committed_at(self, symbol: str) -> int:
        """When the symbol's writer committed last, microseconds; 0 if it never did."""
        position = self.positions.get(symbol)
        return 0 if position is None else self.committed_us.get(position.partition, 0)


def read_records(records: Iterable[tuple[int, bytes, bytes | None]]) -> Recorded:
    """Apply records in the order of their offsets: partition, key, value.

    Raises ``ArchiveError`` if a newer version wrote last.
    """
    found = Recorded()
    for partition, key, value in records:
        try:
            with decoding():
                _apply(found, partition, key, value)
        except Undecodable as error:
            found.invalid += 1
            found.example = f"partition {partition}, key {key[:80]!r}: {error}"
    if found.invalid:
        log.warning("the positions topic has %d records of strangers, skipped; %s", found.invalid, found.example)
    if found.newer:
        newest = max(found.newer.values())
        raise ArchiveError(f"the positions topic has format {newest}, this version reads {VERSION}: update it")
    return found


def _apply(found: Recorded, partition: int, key: bytes, value: bytes | None) -> None:
    kind, _, name = key.decode(errors="replace").partition(":")
    if value is None:
        _remove(found, kind, name, partition)
        return
    data = decode_json(value)
    version = _whole(data["v"])
    if version <= VERSION:
        _take(found, kind, name, data, partition)
    elif key == b"writer" and _whole(data["generation"]) >= 0:
        found.newer[partition] = version
    else:
        raise ValueError(f"format {version} without a writer of that format")


def _take(found: Recorded, kind: str, name: str, data: dict[str, Any], partition: int) -> None:
    if kind == "position":
        time_us = data.get("last_time_us")
        found.held.setdefault(name, {})[partition] = Position(
            _whole(data["first_id"]), _whole(data["last_id"]), None if time_us is None else _whole(time_us), partition
        )
        _find_furthest(found, name)
    elif kind == "void":
        entry = VoidEntry(_whole(data["first_id"]), _whole(data["last_id"]), str(data["reason"]))
        if entry.first_id <= entry.last_id:
            found.voids.setdefault(str(data["symbol"]), {})[entry.first_id] = entry
    elif kind == "writer":
        found.committed_us[partition] = max(found.committed_us.get(partition, 0), _whole(data["committed_at_us"]))
        found.newer.pop(partition, None)
    elif kind not in ("handover", "symbols", "layout"):
        raise ValueError("unknown key")


def _find_furthest(found: Recorded, name: str) -> None:
    held = found.held.get(name)
    if held:
        found.positions[name] = max(held.values(), key=lambda one: one.last_id)
    else:
        found.positions.pop(name, None)


def _whole(value: Any) -> int:
    if type(value) is not int or not -1 <= value <= LARGEST:
        raise ValueError(f"{str(value)[:40]!r} is no whole number of 64 bits")
    return value


def _remove(found: Recorded, kind: str, name: str, partition: int) -> None:
    symbol, _, first_id = name.rpartition(":")
    if kind == "position":
        found.held.get(name, {}).pop(partition, None)
        _find_furthest(found, name)
    elif kind == "writer":
        found.newer.pop(partition, None)
    elif kind == "void" and first_id.isdecimal():
        found.voids.get(symbol, {}).pop(int(first_id), None)
