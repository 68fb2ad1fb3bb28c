"""A stored position is compared with the newest records: pure rules, and take-overs on the real Kafka."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.batch import Batch
from ingest.core.streams import STREAMS, TRADE
from ingest.core.trade import Position, Void
from ingest.kafka import position_check
from ingest.kafka.events import Committed
from ingest.kafka.placing import partition_of
from ingest.kafka.position_check import (
    Checked,
    PositionCheck,
    RecordSearch,
    Tail,
    compare,
    explained,
    not_in_settings,
    stored_voids,
)
from ingest.kafka.positions import ShardState
from ingest.settings import load
from tests.integration.ingest.kafka.test_last_records import encoded
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make

HERE = frozenset({partition_of(b"BTCUSDT", 2)})
POSITION = {"BTCUSDT": Position(1, 9, 9, 10**15)}
NAMED = frozenset({"BTCUSDT"})
"""Its position was written without a time by these tests: as a rebuilt one."""


@pytest.mark.parametrize(
    ("newest", "complete", "expected"),
    [
        ({"BTCUSDT": 9}, HERE, Checked()),
        ({"BTCUSDT": 9}, frozenset(), Checked()),
        ({"BTCUSDT": 10}, frozenset(), Checked(lost={"BTCUSDT": 10})),
        ({"BTCUSDT": 8}, HERE, Checked(ahead={"BTCUSDT": 8})),
        ({"BTCUSDT": 8}, frozenset(), Checked(unseen=frozenset({"BTCUSDT"}))),
        ({"BTCUSDT": 8}, frozenset({1 - min(HERE)}), Checked(unseen=frozenset({"BTCUSDT"}))),
        ({}, HERE, Checked(unseen=frozenset({"BTCUSDT"}), provable=frozenset({"BTCUSDT"}))),
        ({"ETHUSDT": 50}, frozenset(), Checked(unseen=frozenset({"BTCUSDT"}), recorded=frozenset({"ETHUSDT"}))),
    ],
)
def test_a_position_is_judged_by_what_was_read(
    newest: dict[str, int], complete: frozenset[int], expected: Checked
) -> None:
    assert compare(POSITION, Tail(newest, complete, 2), [TRADE]) == expected


def test_a_topic_that_was_not_read_says_nothing_and_other_streams_are_others_business() -> None:
    assert compare(POSITION, Tail(), [TRADE]) == Checked(unseen=frozenset(POSITION))
    assert compare(POSITION, Tail({"BTCUSDT": 99}, HERE, 2), [STREAMS["aggTrade"]]) == Checked()


def test_recent_trades_without_a_position_of_a_writer_are_named() -> None:
    tail = Tail({"BTCUSDT": 9, "OLDUSDT": 3, "SOLUSDT": 7, "aggTrade:SOLUSDT": 5}, frozenset({0, 1}), 2)
    positions = {"BTCUSDT": Position(1, 9, 9, 10**15), "OLDUSDT": Position(1, 3, 3)}
    assert compare(positions, tail, [TRADE, STREAMS["aggTrade"]]).recorded == {"OLDUSDT", "SOLUSDT"}


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


@pytest.fixture
def written(kafka: str, make: Make) -> Instance:
    """A writer that has written nine trades, and has ended."""
    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.writer.write(took.session, Batch(records=[("BTCUSDT", n, encoded("BTCUSDT", n)) for n in range(1, 10)]))
    blue.expect(Committed)
    blue.writer.close(DRAIN)
    return blue


def forge(instance: Instance, last_id: int) -> None:
    """Somebody else's position, well-formed."""
    producer = Producer({"bootstrap.servers": instance.settings.kafka.bootstrap_servers})
    value = b'{"first_id":1,"last_id":%d,"count":%d,"v":1}' % (last_id, last_id)
    producer.produce(instance.settings.positions_topic, value, b"position:BTCUSDT", 0)
    assert producer.flush(60) == 0


