"""The positions topic: how far each symbol is recorded, and which instance writes.

One partition for each shard, compacted, JSON. Everything here is pure; ``positions_reader`` reads the partition.

**A newer format** (``v`` above ``VERSION``). Every transaction ends with a ``writer`` record, and every format keeps
its ``v`` and ``generation``. So the latest ``writer`` record says who wrote the partition: if it is of a newer format,
and of a generation beyond all of ours, a newer version wrote, and this one writes nothing until that is otherwise. Any
other record of a newer format is a stranger's: skipped and counted. A position that such a writer has replaced no
longer counts, also after a tombstone or a later record of ``writer`` (``ingest positions rebuild --replace`` writes
one): its symbol is one without a position, which is never begun where the trades topic has records. So nothing is begun
again or written twice.

**Generations** that leave no room for successors are a stranger's, see ``MOST_GENERATION``. A tombstone of ``writer``
forgets its generation: the next take-over, or a rebuild, writes one.

**Claims.** Any client that may write this topic can forge each of these records. What a record says of a writer is a
claim, the transactional id decides: an instance that writes, and sees a newer generation, commits one beyond it
(``TransactionalWriter.defend``). The broker refuses that if there is a newer writer.
"""

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from ingest.core.batch import SymbolChanges
from ingest.core.errors import Stop
from ingest.core.trade import Position
from ingest.kafka.position_records import (
    HANDOVER,
    HANDOVER_COUNTS,
    LAYOUT,
    MOST_GENERATION,
    POSITION,
    SYMBOLS,
    VERSION,
    VOID,
    WRITER,
    HandoverRecord,
    Head,
    LayoutRecord,
    NewerFormat,
    VoidRecord,
    WriterRecord,
    decoded,
    handover_decoder,
    handover_record,
    layout_decoder,
    layout_record,
    position_decoder,
    position_record,
    stored_void,
    symbols_decoder,
    symbols_record,
    void_record,
    writer_decoder,
    writer_record,
)

__all__ = [
    "HandoverRecord", "LayoutRecord", "ShardState", "ShardStateBuilder", "ShardStateUpdate", "VoidRecord",
    "WriterRecord", "handover_record", "layout_record", "position_record", "stored_void", "symbols_record",
    "void_record", "writer_record",
]  # fmt: skip

INVALID_KEPT = 20
"""Invalid records that are described one by one; all of them are counted."""

MOST_SYMBOLS = 100_000
"""Positions kept, many times what the exchange lists; the one that was written longest ago is forgotten first.

A symbol of ours that is forgotten (only junk by the hundred thousand does that) is halted at the next start, as one
whose position is lost; ``ingest positions rebuild`` restores it.
"""


class ShardStateUpdate(msgspec.Struct, frozen=True):
    """The changes since the previous update."""

    positions: dict[str, Position]
    writer: WriterRecord | None
    removed: frozenset[str] = frozenset()
    """Symbols whose position was deleted with a tombstone."""
    symbols: SymbolChanges | None = None
    """Changes of the recorded symbols, if they were stored since."""
    claimed: int = 0
    """The latest generation, if a ``writer`` record of any format came since; otherwise 0."""
    refusal: str = ""
    """Why nothing may be written after these records, see ``ShardState.refusal``."""
    layout: LayoutRecord | None = None
    """The number of shards, if it was stored since."""


