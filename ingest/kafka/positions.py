"""The positions topic: how far each symbol is recorded, and which instance writes.

One partition for each shard, compacted, JSON. Everything here is pure; ``positions_reader`` reads the partition.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ingest.core.batch import SymbolChanges
from ingest.core.errors import Stop
from ingest.core.trade import Position, Void, VoidReason

VERSION = 1
POSITION = "position:"
VOID = "void:"
HANDOVER = "handover:"
WRITER = b"writer"
SYMBOLS = b"symbols"

INVALID_KEPT = 20
"""Invalid records that are described one by one; all of them are counted."""

MOST_SYMBOLS = 100_000
"""Positions kept, many times what the exchange lists; the one that was written longest ago is forgotten first.

A symbol of ours that is forgotten (only junk by the hundred thousand does that) is halted at the next start, as one
whose position is lost; ``ingest positions rebuild`` restores it.
"""

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Before = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Symbol = Annotated[str, Meta(min_length=1, max_length=64)]
_Label = Annotated[str, Meta(max_length=256)]


class WriterRecord(msgspec.Struct, frozen=True):
    """Key ``writer``: in every transaction, heartbeats included. The latest one identifies the writer."""

    generation: _Count
    instance: _Name
    deployment_id: _Label | None
    committed_at_us: _Id
    """Wall time of the writer just before the commit, microseconds since the epoch."""
    sequence: _Count
    """Transactions of this generation so far."""
    state: Literal["active"] = "active"
    partitions: _Count | UnsetType = UNSET
    """Of the trades topic: where its records are. Older versions neither write nor read it."""
    topic_id: _Label | UnsetType = UNSET
    """Of the trades topic that holds the records; another one of the same name has lost them."""
    v: int = VERSION


class HandoverRecord(msgspec.Struct, frozen=True):
    """Key ``handover:<generation>``: one take-over."""

    generation: _Count
    previous: _Name | None = msgspec.field(name="from")
    successor: _Name = msgspec.field(name="to")
    deployment_id: _Label | None
    started_at_us: _Id
    completed_at_us: _Id
    v: int = VERSION


class _PositionRecord(msgspec.Struct, frozen=True):
    first_id: _Id
    last_id: _Before
    count: _Count
    last_time_us: _Id | UnsetType = UNSET
    """Older versions neither write nor read it."""
    unsynced: bool | UnsetType = UNSET
    """Of a book without a snapshot since its beginning or its last break; absent otherwise."""
    v: int = VERSION


class _SymbolsRecord(msgspec.Struct, frozen=True):
    added: Annotated[list[_Symbol], Meta(max_length=10_000)]
    removed: Annotated[list[_Symbol], Meta(max_length=10_000)]
    v: int = VERSION


class VoidRecord(msgspec.Struct, frozen=True):
    """Key ``void:<symbol>:<first_id>``."""

    symbol: _Symbol
    first_id: _Id
    last_id: _Id
    reason: VoidReason
    evidence: dict[str, Any]
    confirmed_at_us: int
    """Microseconds since the epoch, by the writer's clock."""
    v: int = VERSION


class _Version(msgspec.Struct, frozen=True):
    v: int = VERSION


class ShardStateUpdate(msgspec.Struct, frozen=True):
    """The changes since the previous update."""

    positions: dict[str, Position]
    writer: WriterRecord | None
    removed: frozenset[str] = frozenset()
    """Symbols whose position was deleted with a tombstone."""
    symbols: SymbolChanges | None = None
    """Changes of the recorded symbols, if they were stored since."""


class ShardState(msgspec.Struct, frozen=True):
    """The content of a shard's partition, read to its end."""

    positions: dict[str, Position]
    generation: int
    writer: WriterRecord | None
    invalid: int = 0
    """Records that this service did not write: skipped."""
    symbols: SymbolChanges = SymbolChanges()
    """How commands have changed the recorded symbols."""


