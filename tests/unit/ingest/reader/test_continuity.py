"""Continuity, placing and starting points of the reader: pure."""

from datetime import UTC, datetime

import pytest

from ingest.reader import Gap, ReaderError, Start, Void
from ingest.reader.continuity import Continuity
from ingest.reader.placing import partition_of

VOIDS = {("A", 3): Void("A", 3, 5, "exchange_hole"), ("A", 6): Void("A", 6, 6, "operator")}


def play(ids: list[int], next_ids: dict[str, int] | None = None) -> list[object]:
    continuity = Continuity(next_ids or {}, lambda symbol, trade_id: VOIDS.get((symbol, trade_id)))
    found: list[object] = []
    for trade_id in ids:
        found += continuity.between("A", trade_id)
        continuity.take("A", trade_id)
        found.append(trade_id)
    return found


def test_contiguous_ids_and_any_first_id_are_right() -> None:
    assert play([7, 8, 9]) == [7, 8, 9]


def test_recorded_voids_are_yielded_in_their_place() -> None:
    assert play([2, 7]) == [2, VOIDS["A", 3], VOIDS["A", 6], 7]


def test_missing_doubled_and_reordered_ids_are_gaps() -> None:
    assert play([10, 12]) == [10, Gap("A", 11, 12), 12]
    assert play([10, 10, 11]) == [10, Gap("A", 11, 10), 10, 11]
    assert play([10, 11, 9, 12]) == [10, 11, Gap("A", 12, 9), 9, 12]


def test_a_void_that_ends_beyond_the_next_trade_is_a_gap() -> None:
    assert play([2, 4]) == [2, VOIDS["A", 3], Gap("A", 6, 4), 4]


def test_a_symbol_goes_on_where_it_was() -> None:
    assert play([12], {"A": 11}) == [Gap("A", 11, 12), 12]


@pytest.mark.parametrize(
    ("key", "partitions", "partition"),
    # org.apache.kafka.common.utils.Utils.murmur2 has these hashes in its own tests.
    [(b"21", 1 << 31, -973932308 & 0x7FFFFFFF), (b"foobar", 1 << 31, -790332482 & 0x7FFFFFFF),
     (b"a-little-bit-long-string", 1 << 31, -985981536 & 0x7FFFFFFF), (b"abc", 1 << 31, 479470107)],
)  # fmt: skip
def test_a_key_s_partition_is_that_of_the_java_client(key: bytes, partitions: int, partition: int) -> None:
    assert partition_of(key, partitions) == partition


def test_starting_points_are_parsed() -> None:
    assert Start.parse("earliest") == Start.earliest()
    assert Start.parse("latest") == Start.latest()
    assert Start.parse("id:5", ("A", "B")) == Start.at_id({"A": 5, "B": 5})
    assert Start.parse("2026-01-31T12:00Z") == Start.at_time(datetime(2026, 1, 31, 12, tzinfo=UTC))


@pytest.mark.parametrize("text", ["", "id:", "id:x", "id:-1", "id:5", "yesterday", "2026-01-31T12:00"])
def test_other_starting_points_are_refused(text: str) -> None:
    with pytest.raises(ReaderError, match=r"earliest|time zone|symbols"):
        Start.parse(text)


@pytest.mark.parametrize("position", [{}, {"offsets": 1, "next_ids": {}}, {"offsets": {"x": 1}, "next_ids": {}}])
def test_what_is_no_position_is_refused(position: dict[str, object]) -> None:
    with pytest.raises(ReaderError, match="not a position"):
        Start.at_position(position)