class ShardState(msgspec.Struct, frozen=True):
    """The content of a shard's partition, read to its end."""

    positions: dict[str, Position]
    generation: int
    writer: WriterRecord | None
    invalid: int = 0
    """Records that this service did not write: skipped."""
    symbols: SymbolChanges = SymbolChanges()
    """How commands have changed the recorded symbols."""
    newer_format: int = 0
    """Of the latest writer, if that is newer than ``VERSION``; otherwise 0."""
    handover_generation: int = 0
    """The latest one without that of ``writer``."""
    newer_positions: frozenset[str] = frozenset()
    """Symbols with a record of a newer format behind the latest ``writer`` record: what follows says whose it is."""
    writer_offset: int | None = None
    """Of the latest ``writer`` record that counts, of any format; None if that is not known."""
    layout: LayoutRecord | None = None
    """The number of shards; None if it was never stored."""

    @property
    def spent(self) -> bool:
        """Whether the generation has no successor: no number of take-overs reaches it, so a stranger wrote it."""
        return self.generation >= MOST_GENERATION

    @property
    def credible(self) -> int:
        """The latest generation that a writer can have."""
        return self.handover_generation if self.spent else self.generation

    @property
    def refusal(self) -> str:
        """Why nothing may be written: a newer version wrote last, whose records may mean what this one misses."""
        if not self.newer_format:
            return ""
        where = "" if self.writer_offset is None else f" at offset {self.writer_offset}"
        return (
            f"the positions topic was written in format {self.newer_format} (record `writer`{where}, generation "
            f"{self.generation}), this version reads format {VERSION}: run the version that wrote it, or a newer one. "
            "To go back to this version, or if a stranger wrote that record: stop every writer of this shard, then "
            "ingest positions rebuild --replace"
        )

    def require_format(self) -> None:
        """Raise ``Stop`` with the ``refusal``, if there is one."""
        if self.newer_format:
            raise Stop(self.refusal)

    def next_generation(self) -> int:
        """The generation of the next writer. If this one is ``spent``, a tombstone of ``writer`` must precede it."""
        return self.credible + 1


