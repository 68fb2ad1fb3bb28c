"""The stored number of shards against that of an instance."""

import msgspec
import pytest

from ingest.core.errors import Retry, Stop
from ingest.kafka.layout import ABANDONED_SECONDS, Changing, changing, require_layout, stable
from ingest.kafka.layout_guard import CHANGES_SECONDS, LayoutGuard, in_each_partition
from ingest.kafka.positions import LayoutRecord, ShardState, ShardStateBuilder, layout_record

FOUR = LayoutRecord(3, "stable", 4, "host-1", 0, 6)
FOUR_TO_SIX = changing(FOUR, 6, by="host-2", now_us=1, partitions=6)
SIX = stable(FOUR_TO_SIX, 6, by="host-2", now_us=2)


@pytest.mark.parametrize(
    ("layout", "shards", "outcome"),
    [
        (None, 4, "writes"),
        (None, 6, "writes"),
        (FOUR, 4, "writes"),
        (FOUR, 6, r"has 4 shards, but K2_SHARD_COUNT is 6: start .*K2_SHARD_COUNT=4, or .*`ingest reshard --to 6`"),
        (FOUR_TO_SIX, 4, "waits"),
        (FOUR_TO_SIX, 6, "waits"),
        (FOUR_TO_SIX, 8, r"has 6 shards, but K2_SHARD_COUNT is 8"),
        (SIX, 4, r"has 6 shards, but K2_SHARD_COUNT is 4"),
        (SIX, 6, "writes"),
    ],
)
def test_a_writer_writes_waits_or_ends(layout: LayoutRecord | None, shards: int, outcome: str) -> None:
    if outcome == "writes":
        require_layout(layout, shards)
    elif outcome == "waits":
        with pytest.raises(Changing, match=r"from 4 to 6 by host-2: waiting; .*--to 6` finishes .*--abort`"):
            require_layout(layout, shards)
    else:
        with pytest.raises(Stop, match=outcome):
            require_layout(layout, shards)


def test_versions_grow_and_a_stable_layout_keeps_what_the_intent_was_written_to() -> None:
    assert (FOUR.version, FOUR_TO_SIX.version, SIX.version) == (3, 4, 5)
    assert (SIX.partitions, SIX.shards, SIX.to) == (6, 6, msgspec.UNSET)
    assert [partition for _, _, _, partition in in_each_partition(SIX, "t")] == [0, 1, 2, 3, 4, 5]


def test_the_latest_layout_of_a_partition_counts_and_a_bad_one_is_skipped() -> None:
    builder = ShardStateBuilder()
    builder.apply(*layout_record(FOUR))
    builder.apply(*layout_record(FOUR_TO_SIX))
    assert builder.update().layout == FOUR_TO_SIX
    assert not builder.changed()
    for bad in (b"{}", b'{"version":9,"state":"changing","shards":4,"by":"x","since_us":1,"partitions":4,"v":1}'):
        builder.apply(b"layout", bad)
    assert (builder.state().layout, builder.state().invalid) == (FOUR_TO_SIX, 2)
    copy = ShardStateBuilder()
    copy.restore(builder.state())
    assert copy.state() == builder.state()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_change_that_is_seen_for_too_long_is_taken_back_by_writers_of_the_number_before() -> None:
    for shards, given_up in ((4, [FOUR_TO_SIX]), (6, [])):
        clock, taken_back = Clock(), list[LayoutRecord]()
        guard = LayoutGuard(shards, give_up=taken_back.append, restore=None, monotonic=clock)
        state = ShardState({}, 1, None, layout=FOUR_TO_SIX)
        for clock.now in (0.0, 1.0, ABANDONED_SECONDS - 1, ABANDONED_SECONDS):
            assert taken_back == []
            with pytest.raises(Retry):
                guard(state)
        assert taken_back == given_up


def test_another_change_is_waited_for_anew() -> None:
    clock, taken_back = Clock(), list[LayoutRecord]()
    guard = LayoutGuard(4, give_up=taken_back.append, restore=None, monotonic=clock)
    again = msgspec.structs.replace(FOUR_TO_SIX, version=6)
    for clock.now, layout in ((0.0, FOUR_TO_SIX), (50.0, again), (ABANDONED_SECONDS + 49.0, again)):
        with pytest.raises(Changing):
            guard(ShardState({}, 1, None, layout=layout))
    assert taken_back == []
    guard(ShardState({}, 1, None, layout=FOUR))


def test_changes_without_an_end_are_taken_back_however_often_they_are_stored_again() -> None:
    clock, taken_back = Clock(), list[LayoutRecord]()
    guard = LayoutGuard(4, give_up=taken_back.append, restore=None, monotonic=clock)

    def read(seconds: float) -> None:
        clock.now = seconds
        layout = msgspec.structs.replace(FOUR_TO_SIX, version=5 + int(seconds // 50))
        with pytest.raises(Changing):
            guard(ShardState({}, 1, None, layout=layout))

    for second in range(int(CHANGES_SECONDS)):
        read(float(second))
    assert taken_back == []
    read(CHANGES_SECONDS)
    assert len(taken_back) == 1
    read(2 * CHANGES_SECONDS)
    read(9 * CHANGES_SECONDS)
    assert len(taken_back) == 1, "another wait, not one of all that time"
