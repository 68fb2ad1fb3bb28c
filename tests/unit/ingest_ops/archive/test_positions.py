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


@pytest.mark.parametrize("data", [b"{}", b"[]", b"no", value(first_id="x"), json.dumps({"v": 2}).encode()])
def test_records_of_another_form_end_it(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        read_records([(0, b"position:A", data)])
