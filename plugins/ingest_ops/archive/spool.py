"""Records as Avro container files, one for each symbol and schema: appended, never decoded, resumable.

A container file is a header and blocks of ``count, size, data, sync marker``. A record in the Confluent wire format is
five bytes and an Avro datum; with a field of five bytes put before the others of its schema the whole of it is a datum,
and a block is records as the topic has them. ``checkpoint`` makes what was written durable and notes the lengths of the
files together with the offsets that come next; a later run cuts the files to these lengths and reads on.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.archive.errors import ArchiveError
from ingest_ops.common.files import read_file

SYNC: Final = b"K2 ingest spool."
"""A sync marker is any 16 bytes; no reader looks for it in a file that it reads from the start."""
FLUSH_BYTES: Final = 1 << 17
"""Of one symbol; written as one block."""
WAITING_BYTES: Final = 48 << 20
"""Of all symbols together."""
HEADER: Final = 5
_header: Final = itemgetter(slice(HEADER))
_NAME: Final = re.compile(r"[A-Z0-9_]{1,64}")


class SpoolState(msgspec.Struct):
    """What a checkpoint notes."""

    fingerprint: str
    """What the spool was made for: day, topic, begin. Another fingerprint means another spool."""
    offsets: dict[int, int]
    lengths: dict[str, int]
    records: int = 0
    complete: bool = False
    """Whether reading has come to its end."""


def long(number: int) -> bytes:
    """Avro's variable-length integer, for numbers from 0 on."""
    number <<= 1
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def framed(schema: Any) -> Any:
    """The schema of a value with its wire format's five bytes. Raises ``ArchiveError`` if it is no record's."""
    if not isinstance(schema, dict) or not isinstance(schema.get("fields"), list):
        raise ArchiveError(f"the schema of a record is no Avro record: {str(schema)[:80]}")
    first = {"name": "k2_wire_format", "type": {"type": "fixed", "name": "K2WireFormat", "size": HEADER}}
    return {**schema, "fields": [first, *schema["fields"]]}


def container_header(schema: Any) -> bytes:
    """The first bytes of a container file of such values, without compression. Raises ``ArchiveError``."""
    text = json.dumps(framed(schema)).encode()
    name = b"avro.schema"
    return b"Obj\x01" + long(1) + long(len(name)) + name + long(len(text)) + text + long(0) + SYNC


def block(values: Sequence[bytes]) -> bytes:
    """A block of a container file."""
    data = b"".join(values)
    return long(len(values)) + long(len(data)) + data + SYNC


@dataclass(slots=True)
class _Waiting:
    path: Path
    values: list[bytes]
    size: int = 0


class Spool:
    """A folder of container files. ``schemas``: schema id -> Avro schema as JSON data."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self._fingerprint = fingerprint
        self._waiting: dict[tuple[bytes, bytes], _Waiting] = {}
        self._waits = 0
        self._known: set[Path] = set()
        self.records = 0
        self.complete = False
        """Whether an earlier run has filled it to the end."""
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> dict[int, int]:
        """Offsets from which to read on, by partition; empty for a spool that begins. Raises ``OSError``."""
        state = self._state()
        if state is None or state.fingerprint != self._fingerprint:
            for path in self.folder.iterdir():
                path.unlink()
            return {}
        for path in self.folder.glob("*.avro"):
            length = state.lengths.get(path.name)
            if length is None:
                path.unlink()
            elif path.stat().st_size < length:
                return self._begin_anew()
            else:
                os.truncate(path, length)
                self._known.add(path)
        if {path.name for path in self._known} != set(state.lengths):
            return self._begin_anew()
        self.records, self.complete = state.records, state.complete
        return state.offsets

    def _begin_anew(self) -> dict[int, int]:
        self._known.clear()
        for path in self.folder.iterdir():
            path.unlink()
        return {}

    def _state(self) -> SpoolState | None:
        try:
            return decode_typed(read_file(self.folder / "state.json"), SpoolState)
        except (OSError, Undecodable):
            return None

    def add(self, groups: Mapping[bytes, Sequence[bytes]], schemas: Mapping[bytes, Any]) -> None:
        """Append records: key (the symbol) -> values in order. ``schemas`` by the first five bytes of a value."""
        for key, values in groups.items():
            headers = dict.fromkeys(map(_header, values))
            for header in headers:
                of_one = values if len(headers) == 1 else [one for one in values if one.startswith(header)]
                self._append(key, header, of_one, schemas)
        if self._waits >= WAITING_BYTES:
            self._flush_all()

    def _append(self, key: bytes, header: bytes, values: Sequence[bytes], schemas: Mapping[bytes, Any]) -> None:
        held = self._waiting.get((key, header))
        if held is None:
            held = self._waiting[key, header] = _Waiting(self._path(key, header, schemas), [])
        size = sum(map(len, values))
        held.values += values
        held.size += size
        self._waits += size
        if held.size >= FLUSH_BYTES:
            self._flush(held)

    def _path(self, key: bytes, header: bytes, schemas: Mapping[bytes, Any]) -> Path:
        name = key.decode("ascii", "replace")
        if not _NAME.fullmatch(name):
            name = f"_{key.hex()}"
        path = self.folder / f"{name}.{int.from_bytes(header[1:], 'big')}.avro"
        if path not in self._known:
            path.write_bytes(container_header(schemas[header]))
            self._known.add(path)
        return path

    def _flush(self, held: _Waiting) -> None:
        with held.path.open("ab") as file:
            file.write(block(held.values))
        self.records += len(held.values)
        self._waits -= held.size
        held.values, held.size = [], 0

    def _flush_all(self) -> None:
        for held in self._waiting.values():
            if held.values:
                self._flush(held)

    def checkpoint(self, offsets: Mapping[int, int], *, complete: bool = False) -> None:
        """Make everything durable, and note where to read on, or that this is the end."""
        self._flush_all()
        lengths = {}
        for path in self._known:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                lengths[path.name] = os.fstat(file.fileno()).st_size
        state = SpoolState(self._fingerprint, dict(offsets), lengths, self.records, complete)
        write_whole(self.folder / "state.json", msgspec.json.encode(state))

    def files(self) -> Iterator[tuple[str, list[Path]]]:
        """Symbol and its files, symbols in order; the schemas of a symbol in the order of their ids."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for path in self.folder.glob("*.avro"):
            name, number, _ = path.name.split(".")
            symbol = bytes.fromhex(name[1:]).decode(errors="replace") if name.startswith("_") else name
            found.setdefault(symbol, []).append((int(number), path))
        for symbol in sorted(found):
            yield symbol, [path for _, path in sorted(found[symbol])]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and make it durable. Raises ``OSError``."""
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
