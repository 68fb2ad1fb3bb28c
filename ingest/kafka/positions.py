"""What the positions topic says: how far each symbol is accounted for, and who writes.

One partition for a shard, compacted, JSON. Everything here is pure; ``reader`` does the reading.
"""

from typing import Any, Literal

import msgspec

from ingest.core.errors import Stop
from ingest.core.trade import Position, Void, VoidReason

VERSION = 1
POSITION = "position:"
VOID = "void:"
HANDOVER = "handover:"
WRITER = b"writer"


class WriterRecord(msgspec.Struct, frozen=True):
    """Key ``writer``: in every transaction, heartbeats included. The youngest one says who writes, and since when."""

    generation: int
    instance: str
    deployment_id: str | None
    committed_at_us: int
    """Wall time of the writer just before the commit, microseconds since the epoch."""
    sequence: int
    """Transactions of this generation so far."""
    state: Literal["active"] = "active"
    v: int = VERSION


class HandoverRecord(msgspec.Struct, frozen=True):
    """Key ``handover:<generation>``: who took over from whom."""

    generation: int
    previous: str | None = msgspec.field(name="from")
    successor: str = msgspec.field(name="to")
    deployment_id: str | None
    started_at_us: int
    completed_at_us: int
    v: int = VERSION


class _PositionRecord(msgspec.Struct, frozen=True):
    first_id: int
    last_id: int
    count: int
    v: int = VERSION


class _VoidRecord(msgspec.Struct, frozen=True):
    symbol: str
    first_id: int
    last_id: int
    reason: VoidReason
    evidence: dict[str, Any]
    confirmed_at_us: int
    v: int = VERSION


class ShardStateUpdate(msgspec.Struct, frozen=True):
    """What changed since the last one."""

    positions: dict[str, Position]
    writer: WriterRecord | None


class ShardState(msgspec.Struct, frozen=True):
    """The whole of a shard's partition, read to its end."""

    positions: dict[str, Position]
    generation: int
    writer: WriterRecord | None


class ShardStateBuilder:
    """Takes the partition's records in order."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.writer: WriterRecord | None = None
        self.generation = 0
        self._changed: set[str] = set()
        self._writer_seen = False

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record. Raises ``Stop`` for one that this service did not write: nothing is guessed here."""
        try:
            self._apply(key, value)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise Stop(
                f"the positions topic holds a record that is not ours (key {key!r}: {error}); "
                "point K2_KAFKA_POSITIONS_TOPIC to a topic of its own"
            ) from error

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        if key == WRITER and value is not None:
            writer = self.writer = _writer_decoder.decode(value)
            _check_version(writer.v)
            self.generation = max(self.generation, writer.generation)
            self._writer_seen = True
            return
        text = (key or b"").decode()
        if text.startswith(POSITION) and value is not None:
            stored = _position_decoder.decode(value)
            _check_version(stored.v)
            symbol = text[len(POSITION) :]
            self.positions[symbol] = Position(stored.first_id, stored.last_id, stored.count)
            self._changed.add(symbol)
        elif text.startswith(HANDOVER) and value is not None:
            self.generation = max(self.generation, _handover_decoder.decode(value).generation)
        elif not text.startswith((VOID, POSITION, HANDOVER)):
            raise ValueError("unknown key")

    def restore(self, ledger: ShardState) -> None:
        """Forget everything and go on from what another builder had made of the same records."""
        self.positions = dict(ledger.positions)
        self.generation = ledger.generation
        self.writer = ledger.writer

    def ledger(self) -> ShardState:
        """Everything so far."""
        return ShardState(dict(self.positions), self.generation, self.writer)

    def update(self) -> ShardStateUpdate:
        """What changed since the last call."""
        update = ShardStateUpdate(
            {symbol: self.positions[symbol] for symbol in self._changed}, self.writer if self._writer_seen else None
        )
        self._changed.clear()
        self._writer_seen = False
        return update

    def changed(self) -> bool:
        """Whether there is news."""
        return bool(self._changed) or self._writer_seen


def _check_version(version: int) -> None:
    if version > VERSION:
        raise ValueError(f"written by a newer version (format {version}, this one knows {VERSION})")


_encode = msgspec.json.Encoder().encode
_position_decoder = msgspec.json.Decoder(_PositionRecord)
_writer_decoder = msgspec.json.Decoder(WriterRecord)
_handover_decoder = msgspec.json.Decoder(HandoverRecord)

KeyValue = tuple[bytes, bytes]


def position_record(symbol: str, position: Position) -> KeyValue:
    """Key and value of a position."""
    key = (POSITION + symbol).encode()
    return key, _encode(_PositionRecord(position.first_id, position.last_id, position.count))


def void_record(void: Void, confirmed_at_us: int) -> KeyValue:
    """Key and value of a void."""
    key = f"{VOID}{void.symbol}:{void.first_id}".encode()
    return key, _encode(
        _VoidRecord(void.symbol, void.first_id, void.last_id, void.reason, dict(void.evidence), confirmed_at_us)
    )


def writer_record(record: WriterRecord) -> KeyValue:
    """Key and value of the writer's sign of life."""
    return WRITER, _encode(record)


def handover_record(record: HandoverRecord) -> KeyValue:
    """Key and value of a hand-over."""
    return f"{HANDOVER}{record.generation}".encode(), _encode(record)
