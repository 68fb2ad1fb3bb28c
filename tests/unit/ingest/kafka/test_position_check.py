"""A stored position is compared with the newest records: the rules."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.streams import STREAMS, TRADE
from ingest.core.trade import Position
from ingest.kafka.placing import partition_of
from ingest.kafka.position_check import Checked, behind_newest, compare, explained, merged, not_in_settings
from ingest.kafka.tail_reader import Tail, TailReader
from ingest.settings import load

PRESENT = partition_of(b"BTCUSDT", 2)
HERE = frozenset({PRESENT})
POSITION = {"BTCUSDT": Position(1, 9, 9, 10**15)}
UNSEEN = Checked(unseen=frozenset({"BTCUSDT"}))


def tail(newest: dict[str, int], complete: frozenset[int], elsewhere: dict[str, int] | None = None) -> Tail:
    return Tail(newest, elsewhere or {}, complete, 2)


@pytest.mark.parametrize(
    ("newest", "complete", "expected"),
    [
        ({"BTCUSDT": 9}, HERE, Checked()),
        ({"BTCUSDT": 9}, frozenset(), Checked()),
        ({"BTCUSDT": 10}, frozenset(), Checked(lost={"BTCUSDT": 10})),
        ({"BTCUSDT": 8}, HERE, Checked(ahead={"BTCUSDT": 8})),
        ({"BTCUSDT": 8}, frozenset(), UNSEEN),
        ({"BTCUSDT": 8}, frozenset({1 - PRESENT}), UNSEEN),
        ({}, HERE, UNSEEN),
        ({"ETHUSDT": 50}, frozenset(), Checked(unseen=frozenset({"BTCUSDT"}), recorded=frozenset({"ETHUSDT"}))),
    ],
)
def test_a_position_is_judged_by_what_was_read(
    newest: dict[str, int], complete: frozenset[int], expected: Checked
) -> None:
    assert compare(POSITION, tail(newest, complete), [TRADE]) == expected


@pytest.mark.parametrize(
    ("newest", "elsewhere", "expected"),
    [
        ({}, {"BTCUSDT": 8}, UNSEEN),
        ({}, {"BTCUSDT": 9}, UNSEEN),
        ({"BTCUSDT": 9}, {"BTCUSDT": 8}, Checked()),
        ({"BTCUSDT": 8}, {"BTCUSDT": 9}, Checked(ahead={"BTCUSDT": 8})),
        ({}, {"BTCUSDT": 10}, Checked(lost={"BTCUSDT": 10})),
        ({"BTCUSDT": 9}, {"BTCUSDT": 10}, Checked(lost={"BTCUSDT": 10})),
    ],
)
def test_records_of_a_time_with_fewer_partitions_prove_nothing_missing(
    newest: dict[str, int], elsewhere: dict[str, int], expected: Checked
) -> None:
    """A symbol's newer records are in the partition of now, perhaps before what was read of it."""
    assert compare(POSITION, tail(newest, frozenset({0, 1}), elsewhere), [TRADE]) == expected


def test_a_topic_that_was_not_read_says_nothing_and_other_streams_are_others_business() -> None:
    assert compare(POSITION, Tail(), [TRADE]) == UNSEEN
    assert compare(POSITION, tail({"BTCUSDT": 99}, HERE), [STREAMS["aggTrade"]]) == Checked()


def test_recent_trades_without_a_position_of_a_writer_are_named() -> None:
    seen = tail({"BTCUSDT": 9, "OLDUSDT": 3, "SOLUSDT": 7, "aggTrade:SOLUSDT": 5}, frozenset({0, 1}))
    positions = {"BTCUSDT": Position(1, 9, 9, 10**15), "OLDUSDT": Position(1, 3, 3)}
    assert compare(positions, seen, [TRADE, STREAMS["aggTrade"]]).recorded == {"OLDUSDT", "SOLUSDT"}


