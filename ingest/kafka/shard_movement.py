"""What a change of the number of shards writes: which record moves to which partition. Pure.

The position of a sequence is the one that is furthest on, whichever partition has it: a sequence is written by one
shard at a time and only forwards, so that every other one is a copy that an older layout has left behind.

Voids are copied, and their old copies stay: a reader sees the partitions in any order, and must not take the deletion
of an old copy for that of the void.
"""

from collections import deque
from collections.abc import Callable, Mapping

import msgspec
from msgspec import UNSET

from ingest.core.batch import SymbolChanges
from ingest.core.errors import Stop
from ingest.core.streams import split_name
from ingest.core.trade import Position
from ingest.kafka.position_records import LAYOUT, POSITION, RESHARD, SYMBOLS, VOID, WRITER
from ingest.kafka.positions import (
    HandoverRecord,
    LayoutRecord,
    ShardState,
    ShardStateBuilder,
    WriterRecord,
    handover_record,
    layout_record,
    position_record,
    stored_void,
    symbols_record,
    writer_record,
)

ShardOf = Callable[[str, int], int]
"""(symbol, number of shards) -> shard."""
Entry = tuple[int, bytes, bytes | None]
"""(partition, key, value); None deletes what the key has."""


LAYOUTS_KEPT = 64


class Content:
    """What one partition of the positions topic holds; records are applied in order."""

    def __init__(self) -> None:
        self._builder = ShardStateBuilder()
        self.voids: dict[bytes, bytes] = {}
        """As they are stored: nothing of the evidence is lost on the way."""
        self.layouts: deque[LayoutRecord] = deque(maxlen=LAYOUTS_KEPT)
        """The latest ones, in order."""

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Apply one record, whatever it is."""
        self._builder.apply(key, value)
        if key == LAYOUT and self._builder.layout is not None:
            self.layouts.append(self._builder.layout)
        if key is not None and key.startswith(VOID.encode()):
            if value is None:
                self.voids.pop(key, None)
            elif stored_void(key, value) is not None:
                self.voids[key] = value

    def state(self) -> ShardState:
        """All but the voids."""
        return self._builder.state()


class Movement(msgspec.Struct, frozen=True):
    """The transaction that changes the number of shards."""

    before: int
    to: int
    entries: list[Entry]
    positions: dict[str, Position]
    """Sequence -> its position, of all."""
    moved: dict[str, tuple[int, int]]
    """Sequence -> the partitions that its position leaves and enters."""
    deleted: int
    """Copies of positions that an older layout has left behind."""
    voids: int
    """Copied ones."""
    layout: LayoutRecord


def _furthest(states: Mapping[int, ShardState], before: int, shard_of: ShardOf) -> dict[str, tuple[Position, int]]:
    """Sequence -> its position and the partition that has it; of equal ones that of the present layout's shard."""
    found: dict[str, tuple[Position, int]] = {}
    for partition, state in states.items():
        for name, position in state.positions.items():
            known = found.get(name)
            owner = shard_of(split_name(name)[1], before)
            if known is None or (position.last_id, partition == owner) > (known[0].last_id, known[1] == owner):
                found[name] = (position, partition)
    return found


def _symbols(states: Mapping[int, ShardState], before: int, to: int, shard_of: ShardOf) -> dict[int, SymbolChanges]:
    """Shard of the new layout -> the changes of its symbols. A shard's word counts for its own symbols alone."""
    added: dict[int, list[str]] = {}
    removed: dict[int, list[str]] = {}
    for partition, state in states.items():
        for lists, symbols in ((added, state.symbols.added), (removed, state.symbols.removed)):
            for symbol in symbols:
                if shard_of(symbol, before) == partition:
                    lists.setdefault(shard_of(symbol, to), []).append(symbol)
    return {
        shard: SymbolChanges(tuple(sorted(added.get(shard, ()))), tuple(sorted(removed.get(shard, ()))))
        for shard in added.keys() | removed.keys()
    }


def _symbol_entries(states: Mapping[int, ShardState], wanted: Mapping[int, SymbolChanges]) -> list[Entry]:
    entries: list[Entry] = []
    for partition, state in states.items():
        changes = wanted.get(partition)
        if changes is None and state.symbols != SymbolChanges():
            entries.append((partition, SYMBOLS, None))
        elif changes is not None and changes != state.symbols:
            entries.append((partition, *symbols_record(changes)))
    return entries


def _void_entries(contents: Mapping[int, Content], before: int, to: int, shard_of: ShardOf) -> list[Entry]:
    voids: dict[bytes, bytes] = {}
    for partition, content in contents.items():
        for key, value in content.voids.items():
            if key not in voids or shard_of(_symbol_of_void(key), before) == partition:
                voids[key] = value
    places = {key: shard_of(_symbol_of_void(key), to) for key in voids}
    return [(places[key], key, value) for key, value in voids.items() if contents[places[key]].voids.get(key) != value]


def _symbol_of_void(key: bytes) -> str:
    sequence, _, _ = key.decode().removeprefix(VOID).rpartition(":")
    return split_name(sequence)[1]


