"""Which record goes where, against a model that knows what each symbol's shard had written."""

import itertools
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.batch import SymbolChanges
from ingest.core.errors import Stop
from ingest.core.streams import split_name
from ingest.core.trade import Position, Void
from ingest.kafka.position_records import MOST_GENERATION
from ingest.kafka.positions import (
    LayoutRecord,
    WriterRecord,
    layout_record,
    position_record,
    symbols_record,
    void_record,
    writer_record,
)
from ingest.kafka.shard_movement import (
    Content,
    Movement,
    confirm,
    last_layout,
    movement,
    present_layout,
    require_known_writers,
)

STREAMS = ("", "aggTrade:", "kline_1m:", "depth:", "bookTicker:")
names = st.builds(lambda stream, number: f"{stream}S{number}", st.sampled_from(STREAMS), st.integers(0, 30))
positions = st.builds(
    lambda first, more, time_us, unsynced: Position(first, first + more, more + 1, time_us, unsynced),
    st.integers(0, 10**12), st.integers(0, 1000), st.none() | st.integers(0, 2**50), st.booleans(),
)  # fmt: skip


def shard_of(symbol: str, shards: int) -> int:
    return zlib.crc32(symbol.encode()) % shards


def owner(name: str, shards: int) -> int:
    return shard_of(split_name(name)[1], shards)


def layout(version: int, shards: int, partitions: int) -> LayoutRecord:
    return LayoutRecord(version, "stable", shards, "test", 0, partitions)


def contents_of(partitions: int) -> dict[int, Content]:
    return {partition: Content() for partition in range(partitions)}


def apply(contents: dict[int, Content], planned: Movement) -> None:
    for partition, key, value in planned.entries:
        contents[partition].apply(key, value)


def move(contents: dict[int, Content], before: int, to: int) -> Movement:
    for partition in range(len(contents), max(before, to)):
        contents[partition] = Content()
    present = last_layout(contents) or layout(0, before, len(contents))
    planned = movement(contents, layout(present.version + 2, to, len(contents)), present, shard_of, 10**15)
    apply(contents, planned)
    confirm(contents, planned, shard_of)
    return planned


@given(
    st.dictionaries(names, positions, max_size=40),
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.sets(st.tuples(st.integers(0, 30), st.integers(0, 99))),
    st.sets(st.integers(0, 30)),
    st.sets(st.integers(31, 60)),
)
def test_everything_is_in_the_partition_of_its_shard_whatever_the_numbers_before(
    written: dict[str, Position], numbers: list[int], voids: Any, removed: set[int], added: set[int]
) -> None:
    first = numbers[0]
    contents = contents_of(first)
    for shard in range(first):
        contents[shard].apply(*writer_record(WriterRecord(shard + 3, f"w{shard}", "d1", 5 + shard, 9, shards=first)))
        changes = SymbolChanges(
            tuple(sorted(f"S{one}" for one in added if shard_of(f"S{one}", first) == shard)),
            tuple(sorted(f"S{one}" for one in removed if shard_of(f"S{one}", first) == shard)),
        )
        contents[shard].apply(*symbols_record(changes))
    for name, position in written.items():
        contents[owner(name, first)].apply(*position_record(name, position))
    evidence = {
        key: value
        for number, first_id in voids
        for key, value in [void_record(Void(f"S{number}", first_id, first_id, "exchange_hole", {"replies": 3}), 7)]
    }
    for key, value in evidence.items():
        contents[owner(key.decode().split(":")[1], first)].apply(key, value)
    for before, to in itertools.pairwise(numbers):
        move(contents, before, to)
    last = numbers[-1]
    states = {partition: content.state() for partition, content in contents.items()}
    for partition, state in states.items():
        assert state.positions == {n: p for n, p in written.items() if owner(n, last) == partition}
        assert state.symbols.added == tuple(sorted(f"S{n}" for n in added if shard_of(f"S{n}", last) == partition))
        assert state.symbols.removed == tuple(sorted(f"S{n}" for n in removed if shard_of(f"S{n}", last) == partition))
        assert state.layout is not None
        assert (state.layout.shards, state.invalid) == (last, 0)
    for key, value in evidence.items():
        assert contents[owner(key.decode().split(":")[1], last)].voids[key] == value


