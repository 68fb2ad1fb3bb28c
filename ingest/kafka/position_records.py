"""The records of the positions topic: JSON, each with ``v``, the format's version. Pure."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ingest.core.batch import SymbolChanges
from ingest.core.trade import Position, Void, VoidReason
from ingest.decoding import Undecodable, decode_with

VERSION = 1
POSITION = "position:"
VOID = "void:"
HANDOVER = "handover:"
WRITER = b"writer"
SYMBOLS = b"symbols"
LAYOUT = b"layout"
RESHARD = "reshard"
"""Instance in the ``writer`` records of ``ingest reshard``: no instance writes the shard until one takes it over."""

MOST_GENERATION = 2**53 - 2**20
"""Largest generation that counts; a writer that would need a larger one stops."""
HANDOVER_COUNTS = 2**52
"""Largest generation that counts in a record of a take-over. Beyond it that of ``writer`` does alone: it is one key, so
that one record corrects a forged number, while every take-over has a key of its own."""

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Before = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Generation = Annotated[int, Meta(ge=0, le=MOST_GENERATION)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Symbol = Annotated[str, Meta(min_length=1, max_length=64)]
_Label = Annotated[str, Meta(max_length=256)]
_Shards = Annotated[int, Meta(ge=1, le=1000)]


class WriterRecord(msgspec.Struct, frozen=True):
    """Key ``writer``: in every transaction, heartbeats included. The latest one identifies the writer."""

    generation: _Generation
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
    shards: _Shards | UnsetType = UNSET
    """``K2_SHARD_COUNT`` of the writer. Older versions, which know no layout, neither write nor read it."""
    v: int = VERSION


class HandoverRecord(msgspec.Struct, frozen=True):
    """Key ``handover:<generation>``: one take-over."""

    generation: _Generation
    previous: _Name | None = msgspec.field(name="from")
    successor: _Name = msgspec.field(name="to")
    deployment_id: _Label | None
    started_at_us: _Id
    completed_at_us: _Id
    v: int = VERSION


class LayoutRecord(msgspec.Struct, frozen=True):
    """Key ``layout``, the same in every partition: the number of shards. Without one ``K2_SHARD_COUNT`` says it."""

    version: _Count
    """Of the layout: each record of a later transaction has a larger one."""
    state: Literal["stable", "changing"]
    """``changing``: nothing is written to any shard until it is ``stable`` again."""
    shards: _Shards
    """In force; while it is being changed, the number before."""
    by: _Name
    """The command that wrote it, as ``host-pid``, or the instance that took an abandoned change back."""
    since_us: _Id
    """Wall time of its writer, microseconds since the epoch."""
    partitions: _Count
    """Of the positions topic that have this record: from 0 on."""
    to: _Shards | UnsetType = UNSET
    """The number that it is being changed to; absent in a stable layout."""
    v: int = VERSION

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a change to no number."""
        if self.state == "changing" and self.to is UNSET:
            raise ValueError("a change of the number of shards without the number")


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


class Head(msgspec.Struct, frozen=True):
    """What every format has; ``generation`` in records of writers alone."""

    v: Annotated[int, Meta(ge=1, le=2**31 - 1)] = VERSION
    generation: _Generation | UnsetType = UNSET


class NewerFormat(ValueError):
    """A record of a newer format, with what it says of itself."""

    def __init__(self, head: Head) -> None:
        super().__init__(f"format {head.v} without a writer of that format")
        self.head = head


_T = TypeVar("_T")


def decoded(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T:
    """Decode a record. Raises ``Undecodable`` and ``NewerFormat``."""
    head = decode_with(_head_decoder, value)
    if head.v > VERSION:
        raise NewerFormat(head)
    return decode_with(decoder, value)


_encode = msgspec.json.Encoder().encode
_head_decoder = msgspec.json.Decoder(Head)
_void_decoder = msgspec.json.Decoder(VoidRecord)
position_decoder = msgspec.json.Decoder(_PositionRecord)
symbols_decoder = msgspec.json.Decoder(_SymbolsRecord)
writer_decoder = msgspec.json.Decoder(WriterRecord)
handover_decoder = msgspec.json.Decoder(HandoverRecord)
layout_decoder = msgspec.json.Decoder(LayoutRecord)

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
        stored = decoded(_void_decoder, value)
    except (Undecodable, NewerFormat):
        return None
    return stored if stored.first_id <= stored.last_id else None


def writer_record(record: WriterRecord) -> KeyValue:
    """Key and value of a heartbeat."""
    return WRITER, _encode(record)


def handover_record(record: HandoverRecord) -> KeyValue:
    """Key and value of a take-over."""
    return f"{HANDOVER}{record.generation}".encode(), _encode(record)


def layout_record(record: LayoutRecord) -> KeyValue:
    """Key and value of the layout."""
    return LAYOUT, _encode(record)
