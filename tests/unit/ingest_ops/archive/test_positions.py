import json

import pytest

from ingest_ops.archive.certificate import VoidEntry
from ingest_ops.archive.errors import ArchiveError
from ingest_ops.archive.positions import read_records


def value(**fields: object) -> bytes:
    return json.dumps({"v": 1, **fields}).encode()


def test_the_latest_record_of_a_key_counts() -> None:
    found = read_records([
        (2, b"position:A", value(first_id=1, last_id=5, count=5)),
        (2, b"writer", value(committed_at_us=70)),
        (2, b"position:A", value(first_id=1, last_id=9, count=9, last_time_us=60)),
        (2, b"void:A:3", value(symbol="A", first_id=3, last_id=4, reason="operator", evidence={})),
        (1, b"position:B", value(first_id=0, last_id=-1, count=0)),
        (1, b"position:B", None),
        (1, b"void:B:1", value(symbol="B", first_id=1, last_id=1, reason="operator", evidence={})),
        (1, b"void:B:1", None),
        (0, b"handover:3", value()),
    ])  # fmt: skip
    position = found.positions["A"]
    assert (position.first_id, position.last_id, position.last_time_us, position.partition) == (1, 9, 60, 2)
    assert found.voids_of("A") == [VoidEntry(3, 4, "operator")]
    assert ("B" in found.positions, found.voids_of("B")) == (False, [])
    assert (found.committed_at("A"), found.committed_at("B")) == (70, 0)


GOOD = (0, b"position:A", value(first_id=1, last_id=5, count=5))


@pytest.mark.parametrize(
    "data",
    [
        b"{}", b"[]", b"no", b"\xff", value(first_id="x"), value(first_id=1, last_id=10**30), b'{"v":1e400}',
        b'{"v":99}', b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)  # fmt: skip
def test_a_stranger_s_record_is_skipped_and_counted(data: bytes) -> None:
    found = read_records([GOOD, (0, b"position:A", data), (0, b"writer", data)])
    assert (found.invalid, found.positions["A"].last_id) == (2, 5)
    assert "key b'writer'" in found.example


def test_a_writer_of_a_newer_format_ends_it_unless_an_older_one_or_a_tombstone_follows() -> None:
    records = [GOOD, (0, b"writer", json.dumps({"v": 2, "generation": 9}).encode())]
    with pytest.raises(ArchiveError, match="format 2"):
        read_records(records)
    for after in (value(committed_at_us=70), None):
        assert read_records([*records, (0, b"writer", after)]).positions["A"].last_id == 5


@pytest.mark.parametrize("late", [False, True])
def test_a_position_that_moved_counts_in_whichever_order_its_partitions_are_read(*, late: bool) -> None:
    old = [(0, b"position:A", value(first_id=1, last_id=5, count=5)), (0, b"position:A", None)]
    new = [(3, b"position:A", value(first_id=1, last_id=7, count=7)), (3, b"layout", value(version=2, shards=4))]
    found = read_records([*new, *old] if late else [*old, *new])
    assert (found.positions["A"].last_id, found.positions["A"].partition, found.invalid) == (7, 3, 0)