def _generations(states: Mapping[int, ShardState], before: int, to: int, now_us: int) -> list[Entry]:
    """A generation for each shard before and after: old writers see that they are none, new ones begin at once.

    It states where the trades are, also for a shard that is new: its symbols' records are there already. Its time is
    that of the commit to which all symbols were recorded, in whichever shard they were.
    """
    writers = [state.writer for state in states.values() if state.writer is not None]
    latest = max(writers, key=lambda one: one.committed_at_us, default=None)
    ours = [state.writer for shard, state in states.items() if shard < before and state.writer is not None]
    committed_us = min((one.committed_at_us for one in ours), default=now_us)
    entries: list[Entry] = []
    for partition, state in states.items():
        if partition >= to and not state.generation:
            continue
        generation, previous = state.next_generation(), state.writer
        handover = HandoverRecord(
            generation, previous.instance if previous is not None else None, RESHARD, None, now_us, now_us
        )
        known = previous or latest
        writer = WriterRecord(
            generation, RESHARD, None, committed_us, 1,
            partitions=UNSET if known is None else known.partitions,
            topic_id=UNSET if known is None else known.topic_id,
            shards=to,
        )  # fmt: skip
        if state.spent:
            entries.append((partition, WRITER, None))
        entries += [(partition, *handover_record(handover)), (partition, *writer_record(writer))]
    return entries


def movement(
    contents: Mapping[int, Content], layout: LayoutRecord, present: LayoutRecord, shard_of: ShardOf, now_us: int
) -> Movement:
    """The transaction from the ``present`` number of shards to ``layout``. ``contents``: of every partition.

    Raises ``Stop`` where a newer version wrote.
    """
    before, to = present.shards, layout.shards
    states = {partition: contents[partition].state() for partition in sorted(contents)}
    for state in states.values():
        state.require_format()
    furthest = _furthest(states, before, shard_of)
    entries: list[Entry] = []
    moved: dict[str, tuple[int, int]] = {}
    deleted = 0
    for name, (position, source) in furthest.items():
        target = shard_of(split_name(name)[1], to)
        if states[target].positions.get(name) != position:
            entries.append((target, *position_record(name, position)))
        if source != target:
            moved[name] = (source, target)
        old = [one for one, state in states.items() if one != target and name in state.positions]
        deleted += len(old) - (source != target)
        entries += [(one, (POSITION + name).encode(), None) for one in old]
    voids = _void_entries(contents, before, to, shard_of)
    entries += _symbol_entries(states, _symbols(states, before, to, shard_of)) + voids
    entries += _generations(states, before, to, now_us)
    entries += [(partition, *layout_record(layout)) for partition in states]
    positions = {name: position for name, (position, _) in furthest.items()}
    return Movement(before, to, entries, positions, moved, deleted, len(voids), layout)


def confirm(contents: Mapping[int, Content], planned: Movement, shard_of: ShardOf) -> None:
    """Compare what is stored with what was written; writers may have gone on. Raises ``Stop``."""
    states = {partition: content.state() for partition, content in contents.items()}
    wrong = []
    for name, position in planned.positions.items():
        holders = [partition for partition, state in states.items() if name in state.positions]
        target = shard_of(split_name(name)[1], planned.to)
        stored = states[target].positions.get(name)
        if holders != [target] or stored is None or stored.last_id < position.last_id:
            wrong.append(name)
    if wrong:
        raise Stop(
            f"positions are not as written: {', '.join(sorted(wrong)[:20])}; another client writes to the positions "
            "topic: restrict it with an ACL, and audit the topics"
        )


def last_layout(contents: Mapping[int, Content]) -> LayoutRecord | None:
    """The latest layout of any partition; None if none was ever stored."""
    layouts = [layout for content in contents.values() if (layout := content.state().layout) is not None]
    return max(layouts, key=lambda one: one.version, default=None)


def present_layout(contents: Mapping[int, Content], otherwise: int) -> LayoutRecord:
    """The layout in force: the stored one, else the number that the last writer had, else ``otherwise``."""
    stored = last_layout(contents)
    if stored is not None:
        return msgspec.structs.replace(stored, partitions=len(contents))
    writers = [writer for content in contents.values() if (writer := content.state().writer) is not None]
    latest = max(writers, key=lambda one: one.committed_at_us, default=None)
    shards = otherwise if latest is None or latest.shards is UNSET else latest.shards
    return LayoutRecord(0, "stable", shards, "settings", 0, len(contents))


def require_known_writers(contents: Mapping[int, Content]) -> None:
    """Raise ``Stop`` if a version that knows no layout wrote a shard last: it would write during the change."""
    old = sorted(
        partition
        for partition, content in contents.items()
        if (writer := content.state().writer) is not None and writer.shards is UNSET
    )
    if old:
        raise Stop(
            f"shards {', '.join(map(str, old[:20]))} were written last by a version that does not know of changes of "
            "the number of shards, and would not wait for this one: update every instance, let each shard write once, "
            "then try again"
        )
