"""Which records of the positions topic count, and which are skipped."""

import json

import pytest

from ingest.core.errors import Stop
from ingest.core.trade import Position
from ingest.kafka.position_records import MOST_GENERATION
from ingest.kafka.positions import (
    INVALID_KEPT,
    HandoverRecord,
    ShardState,
    ShardStateBuilder,
    WriterRecord,
    handover_record,
    position_record,
    writer_record,
)
from ingest.kafka.positions_rebuild import ending

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
        (b"void:BTCUSDT:3", b"{}"),
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


NESTED = b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"


def newer_writer(generation: int, version: int = 2) -> tuple[bytes, bytes]:
    return b"writer", json.dumps({"generation": generation, "v": version, "more": "fields"}).encode()


def test_a_newer_version_s_writer_stops_every_reader_and_an_own_one_of_a_later_generation_ends_that() -> None:
    builder = built(position_record("A", GOOD), writer(3), (b"position:A", position(v=2)), newer_writer(4))
    for more in (newer_writer(4), newer_writer(6), writer(4)):
        with pytest.raises(Stop, match=r"written in format 2.*rebuild --replace"):
            builder.state().require_format()
        builder.apply(*more)
    with pytest.raises(Stop, match="format 2"):
        builder.state().require_format()
    assert builder.invalid_count == 1, "its position alone"
    builder.apply(*writer(7))
    builder.state().require_format()
    assert (builder.generation, builder.positions) == (7, {}), "what it has replaced is never continued"


def test_a_tombstone_of_the_writer_ends_a_forged_format_and_generation() -> None:
    builder = built(position_record("A", GOOD), writer(3), newer_writer(MOST_GENERATION - 1, 99), (b"writer", None))
    builder.state().require_format()
    assert (builder.generation, builder.positions) == (0, {"A": GOOD})


@pytest.mark.parametrize(
    "junk",
    [
        (b"position:A", b'{"v":99}'),
        (b"position:JUNK", b'{"v":99}'),
        (b"writer", b'{"v":99}'),
        newer_writer(3),
        newer_writer(MOST_GENERATION, 99),
        (b"writer", b'{"v":99,"generation":9007199254740992}'),
        (b"handover:9", b'{"v":99,"generation":9}'),
        (b"symbols", b'{"v":99}'),
        (b"void:A:3", b'{"v":99}'),
        (b"position:JUNK", NESTED),
        (b"position:A", b'{"v":1e400}'),
    ],
)
def test_a_newer_format_without_its_writer_is_a_stranger_s(junk: tuple[bytes, bytes]) -> None:
    builder = built(position_record("A", GOOD), writer(3), junk)
    builder.state().require_format()
    assert (builder.invalid_count, builder.positions, builder.generation) == (1, {"A": GOOD}, 3)
    builder.apply(*writer(3))
    builder.apply(*newer_writer(4))
    assert builder.positions == {"A": GOOD}, "an own transaction lies between"


def test_a_checkpoint_within_a_newer_writer_s_transaction_keeps_what_it_replaced() -> None:
    half, rest = built(position_record("A", GOOD), writer(3), (b"position:A", position(v=2))), ShardStateBuilder()
    rest.restore(half.state())
    rest.apply(*newer_writer(4))
    assert rest.positions == {}
    again = ShardStateBuilder()
    again.restore(rest.state())
    with pytest.raises(Stop, match="format 2"):
        again.state().require_format()


def test_a_generation_without_successors_is_invalid_and_the_last_one_is_no_writer_s() -> None:
    builder = built(writer(3), writer(2**53), writer(MOST_GENERATION + 1))
    assert (builder.generation, builder.invalid_count) == (3, 2)
    assert builder.state().next_generation() == 4
    builder.apply(*writer(MOST_GENERATION - 1))
    assert built(writer(builder.state().next_generation())).invalid_count == 0
    builder.apply(*handover_record(HandoverRecord(5, "a", "b", None, 1, 1)))
    builder.apply(*writer(MOST_GENERATION))
    state = builder.state()
    assert (state.spent, state.credible, state.next_generation()) == (True, 5, 6)
    for record in ((b"writer", None), writer(6)):  # what the next take-over commits
        builder.apply(*record)
    assert (builder.generation, builder.state().spent) == (6, False)


def test_a_refusal_names_the_record_and_the_command_and_ends_with_the_next_writer() -> None:
    builder = ShardStateBuilder()
    builder.apply(*writer(3), 7)
    assert (builder.refusal, builder.state().writer_offset) == ("", 7)
    builder.update()
    builder.apply(*newer_writer(9), 8)
    builder.apply(*newer_writer(2), 9)
    assert builder.changed()
    update = builder.update()
    assert (update.claimed, update.writer) == (9, None)
    for word in ("`writer` at offset 8", "generation 9", "format 2", "ingest positions rebuild --replace"):
        assert word in update.refusal
    assert "offset 9" in builder.invalid[0]
    again = ShardStateBuilder()
    again.restore(builder.state())
    assert again.refusal == update.refusal
    for key, value in (writer(10), (b"writer", None)):
        again.restore(builder.state())
        again.update()
        again.apply(key, value, 10)
        assert again.changed()
        assert again.update().refusal == ""


def test_an_update_tells_of_claims_only_when_there_was_one() -> None:
    builder = built(writer(3))
    assert builder.update().claimed == 3
    builder.apply(*position_record("A", GOOD))
    assert builder.update().claimed == 0
    builder.apply(*handover_record(HandoverRecord(2**40, "a", "b", None, 1, 1)))
    builder.apply(*writer(3))
    assert builder.update().claimed == 2**40, "a forged take-over is a claim, too"


@pytest.mark.parametrize("forged", [newer_writer(9), writer(MOST_GENERATION)])
def test_what_ends_a_rebuild_lets_the_next_writer_begin(forged: tuple[bytes, bytes]) -> None:
    handover = handover_record(HandoverRecord(5, "a", "b", None, 1, 1))
    history = [position_record("A", GOOD), handover, writer(5), forged]
    end = ending(built(*history).state(), 1_800_000_000_000_000)
    for records in ([*history, *end], [*history[:2], *end]):  # before and after compaction
        builder = built(*records)
        builder.state().require_format()
        assert builder.invalid_count == 0
        assert 5 < builder.generation < builder.state().next_generation() <= 11
        assert builder.positions == {"A": GOOD}


def test_a_handover_s_forged_generation_is_passed_and_harms_nothing() -> None:
    high = HandoverRecord(MOST_GENERATION, "a", "b", None, 1, 1)
    builder = built(writer(3), handover_record(high))
    assert (builder.generation, builder.invalid_count) == (3, 0)


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