@contextmanager
def open_transaction(instance: Instance, *, committed: bool = False) -> Iterator[None]:
    """Another program's transaction in every partition of the trades topic; aborted at the end, or committed."""
    producer = Producer(
        {"bootstrap.servers": instance.settings.kafka.bootstrap_servers, "transactional.id": "another-program"}
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    for partition in range(2):
        producer.produce(instance.settings.kafka.topic, encoded("BTCUSDT", 77), b"BTCUSDT", partition)
    producer.flush(60)
    yield
    if committed:
        producer.commit_transaction(60)
    else:
        producer.abort_transaction(60)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer than a take-over may wait."""
    monkeypatch.setattr(position_check, "WAIT_SECONDS", 10.0)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("last_id", "expected"),
    [
        (9, Checked(recorded=NAMED)),
        (7, Checked(lost={"BTCUSDT": 9}, recorded=NAMED)),
        (5000, Checked(ahead={"BTCUSDT": 9}, recorded=NAMED)),
    ],
)
def test_a_take_over_says_which_positions_the_records_contradict(
    kafka: str, make: Make, written: Instance, last_id: int, expected: Checked
) -> None:
    forge(written, last_id)
    assert make(kafka, "green").take_over().checked == expected


@pytest.mark.integration
def test_records_of_an_aborted_transaction_do_not_count(kafka: str, make: Make, written: Instance) -> None:
    with open_transaction(written):
        pass
    assert make(kafka, "green").take_over().checked == Checked(recorded=NAMED)


@pytest.mark.integration
def test_behind_an_open_transaction_nothing_is_said_to_be_missing(
    kafka: str, make: Make, written: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another shard's transaction hides the newest record: the position is beyond all that can be read."""
    monkeypatch.setattr(position_check, "WAIT_SECONDS", 1.0)
    with open_transaction(written):
        green = make(kafka, "green")
        took = green.take_over()
        green.writer.write(took.session, Batch(records=[("BTCUSDT", 10, encoded("BTCUSDT", 10))]))
        green.expect(Committed)
        green.writer.close(DRAIN)
        assert make(kafka, "blue").take_over().checked == Checked(unseen=NAMED, recorded=NAMED)


@pytest.mark.integration
def test_a_topic_whose_records_are_gone_contradicts_nothing(
    kafka: str, make: Make, written: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_check, "TAIL", 0)  # as where the symbol's records are far from the end
    checked = make(kafka, "green").take_over().checked
    assert checked == Checked(unseen=frozenset({"BTCUSDT"}), provable=frozenset({"BTCUSDT"}))


@pytest.mark.integration
async def test_what_was_not_seen_is_looked_for(kafka: str, make: Make, written: Instance) -> None:
    search = RecordSearch(written.settings)
    assert await search.newest({"BTCUSDT", "NEVERUSDT"}, 10.0) == {"BTCUSDT": 9}
    green = make(kafka, "green")
    took = green.take_over()
    green.writer.write(took.session, Batch(voids=[Void("BTCUSDT", 10, 12, "exchange_hole", {})]))
    green.expect(Committed)
    green.writer.close(DRAIN)
    assert make(kafka, "blue").take_over().checked == Checked(ahead={"BTCUSDT": 9}, recorded=NAMED)
    assert await search.voids({"BTCUSDT"}) == {"BTCUSDT": {10: 12}}
    assert stored_voids(written.settings, frozenset({"ETHUSDT"})) == {}


@pytest.mark.integration
def test_what_the_predecessor_writes_until_it_is_fenced_is_read(kafka: str, make: Make, written: Instance) -> None:
    """However often the positions are read before."""
    check, state = PositionCheck(written.settings), ShardState({}, 1, None)
    check.positions_read(state)
    check.positions_read(state)
    time.sleep(1.0)
    green = make(kafka, "green")
    took = green.take_over()
    green.writer.write(took.session, Batch(records=[("BTCUSDT", 10, encoded("BTCUSDT", 10))]))
    green.expect(Committed)
    check.fenced()
    assert check.finish({"BTCUSDT": Position(1, 10, 10, 10**15)}) == Checked()


@pytest.mark.integration
def test_without_transactions_nothing_is_compared(kafka: str, make: Make, written: Instance) -> None:
    """Records may be ahead of their position there."""
    forge(written, 7)
    assert make(kafka, "green", K2_KAFKA_DELIVERY="at-least-once").take_over().checked == Checked()