def test_symbols_of_another_shard_are_not_judged() -> None:
    """A position that an earlier number of shards has left here is behind the records of its present shard."""
    both = {"BTCUSDT", "aggTrade:BTCUSDT", "ETHUSDT", "aggTrade:ETHUSDT"}
    numbers = dict.fromkeys(both, 7)
    found = Checked(numbers, numbers, frozenset(both), frozenset(both), numbers).of(lambda symbol: symbol == "ETHUSDT")
    ours = {"ETHUSDT", "aggTrade:ETHUSDT"}
    assert found == Checked(
        dict.fromkeys(ours, 7), dict.fromkeys(ours, 7), frozenset(ours), frozenset(ours), dict.fromkeys(ours, 7)
    )


def test_what_several_topics_say_is_put_together() -> None:
    one, two = Checked({"A": 1}, {"B": 2}, frozenset("C"), frozenset("D")), Checked({"E": 5}, {}, frozenset("F"))
    assert merged([one, two], {"G": 7}) == Checked(
        {"A": 1, "E": 5}, {"B": 2}, frozenset("CF"), frozenset("D"), {"G": 7}
    )


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (tail({"depth:BTCUSDT": 70}, HERE), ({"depth:BTCUSDT": 70}, frozenset())),
        (tail({"depth:BTCUSDT": 70}, frozenset({1 - PRESENT})), ({}, frozenset({"depth:BTCUSDT"}))),
        (tail({}, HERE, {"depth:BTCUSDT": 60}), ({}, frozenset({"depth:BTCUSDT"}))),
        (tail({"depth:BTCUSDT": 70}, HERE, {"depth:BTCUSDT": 60}), ({"depth:BTCUSDT": 70}, frozenset())),
        (tail({"depth:ETHUSDT": 70}, frozenset({0, 1})), ({}, frozenset())),
    ],
)
def test_books_go_on_behind_what_is_certainly_their_newest_record(
    seen: Tail, expected: tuple[dict[str, int], frozenset[str]]
) -> None:
    assert behind_newest({"depth:ETHUSDT": Position(1, 1, 1)}, seen) == expected


def test_restored_symbols_that_the_settings_do_not_name_are_said() -> None:
    settings = load({"K2_KAFKA_TOPIC": "t", "K2_BINANCE_SYMBOLS": "BTCUSDT"})
    assert not_in_settings(settings, ["BTCUSDT", "SOLUSDT", "aggTrade:SOLUSDT"]) == "SOLUSDT"
    assert not_in_settings(load({"K2_KAFKA_TOPIC": "t", "K2_BINANCE_SYMBOLS": "*"}), ["SOLUSDT"]) == ""


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(0, 20), st.integers(-2, 2))
def test_only_voids_that_reach_exactly_to_the_position_explain_it(lengths: list[int], newest: int, shift: int) -> None:
    voids, due = {}, newest + 1
    for length in lengths:
        voids[due] = due + length - 1
        due += length
    end = due - 1 + shift
    if end > newest:
        reached = {newest} | set(voids.values())
        assert explained(newest, Position(0, end, newest + 1), voids) == (end in reached)


class ReadMeanwhile(dict[str, int]):
    """What a thread has found; it goes on as soon as an entry is copied."""

    def __init__(self, entries: dict[str, int], then: Callable[[], None]) -> None:
        super().__init__(entries)
        self._then = then

    def __iter__(self) -> Iterator[str]:  # where a class has its own, ``dict`` copies by ``__getitem__``
        return super().__iter__()

    def __getitem__(self, name: str) -> int:
        number = super().__getitem__(name)
        self._then()
        return number


def test_a_partition_whose_last_records_are_read_after_the_result_was_taken_is_not_complete() -> None:
    """Its newest id would be an old one, and the position be taken for one that is ahead."""
    reader = TailReader(load({}), "t", [TRADE], tail=1)

    def read_on() -> None:
        reader._newest["BTCUSDT"] = 9
        reader._complete.add(PRESENT)

    reader._partitions = 2
    reader._newest = ReadMeanwhile({"BTCUSDT": 8}, read_on)
    assert compare(POSITION, reader.result(0.0), [TRADE]) == UNSEEN
    assert compare(POSITION, reader.result(0.0), [TRADE]) == Checked()
