"""The positions topic as the auditor reads it: what the writer claims to have accounted for."""

import zlib
from typing import Any

from ingest.audit.model import Inconclusive, Position, Void
from ingest.decoding import Undecodable, decode_json, decoding

VERSION = 1
"""Of the records' format. A greater one counts in the latest ``writer`` record of a partition alone: then a writer that
this auditor does not know wrote it. Elsewhere it is a stranger's."""

Fault = tuple[str, str, Any, Any]
"""Symbol, field, what was expected, what was found."""
FAULTS_KEPT = 100
FOREIGN_KEPT = 20
REBUILD = "positions-rebuild"
"""What `ingest positions rebuild` writes as the successor of its generation."""
CORRECTED_KEPT = 100
LARGEST = 2**63 - 1
"""Of an id, and of a count."""
MOST_GENERATION = 2**53 - 2**20
"""A larger one leaves no room for successors: no writer has it."""


class Positions:
    """Takes the records of the positions topic in the order of their offsets, those of one stream."""

    def __init__(self, stream: str = "trade") -> None:
        """``stream``: keys of trades name the symbol alone, those of other streams ``<stream>:<symbol>``."""
        self._stream = stream
        self.positions: dict[str, Position] = {}
        """Symbol -> the position that is furthest on, of those that the partitions hold."""
        self._held: dict[str, dict[int, Position]] = {}
        """Symbol -> partition -> its position there. A change of the number of shards moves it; partitions are read in
        any order, so that the deletion of the old one may come after the new one."""
        self.voids: dict[str, dict[int, Void]] = {}
        self._generations: dict[int, int] = {}
        """Partition -> the latest generation: each shard counts its own."""
        self._newer: dict[int, int] = {}
        """Partition -> the newer format of its latest writer."""
        self.records = 0
        self._faults: list[Fault] = []
        self._stepped_back: dict[int, dict[str, Fault]] = {}
        """Partition -> symbol -> a step back that a generation of the rebuild may yet explain."""
        self.corrected: list[str] = []
        """Steps back that `ingest positions rebuild` has written."""
        self._written: set[int] = set()
        """Partitions that have records."""
        self._stated: dict[int, int] = {}
        """Partition -> the number of shards that its latest writer states."""
        self.foreign = 0
        """Records that are none of this service's. They say nothing about the trades: a symbol whose position they have
        replaced is judged by the one before, which then lies behind the topic."""
        self.foreign_examples: list[str] = []
        self._layouts: dict[int, tuple[int, int, int]] = {}
        """Partition -> version, number of shards and number of partitions of its latest layout."""

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the records themselves."""
        open_ = [fault for steps in self._stepped_back.values() for fault in steps.values()]
        return (self._faults + open_)[:FAULTS_KEPT]

    def take(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Take one record, whatever it is. ``require_format`` says at the end whether the whole can be judged."""
        self.records += 1
        if value is None:
            if key == b"writer":
                self._newer.pop(partition, None)
            self._remove(partition, key or b"")
            return
        try:
            with decoding():
                self._take_value(partition, key or b"", value)
        except Undecodable as error:
            self.foreign += 1
            if len(self.foreign_examples) < FOREIGN_KEPT:
                self.foreign_examples.append(f"{key!r}: {error}"[:200])

    def require_format(self) -> None:
        """Raise ``Inconclusive`` if a writer whose format is newer than this auditor wrote last."""
        if self._newer:
            raise Inconclusive(
                f"the positions topic has format {max(self._newer.values())}, this auditor knows {VERSION}: update it"
            )

    def stored_shards(self, partitions: int) -> int | None:
        """The number of shards that the topic states; None if it states none.

        Raises ``Inconclusive`` if it was changed while the ``partitions`` were read.
        """
        if not self._layouts:
            return None
        version, shards, written = max(self._layouts.values())
        seen = {self._layouts.get(partition, (0,))[0] for partition in range(written)}
        if written > partitions or seen != {version}:
            raise Inconclusive("the number of shards was changed while the positions were read: audit once more")
        return shards

    def number_of_shards(self, partitions: int) -> int | None:
        """The number of shards: stated by the topic, by its writers, else seen. None where that is ambiguous.

        Positions that agree with ``partitions``, or with the partitions that have records, show it.

        Raises ``Inconclusive`` like ``stored_shards``.
        """
        stored = self.stored_shards(partitions)
        if stored is not None:
            return stored
        stated = set(self._stated.values())
        if stated:
            return stated.pop() if len(stated) == 1 else None
        seen = len(self._written)
        possible = [seen] if seen and self._written == set(range(seen)) else []
        return next((number for number in (*possible, partitions) if self._agree_with(number)), None)

    def _agree_with(self, shards: int) -> bool:
        held = ((symbol, place) for symbol, places in self._held.items() for place in places)
        return all(zlib.crc32(symbol.encode()) % shards == place for symbol, place in held)

    def _take_value(self, partition: int, key: bytes, value: bytes) -> None:
        kind, _, rest = key.decode().partition(":")
        sequence = rest.rpartition(":")[0] if kind == "void" else rest
        stream, symbol = split_sequence(sequence)
        if kind in ("position", "void") and stream != self._stream:
            return
        data = decode_json(value)
        version = _whole(data["v"], least=1)
        if version <= VERSION:
            self._written.add(partition)
            self._take(kind, symbol, rest, data, partition)
        elif key == b"writer" and _generation(data) >= self._generations.get(partition, 0):
            self._newer[partition] = version
        else:
            raise ValueError(f"format {version} without a writer of that format")

    def _remove(self, partition: int, key: bytes) -> None:
        """A tombstone: the record before it no longer counts, compacted or not."""
        kind, _, rest = key.decode(errors="replace").partition(":")
        sequence, _, first_id = rest.rpartition(":")
        stream, symbol = split_sequence(rest if kind == "position" else sequence)
        if stream != self._stream:
            return
        if kind == "position":
            self._held.get(symbol, {}).pop(partition, None)
            self._find_furthest(symbol)
        elif kind == "void" and first_id.isascii() and first_id.isdigit():
            self.voids.get(symbol, {}).pop(int(first_id), None)

    def _take(self, kind: str, symbol: str, rest: str, data: dict[str, Any], partition: int) -> None:
        if kind == "position":
            self._take_position(symbol, _position(symbol, data), partition)
        elif kind == "void":
            void = Void(_whole(data["first_id"]), _whole(data["last_id"]), str(data["reason"]))
            if (
                split_sequence(str(data["symbol"]))[1] != symbol
                or str(void.first_id) != rest.rpartition(":")[2]
                or void.last_id < void.first_id
            ):
                raise ValueError("key and value of a void do not agree")
            self.voids.setdefault(symbol, {})[void.first_id] = void
        elif kind == "writer":
            generation, least = _generation(data), self._generations.get(partition, 0)
            if generation < least:
                self._fault("?", "writer.generation", f"at least {least}", generation)
            self._generations[partition] = max(least, generation)
            self._newer.pop(partition, None)
            self._keep_steps_back(partition)
            shards = data.get("shards")
            if shards is not None:
                self._stated[partition] = _whole(shards, least=1)
        elif kind == "handover":
            least, generation = self._generations.get(partition, 0), _generation(data)
            self._generations[partition] = max(least, generation)
            if data.get("to") == REBUILD:
                self._accept_steps_back(partition, generation)
            self._keep_steps_back(partition)
        elif kind == "layout":
            layout = (_whole(data["version"]), _whole(data["shards"], least=1), _whole(data["partitions"], least=1))
            self._layouts[partition] = layout
        elif kind != "symbols":
            raise ValueError("unknown key")

    def _take_position(self, symbol: str, position: Position, partition: int) -> None:
        held = self._held.setdefault(symbol, {})
        before = held.get(partition)
        if before is not None and (position.last_id < before.last_id or position.first_id != before.first_id):
            expected = f"first {before.first_id}, last at least {before.last_id}"
            self._keep_steps_back(partition, symbol)
            self._stepped_back.setdefault(partition, {})[symbol] = (symbol, "position", expected, repr(position))
        else:
            self._keep_steps_back(partition, symbol)
        held[partition] = position
        self._find_furthest(symbol)

    def _accept_steps_back(self, partition: int, generation: int) -> None:
        """The transaction of a rebuild has its positions first, then its generation, and no writer between them."""
        for symbol, _, expected, found in self._stepped_back.pop(partition, {}).values():
            if len(self.corrected) < CORRECTED_KEPT:
                self.corrected.append(f"{symbol}: {expected}, {found} by generation {generation}")

    def _keep_steps_back(self, partition: int, symbol: str | None = None) -> None:
        """Nothing explains these any more: the symbol has a further position, or a writer has written."""
        steps = self._stepped_back.get(partition, {})
        for name in [symbol] if symbol is not None else list(steps):
            if name in steps:
                self._fault(*steps.pop(name))

    def _find_furthest(self, symbol: str) -> None:
        held = self._held.get(symbol)
        if held:
            self.positions[symbol] = max(held.values(), key=lambda one: one.last_id)
        else:
            self.positions.pop(symbol, None)

    def _fault(self, symbol: str, field: str, expected: Any, found: Any) -> None:
        if len(self._faults) < FAULTS_KEPT:
            self._faults.append((symbol, field, expected, found))

    def voids_of(self, symbol: str) -> list[Void]:
        """A symbol's voids, ascending."""
        return sorted(self.voids.get(symbol, {}).values(), key=lambda void: void.first_id)

    def check(self, symbol: str, check: Any, shards: int | None, *, counted: bool = True) -> None:
        """Whether the position record agrees with itself and with the topic, which was read before this.

        ``counted``: whether the record says how many of its ids have a record.

        ``shards``: the symbol's shard, and with it the partition of its position, is its CRC-32 modulo this number;
        None where the number is not known.
        """
        position = self.positions.get(symbol)
        voids = self.voids_of(symbol)
        if position is None:
            if check.totals.committed:
                check.wrong_position("position", f"a record position:{symbol}", None)
            return
        if shards is not None:
            self._check_partition(symbol, check, shards)
        span = position.last_id - position.first_id + 1
        inside = sum(max(0, min(v.last_id, position.last_id) - max(v.first_id, position.first_id) + 1) for v in voids)
        if counted and (span != position.count + inside or position.count < 0):
            check.wrong_position("count", f"{span - inside} ({span} ids, {inside} of them void)", position.count)
        if check.last_id is not None and check.last_id > position.last_id:
            check.wrong_position("last_id", f"at least {check.last_id}, the topic's last", position.last_id)
        for void in voids:
            if void.last_id > position.last_id:
                check.wrong_position("last_id", f"at least {void.last_id}, the end of a void", position.last_id)

    def _check_partition(self, symbol: str, check: Any, shards: int) -> None:
        partition = zlib.crc32(symbol.encode()) % shards
        held = sorted(self._held[symbol])
        if held != [partition]:
            found = held[0] if len(held) == 1 else held
            check.wrong_position("partition", f"{partition}: shard of {symbol} of {shards}", found)


def split_sequence(name: str) -> tuple[str, str]:
    """Stream and symbol of a sequence's name; no symbol has a colon."""
    stream, _, symbol = name.rpartition(":")
    return stream or "trade", symbol


def _position(symbol: str, data: dict[str, Any]) -> Position:
    found = Position(_whole(data["first_id"]), _whole(data["last_id"], least=-1), _whole(data["count"]))
    if not symbol or found.last_id < found.first_id - 1:
        raise ValueError("no position of a symbol")
    return found


def _generation(data: dict[str, Any]) -> int:
    generation = _whole(data["generation"])
    if generation > MOST_GENERATION:
        raise ValueError(f"generation {generation} has no successors")
    return generation


def _whole(value: Any, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= LARGEST:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number from {least} on")
    return value