class ShardStateBuilder:
    """Builds the state from the partition's records, applied in order.

    An invalid record, or one of a format that its writer does not have, is skipped and counted. That is safe: every
    transaction writes the positions that it changes, so the latest valid record of a key is what was committed last. A
    key whose valid records are gone (compaction keeps only the latest record of a key) has no position; a symbol
    without one is never begun where the trades topic holds records of it.
    """

    def __init__(self, on_void: Callable[[VoidRecord], None] = lambda _: None) -> None:
        """``on_void`` is called with each void; the state does not hold them."""
        self._on_void = on_void
        self.positions: dict[str, Position] = {}
        self.writer: WriterRecord | None = None
        self._writer_generation = 0
        self._handover_generation = 0
        self._newer_format = 0
        self._newer_positions: set[str] = set()
        self._offset: int | None = None
        self._writer_offset: int | None = None
        self.invalid: list[str] = []
        """The latest invalid records, described for the log; emptied by the caller that logs them."""
        self.invalid_count = 0
        self._changed: set[str] = set()
        self._removed: set[str] = set()
        self._writer_seen = False
        self._claim_seen = False
        self.symbols = SymbolChanges()
        self._symbols_seen = False
        self.layout: LayoutRecord | None = None
        self._layout_seen = False

    @property
    def generation(self) -> int:
        """The latest one; 0 without any."""
        return max(self._writer_generation, self._handover_generation)

    def apply(self, key: bytes | None, value: bytes | None, offset: int | None = None) -> None:
        """Apply one record, whatever it is. ``ShardState.refusal`` says at the end whether it may be used."""
        self._offset = offset
        try:
            self._apply(key, value)
        except ValueError as error:  # Undecodable, NewerFormat and UnicodeDecodeError among them
            if isinstance(error, NewerFormat) and self._take_newer(key, error.head):
                return
            self.invalid_count += 1
            if len(self.invalid) < INVALID_KEPT:
                where = "" if offset is None else f" at offset {offset}"
                self.invalid.append(f"key {_shortened(key)}{where}: {error}")

    def _take_newer(self, key: bytes | None, head: Head) -> bool:
        """Whether a record of a newer format is its writer's; the positions of its transaction are forgotten then."""
        if key != WRITER:
            symbol = (key or b"").decode().removeprefix(POSITION)
            if symbol in self.positions:
                self._newer_positions.add(symbol)
            return False
        least = self.generation + (not self._newer_format)
        if head.generation is UNSET or not least <= head.generation < MOST_GENERATION:
            return False
        for symbol in self._newer_positions:
            self._apply_position(symbol, None)
        self._newer_positions.clear()
        self._writer_generation, self._newer_format = head.generation, head.v
        self._writer_offset, self._claim_seen = self._offset, True
        return True

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        text = (key or b"").decode()
        if text.startswith(POSITION) and len(text) > len(POSITION):
            self._apply_position(text[len(POSITION) :], value)
        elif key == WRITER:
            self._apply_writer(value)
        elif text.startswith(HANDOVER):
            if value is not None:
                generation = decoded(handover_decoder, value).generation
                if generation <= HANDOVER_COUNTS:
                    self._handover_generation = max(self._handover_generation, generation)
        elif key == SYMBOLS:
            self._apply_symbols(value)
        elif key == LAYOUT:
            self.layout = None if value is None else decoded(layout_decoder, value)
            self._layout_seen = True
        elif not text.startswith(VOID):
            raise ValueError("unknown key")
        elif (void := stored_void(key, value)) is not None:
            self._on_void(void)
        elif value is not None:
            raise ValueError("not a void")

    def _apply_writer(self, value: bytes | None) -> None:
        if value is None:
            self.writer, self._writer_generation, self._newer_format, self._writer_offset = None, 0, 0, None
            self._claim_seen = True
        else:
            writer = decoded(writer_decoder, value)
            if writer.generation >= self._writer_generation:
                self._writer_generation, self._newer_format = writer.generation, 0
                self._writer_offset = self._offset
            self.writer = writer
            self._writer_seen = self._claim_seen = True
        self._newer_positions.clear()

    def _apply_symbols(self, value: bytes | None) -> None:
        if value is None:
            self.symbols = SymbolChanges()
        else:
            stored = decoded(symbols_decoder, value)
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
        stored = decoded(position_decoder, value)
        ids = stored.last_id - stored.first_id + 1
        if not 0 <= stored.count <= ids:
            raise ValueError(f"{stored.count} trades in {ids} ids")
        time_us = None if stored.last_time_us is UNSET else stored.last_time_us
        self.positions.pop(symbol, None)  # to the end: the one that was written longest ago is first
        self._newer_positions.discard(symbol)
        self.positions[symbol] = Position(
            stored.first_id, stored.last_id, stored.count, time_us, stored.unsynced is True
        )
        self._changed.add(symbol)
        self._removed.discard(symbol)
        if len(self.positions) > MOST_SYMBOLS:
            oldest = next(iter(self.positions))
            self._apply_position(oldest, None)
            raise ValueError(f"more than {MOST_SYMBOLS} symbols: {oldest[:_KEY_SHOWN]} is forgotten")

    @property
    def refusal(self) -> str:
        """As that of the state."""
        return self.state().refusal if self._newer_format else ""

    def restore(self, state: ShardState) -> None:
        """Continue from a state that another builder made of the same records."""
        self.positions = dict(state.positions)
        self._writer_generation = state.generation
        self._handover_generation = state.handover_generation
        self._newer_format, self._newer_positions = state.newer_format, set(state.newer_positions)
        self._writer_offset = state.writer_offset
        self.writer = state.writer
        self.invalid_count = state.invalid
        self.symbols = state.symbols
        self.layout = state.layout

    def state(self) -> ShardState:
        """The state after all records applied so far."""
        return ShardState(
            dict(self.positions),
            self.generation,
            self.writer,
            self.invalid_count,
            self.symbols,
            self._newer_format,
            self._handover_generation,
            frozenset(self._newer_positions),
            self._writer_offset,
            self.layout,
        )

    def update(self) -> ShardStateUpdate:
        """The changes since the previous call."""
        update = ShardStateUpdate(
            {symbol: self.positions[symbol] for symbol in self._changed},
            self.writer if self._writer_seen else None,
            frozenset(self._removed),
            self.symbols if self._symbols_seen else None,
            self.generation if self._claim_seen else 0,
            self.refusal,
            self.layout if self._layout_seen else None,
        )
        self._changed.clear()
        self._removed.clear()
        self._writer_seen = self._claim_seen = self._symbols_seen = self._layout_seen = False
        return update

    def changed(self) -> bool:
        """Whether ``update`` would return a change."""
        seen = self._claim_seen or self._symbols_seen or self._layout_seen
        return bool(self._changed) or bool(self._removed) or seen


_SYMBOL_LENGTH = 64
_KEY_SHOWN = 80


def _shortened(key: bytes | None) -> str:
    return repr(key) if key is None or len(key) <= _KEY_SHOWN else f"{key[:_KEY_SHOWN]!r}..."