def test_generations_grow_in_old_shards_and_new_ones_and_say_where_the_trades_are() -> None:
    contents = contents_of(2)
    for shard in range(2):
        record = WriterRecord(7 + shard, f"w{shard}", None, 50 + shard, 9, partitions=6, topic_id="id", shards=2)
        contents[shard].apply(*writer_record(record))
    move(contents, 2, 3)
    states = [content.state() for content in contents.values()]
    assert [state.generation for state in states] == [8, 9, 1]
    for state in states:
        writer = state.writer
        assert writer is not None
        assert (writer.instance, writer.partitions, writer.topic_id, writer.shards) == ("reshard", 6, "id", 3)
        assert writer.committed_at_us == 50, "the commit to which every symbol was recorded"
    move(contents, 3, 1)
    assert [content.state().generation for content in contents.values()] == [9, 10, 2]


def test_copies_of_older_layouts_are_deleted_and_the_position_that_is_furthest_on_counts() -> None:
    contents = contents_of(4)
    here, there = owner("S1", 2), owner("S1", 4)
    other = next(one for one in range(4) if one not in (here, there))
    contents[other].apply(*position_record("S1", Position(1, 9, 9)))
    contents[here].apply(*position_record("S1", Position(1, 20, 20)))
    planned = move(contents, 4, 3)
    assert contents[owner("S1", 3)].state().positions == {"S1": Position(1, 20, 20)}
    assert sum(len(content.state().positions) for content in contents.values()) == 1
    assert planned.deleted == (1 if owner("S1", 3) != other else 0)


def test_what_a_newer_version_wrote_is_refused_and_a_forged_generation_is_forgotten() -> None:
    contents = contents_of(1)
    contents[0].apply(b"writer", b'{"v":9,"generation":5}')
    with pytest.raises(Stop, match="format 9"):
        move(contents, 1, 2)
    contents = contents_of(1)
    contents[0].apply(*writer_record(WriterRecord(MOST_GENERATION, "w", None, 1, 1, shards=1)))
    move(contents, 1, 2)
    assert [content.state().generation for content in contents.values()] == [1, 1]


def test_a_shard_that_an_older_version_wrote_is_refused_and_named() -> None:
    contents = contents_of(3)
    contents[0].apply(*writer_record(WriterRecord(1, "new", None, 1, 1, shards=3)))
    contents[2].apply(*writer_record(WriterRecord(1, "old", None, 1, 1)))
    with pytest.raises(Stop, match=r"^shards 2 were written last by a version that does not know"):
        require_known_writers(contents)


def test_without_a_layout_the_last_writer_says_the_number() -> None:
    contents = contents_of(3)
    assert present_layout(contents, 5) == LayoutRecord(0, "stable", 5, "settings", 0, 3)
    contents[1].apply(*writer_record(WriterRecord(1, "w", None, 1, 1, shards=4)))
    contents[0].apply(*writer_record(WriterRecord(1, "w", None, 2, 1, shards=2)))
    assert present_layout(contents, 5).shards == 2
    contents[0].apply(*layout_record(layout(8, 3, 2)))
    assert present_layout(contents, 5) == layout(8, 3, 3)


def test_positions_that_are_not_as_written_are_an_error() -> None:
    contents = contents_of(2)
    contents[0].apply(*position_record("S1", Position(1, 9, 9)))
    planned = move(contents, 1, 2)
    target = owner("S1", 2)
    contents[target].apply(*position_record("S1", Position(1, 12, 12)))
    confirm(contents, planned, shard_of)  # the new writer has gone on
    contents[1 - target].apply(*position_record("S1", Position(1, 10, 10)))
    with pytest.raises(Stop, match="not as written: S1"):
        confirm(contents, planned, shard_of)
