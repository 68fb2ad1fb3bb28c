"""Records of the positions topic that this service did not write: named, and no part of the verdict."""

import itertools
import json

import pytest

from ingest.audit.model import Inconclusive
from ingest.audit.positions import Positions
from tests.harness.audit.feeds import Entry, position

GOOD = position("BTCUSDT", 5, 9, 5)


def take(positions: Positions, *entries: Entry) -> Positions:
    for entry in entries:
        positions.take(0, entry.key(), entry.value())
    return positions


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"junk", b"\x00\xff not JSON"),
        (None, b"{}"),
        (b"\xff\xfe", b'{"v":1}'),
        (b"position:BTCUSDT", b"[1,2,3]"),
        (b"position:BTCUSDT", b'{"first_id":1,"last_id":1%b,"count":1,"v":1}' % (b"0" * 30)),
        (b"position:BTCUSDT", b'{"first_id":-10,"last_id":-10,"count":1,"v":1}'),
        (b"position:BTCUSDT", b'{"first_id":9,"last_id":5,"count":1,"v":1}'),
        (b"position:BTCUSDT", b'{"first_id":true,"last_id":5,"count":1,"v":1}'),
        (b"position:", b'{"first_id":1,"last_id":2,"count":2,"v":1}'),
        (b"writer", b'{"generation":"many","v":1}'),
        (b"void:BTCUSDT:x", b"{}"),
        (b"stranger", b'{"v":1}'),
        (b"position:BTCUSDT", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        (b"position:BTCUSDT", b'{"v":1e400}'),
        (b"position:BTCUSDT", b'{"v":99}'),
        (b"writer", b'{"v":99}'),
        (b"writer", b'{"v":1,"generation":9007199254740992}'),
    ],
)
def test_a_foreign_record_is_counted_and_leaves_the_positions_alone(key: bytes | None, value: bytes) -> None:
    positions = take(Positions(), GOOD, Entry(key, value, 0, 1), position("BTCUSDT", 5, 12, 8))
    positions.require_format()
    assert (positions.faults, positions.foreign, len(positions.foreign_examples)) == ([], 1, 1)
    assert {symbol: (p.first_id, p.last_id) for symbol, p in positions.positions.items()} == {"BTCUSDT": (5, 12)}


def test_a_position_that_goes_back_is_still_a_fault() -> None:
    positions = take(Positions(), GOOD, position("BTCUSDT", 5, 8, 4))
    assert [fault[:2] for fault in positions.faults] == [("BTCUSDT", "position")]
    assert positions.foreign == 0


def test_many_foreign_records_are_counted_and_few_are_kept() -> None:
    entry = Entry(b"junk", json.dumps({"v": 1}).encode(), 0, 0)
    positions = take(Positions(), *[entry] * 500)
    assert positions.foreign == 500
    assert len(positions.foreign_examples) < 50


def writer(generation: int, partition: int) -> Entry:
    return Entry(b"writer", json.dumps({"generation": generation, "v": 1}).encode(), partition, 0)


def test_each_shard_counts_its_own_generations() -> None:
    positions = Positions()
    for entry in (writer(3, 1), writer(1, 0), writer(2, 0), writer(4, 1)):
        positions.take(entry.partition(), entry.key(), entry.value())
    assert positions.faults == []
    positions.take(0, writer(1, 0).key(), writer(1, 0).value())
    assert [fault[1:] for fault in positions.faults] == [("writer.generation", "at least 2", 1)]


def test_positions_of_other_streams_are_none_of_this_ones() -> None:
    entries = {
        b"position:BTCUSDT": {"first_id": 1, "last_id": 9, "count": 9, "v": 1},
        b"position:aggTrade:BTCUSDT": {"first_id": 5, "last_id": 7, "count": 2, "v": 1},
        b"void:aggTrade:BTCUSDT:6": {"symbol": "aggTrade:BTCUSDT", "first_id": 6, "last_id": 6, "reason": "x", "v": 1},
        b"position:depth:BTCUSDT": {"first_id": 50, "last_id": 70, "count": 3, "unsynced": True, "v": 1},
    }
    for stream, wanted in (("trade", (1, 9)), ("aggTrade", (5, 7)), ("depth", (50, 70)), ("bookTicker", None)):
        positions = Positions(stream)
        for key, value in entries.items():
            positions.take(0, key, json.dumps(value).encode())
        found = positions.positions.get("BTCUSDT")
        assert (None if found is None else (found.first_id, found.last_id)) == wanted
        assert [(void.first_id, void.last_id) for void in positions.voids_of("BTCUSDT")] == [(6, 6)] * (
            stream == "aggTrade"
        )
        assert not positions.foreign
        positions.take(0, b"position:aggTrade:BTCUSDT", None)
        positions.take(0, b"void:aggTrade:BTCUSDT:6", None)
        assert ("BTCUSDT" in positions.positions) == (wanted is not None and stream != "aggTrade")
        assert not positions.voids_of("BTCUSDT")