class ShardStateBuilder:
    """Builds the state from the partition's records, applied in order.

    An invalid record is skipped and counted. That is safe: every transaction writes the positions that it changes, so
    the latest valid record of a key is what was committed last. A key whose valid records are gone (compaction keeps
    only the latest record of a key) has no position; a symbol without one is never begun where the trades topic holds
    records of it.
    """

    def __init__(self, on_void: Callable[[VoidRecord], None] = lambda _: None) -> None:
        """``on_void`` is called with each void; the state does not hold them."""
        self._on_void = on_void
        self.positions: dict[str, Position] = {}
        self.writer: WriterRecord | None = None
        self.generation = 0
        self.invalid: list[str] = []
        """The latest invalid records, described for the log; emptied by the caller that logs them."""
        self.invalid_count = 0
        self._changed: set[str] = set()
        self._removed: set[str] = set()
        self._writer_seen = False
        self.symbols = SymbolChanges()
        self._symbols_seen = False

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Apply one record. Raises ``Stop`` for one that a newer version of this service wrote."""
        try:
            self._apply(key, value)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            self.invalid_count += 1
            if len(self.invalid) < INVALID_KEPT:
                self.invalid.append(f"key {_shortened(key)}: {error}")

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        text = (key or b"").decode()
        if text.startswith(POSITION) and len(text) > len(POSITION):
            self._apply_position(text[len(POSITION) :], value)
        elif key == WRITER:
            if value is not None:
                writer = self.writer = _decoded(_writer_decoder, value)
                self.generation = max(self.generation, writer.generation)
                self._writer_seen = True
        elif text.startswith(HANDOVER):
            if value is not None:
                self.generation = max(self.generation, _decoded(_handover_decoder, value).generation)
        elif key == SYMBOLS:
            self._apply_symbols(value)
        elif not text.startswith(VOID):
            raise ValueError("unknown key")
        elif (void := stored_void(key, value)) is not None:
            self._on_void(void)

    def _apply_symbols(self, value: bytes | None) -> None:
        if value is None:
            self.symbols = SymbolChanges()
        else:
            stored = _decoded(_symbols_decoder, value)
            self.symbols = SymbolChanges(tuple(stored.added), tuple(stored.removed))
        self._symbols_seen = True

    def _apply_position(self, symbol: str, value: bytes | None) -> None:
        if value is None:
            if self.positions.pop(symbol, None) is not None:
                self._changed.discard(symbol)
                self._removed.add(symbol)
            return
        if len(symbol) > _SYMBOL_LENGTH:
            raise ValueError(f"a symbol of {len(symbol)} characters")
        stored = _decoded(_position_decoder, value)
        ids = stored.last_id - stored.first_id + 1
        if not 0 <= stored.count <= ids:
            raise ValueError(f"{stored.count} trades in {ids} ids")
        time_us = None if stored.last_time_us is UNSET else stored.last_time_us
        self.positions.pop(symbol, None)  # to the end: the one that was written longest ago is first
        self.positions[symbol] = Position(
            stored.first_id, stored.last_id, stored.count, time_us, stored.unsynced is True
        )
        self._changed.add(symbol)
        self._removed.discard(symbol)
        if len(self.positions) > MOST_SYMBOLS:
            oldest = next(iter(self.positions))
            self._apply_position(oldest, None)
            raise ValueError(f"more than {MOST_SYMBOLS} symbols: {oldest[:_KEY_SHOWN]} is forgotten")

    def restore(self, state: ShardState) -> None:
        """Continue from a state that another builder made of the same records."""
        self.positions = dict(state.positions)
        self.generation = state.generation
        self.writer = state.writer
        self.invalid_count = state.invalid
        self.symbols = state.symbols

    def state(self) -> ShardState:
        """The state after all records applied so far."""
        return ShardState(dict(self.positions), self.generation, self.writer, self.invalid_count, self.symbols)

    def update(self) -> ShardStateUpdate:
        """The changes since the previous call."""
        update = ShardStateUpdate(
            {symbol: self.positions[symbol] for symbol in self._changed},
            self.writer if self._writer_seen else None,
            frozenset(self._removed),
            self.symbols if self._symbols_seen else None,
        )
        self._changed.clear()
        self._removed.clear()
        self._writer_seen = self._symbols_seen = False
        return update

    def changed(self) -> bool:
        """Whether ``update`` would return a change."""
        return bool(self._changed) or self._writer_seen or bool(self._removed) or self._symbols_seen


_SYMBOL_LENGTH = 64
_KEY_SHOWN = 80
_T = TypeVar("_T")


def _shortened(key: bytes | None) -> str:
    return repr(key) if key is None or len(key) <= _KEY_SHOWN else f"{key[:_KEY_SHOWN]!r}..."


def _decoded(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T:
    """Decode a record. Raises ``Stop`` for a newer version: its fields may mean something that this one misses."""
    version = _version_decoder.decode(value).v
    if version > VERSION:
        raise Stop(
            f"the positions topic holds a record of format {version}, this version reads format {VERSION}: "
            "run the version that wrote it, or a newer one"
        )
    return decoder.decode(value)


_encode = msgspec.json.Encoder().encode
_version_decoder = msgspec.json.Decoder(_Version)
_void_decoder = msgspec.json.Decoder(VoidRecord)
_position_decoder = msgspec.json.Decoder(_PositionRecord)
_symbols_decoder = msgspec.json.Decoder(_SymbolsRecord)
_writer_decoder = msgspec.json.Decoder(WriterRecord)
_handover_decoder = msgspec.json.Decoder(HandoverRecord)

KeyValue = tuple[bytes, bytes]


def position_record(symbol: str, position: Position) -> KeyValue:
    """Key and value of a position."""
    key, time_us = (POSITION + symbol).encode(), position.last_time_us
    stored = _PositionRecord(
        position.first_id,
        position.last_id,
        position.count,
        UNSET if time_us is None else time_us,
        position.unsynced or UNSET,
    )
    return key, _encode(stored)


def symbols_record(changes: SymbolChanges) -> KeyValue:
    """Key and value of the changes of the recorded symbols."""
    return SYMBOLS, _encode(_SymbolsRecord(list(changes.added), list(changes.removed)))


def void_record(void: Void, confirmed_at_us: int) -> KeyValue:
    """Key and value of a void."""
    key = f"{VOID}{void.symbol}:{void.first_id}".encode()
    return key, _encode(
        VoidRecord(void.symbol, void.first_id, void.last_id, void.reason, dict(void.evidence), confirmed_at_us)
    )


def stored_void(key: bytes | None, value: bytes | None) -> VoidRecord | None:
    """A stored void; None for any other record, or an invalid one."""
    if value is None or not (key or b"").startswith(VOID.encode()):
        return None
    try:
        stored = _void_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return stored if stored.first_id <= stored.last_id else None


def writer_record(record: WriterRecord) -> KeyValue:
    """Key and value of a heartbeat."""
    return WRITER, _encode(record)


def handover_record(record: HandoverRecord) -> KeyValue:
    """Key and value of a take-over."""
    return f"{HANDOVER}{record.generation}".encode(), _encode(record)
