"""Which records of the positions topic count, and which are skipped."""

import json

import pytest

from ingest.core.errors import Stop
from ingest.core.trade import Position
from ingest.kafka.positions import (
    INVALID_KEPT,
    ShardState,
    ShardStateBuilder,
    WriterRecord,
    position_record,
    writer_record,
)

GOOD = Position(1, 10, 10)


def built(*records: tuple[bytes | None, bytes | None]) -> ShardStateBuilder:
    builder = ShardStateBuilder()
    for key, value in records:
        builder.apply(key, value)
    return builder


def position(**fields: object) -> bytes:
    return json.dumps({"first_id": 1, "last_id": 20, "count": 20, "v": 1, **fields}).encode()


def writer(generation: int) -> tuple[bytes, bytes]:
    return writer_record(WriterRecord(generation, "blue", None, 1, 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"hello", b"world"),
        (None, b"world"),
        (b"", b""),
        (b"\xff\xfe", b"{}"),
        (b"position:", position()),
        (b"position:BTCUSDT", b"{{{"),
        (b"position:BTCUSDT", b"[" * 100_000),
        (b"position:BTCUSDT", b"\xff"),
        (b"position:BTCUSDT", b""),
        (b"position:BTCUSDT", position(last_id=10**30)),
        (b"position:BTCUSDT", position(last_id=2**63)),
        (b"position:BTCUSDT", position(last_id=-10)),
        (b"position:BTCUSDT", position(first_id=-10)),
        (b"position:BTCUSDT", position(first_id=22)),
        (b"position:BTCUSDT", position(count=21)),
        (b"position:BTCUSDT", position(count=-1)),
        (b"position:BTCUSDT", position(last_id=20.5)),
        (b"position:BTCUSDT", position(last_id="20")),
        (b"position:" + b"X" * 65, position()),
        (b"writer", b"null"),
        (b"writer", writer(7)[1].replace(b'"generation":7', b'"generation":1' + b"0" * 30)),
        (b"writer", writer(7)[1].replace(b'"generation":7', b'"generation":-7')),
        (b"writer", writer(7)[1].replace(b'"blue"', b'"' + b"b" * 65 + b'"')),
        (b"handover:9", b'{"generation":9}'),
    ],
)
def test_a_record_that_this_service_did_not_write_is_skipped_and_counted(key: bytes | None, value: bytes) -> None:
    builder = built(position_record("BTCUSDT", GOOD), writer(3), (key, value))
    assert builder.state() == ShardState({"BTCUSDT": GOOD}, 3, WriterRecord(3, "blue", None, 1, 1), 1)
    assert len(builder.invalid) == 1
    assert len(builder.invalid[0]) < 500


def test_bounds_are_inclusive() -> None:
    most = Position(0, 2**63 - 1, 2**53)
    none = Position(0, -1, 0)
    builder = built(position_record("MOST", most), position_record("NONE", none))
    assert builder.state().positions == {"MOST": most, "NONE": none}
    assert not builder.invalid_count


def test_a_tombstone_removes_a_position_at_once() -> None:
    builder = built(position_record("A", GOOD), position_record("B", GOOD))
    builder.update()
    builder.apply(b"position:A", None)
    assert builder.changed()
    update = builder.update()
    assert (update.positions, update.removed) == ({}, frozenset({"A"}))
    assert builder.state().positions == {"B": GOOD}
    builder.apply(*position_record("A", GOOD))
    assert builder.update().positions == {"A": GOOD}
    assert not builder.invalid_count


def test_a_tombstone_of_what_was_invalid_cures_nothing_and_harms_nothing() -> None:
    builder = built((b"hello", b"world"), (b"hello", None), (b"writer", None), writer(3), (b"handover:1", None))
    assert builder.generation == 3
    assert builder.invalid_count == 2


def test_invalid_records_are_described_up_to_a_bound() -> None:
    builder = built(*[(b"junk-%d" % n, b"x") for n in range(1000)])
    assert builder.invalid_count == 1000
    assert len(builder.invalid) == INVALID_KEPT


def test_positions_are_bounded_in_number_and_junk_displaces_none_that_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.kafka.positions.MOST_SYMBOLS", 3)
    builder = built(position_record("OURS", GOOD))
    for number in range(10):
        builder.apply(*position_record(f"JUNK{number}", GOOD))
        builder.apply(*position_record("OURS", GOOD))
    assert set(builder.state().positions) == {"OURS", "JUNK8", "JUNK9"}
    assert builder.invalid_count == 8
    assert "JUNK7 is forgotten" in builder.invalid[-1]
    assert builder.update().removed == {f"JUNK{number}" for number in range(8)}


def test_a_newer_format_stops() -> None:
    with pytest.raises(Stop, match="format 2"):
        built((b"position:A", position(v=2, last_id="of another meaning")))


def test_a_book_without_a_snapshot_is_stored_as_such_and_a_trade_s_position_stays_as_it_was() -> None:
    builder = ShardStateBuilder()
    book = Position(5, 20, 3, 7, unsynced=True)
    assert position_record("BTCUSDT", Position(5, 20, 3, 7)) == (
        b"position:BTCUSDT", b'{"first_id":5,"last_id":20,"count":3,"last_time_us":7,"v":1}',
    )  # fmt: skip
    for name, position in (("depth:BTCUSDT", book), ("BTCUSDT", Position(1, 2, 2))):
        builder.apply(*position_record(name, position))
    assert builder.positions == {"depth:BTCUSDT": book, "BTCUSDT": Position(1, 2, 2)}
    builder.apply(*position_record("depth:BTCUSDT", Position(5, 20, 3, 7)))
    assert not builder.positions["depth:BTCUSDT"].unsynced