def test_a_writer_of_a_newer_format_ends_the_audit_unless_an_older_one_or_a_tombstone_follows() -> None:
    newer = Entry(b"writer", json.dumps({"generation": 9, "v": 2}).encode(), 0, 0)
    for after in (writer(10, 0), Entry(b"writer", None, 0, 0)):
        positions = take(Positions(), writer(3, 0), newer)
        with pytest.raises(Inconclusive, match="format 2"):
            positions.require_format()
        take(positions, after).require_format()


def held(first_id: int, last_id: int) -> bytes:
    return json.dumps({"first_id": first_id, "last_id": last_id, "count": last_id - first_id + 1, "v": 1}).encode()


def layout(version: int, shards: int, partitions: int, state: str = "stable") -> bytes:
    return json.dumps(
        {
            "version": version,
            "state": state,
            "shards": shards,
            "partitions": partitions,
            "by": "x",
            "since_us": 1,
            "v": 1,
        }
    ).encode()


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_position_that_moved_counts_in_whichever_order_its_partitions_are_read(order: tuple[int, ...]) -> None:
    partitions: list[list[tuple[int, bytes | None]]] = [
        [(0, held(1, 9)), (0, None)],
        [(1, held(1, 9)), (1, held(1, 12))],
    ]
    positions = Positions()
    for number in order:
        for partition, value in partitions[number]:
            positions.take(partition, b"position:BTCUSDT", value)
    assert positions.positions["BTCUSDT"].last_id == 12
    assert positions.faults == []


def test_the_topic_states_its_number_of_shards() -> None:
    positions = Positions()
    assert positions.stored_shards(3) is None
    for partition in range(3):
        positions.take(partition, b"layout", layout(4, 2, 3))
    assert positions.stored_shards(3) == 2
    assert positions.foreign == 0


def test_a_number_that_changes_while_it_is_read_cannot_be_judged() -> None:
    positions = Positions()
    for partition in range(2):
        positions.take(partition, b"layout", layout(4, 2, 2))
    positions.take(1, b"layout", layout(6, 1, 2))
    with pytest.raises(Inconclusive, match="number of shards was changed"):
        positions.stored_shards(2)
    positions.take(0, b"layout", layout(6, 1, 2))
    assert positions.stored_shards(2) == 1
    for partition in range(2):
        positions.take(partition, b"layout", layout(8, 3, 3))
    with pytest.raises(Inconclusive, match="number of shards was changed"):
        positions.stored_shards(2)


def handed_over(generation: int, successor: str) -> Entry:
    value = {"generation": generation, "to": successor, "v": 1}
    return Entry(f"handover:{generation}".encode(), json.dumps(value).encode(), 0, 0)


BACK = position("BTCUSDT", 5, 8, 4)


def test_a_step_back_of_the_rebuild_is_accepted_and_stated() -> None:
    """As it writes: the positions, then its generation."""
    positions = take(
        Positions(), writer(3, 0), GOOD, BACK, position("ETHUSDT", 1, 2, 2), handed_over(4, "positions-rebuild")
    )
    assert positions.faults == []
    (stated,) = positions.corrected
    assert stated.startswith("BTCUSDT: first 5, last at least 9, ")
    assert "by generation 4" in stated
    assert positions.positions["BTCUSDT"].last_id == 8


@pytest.mark.parametrize(
    "others",
    [
        [],
        [handed_over(4, "green")],
        [writer(3, 0), handed_over(4, "positions-rebuild")],
        [position("BTCUSDT", 5, 9, 5), handed_over(4, "positions-rebuild")],
        [BACK, writer(3, 0), handed_over(4, "positions-rebuild")],
    ],
    ids=["alone", "another writer", "a writer between", "corrected by the rebuild", "twice"],
)
def test_any_other_step_back_is_a_fault(others: list[Entry]) -> None:
    positions = take(Positions(), writer(3, 0), GOOD, BACK, *others)
    assert [fault[:2] for fault in positions.faults] == [("BTCUSDT", "position")]
    assert positions.corrected == []


def test_the_rebuild_of_another_partition_explains_nothing() -> None:
    positions = take(Positions(), GOOD, BACK)
    other = handed_over(4, "positions-rebuild")
    positions.take(1, other.key(), other.value())
    assert len(positions.faults) == 1


def test_the_number_of_shards_is_the_stated_one_or_the_one_that_the_records_show() -> None:
    def stated(shards: int) -> bytes:
        return json.dumps({"generation": 1, "shards": shards, "v": 1}).encode()

    positions = Positions()
    positions.take(0, b"writer", stated(2))
    positions.take(1, b"writer", stated(2))
    assert positions.number_of_shards(5) == 2
    positions.take(1, b"writer", stated(3))
    assert positions.number_of_shards(5) is None  # changed without a layout
    for partition in range(3):
        positions.take(partition, b"layout", layout(4, 3, 3))
    assert positions.number_of_shards(3) == 3
