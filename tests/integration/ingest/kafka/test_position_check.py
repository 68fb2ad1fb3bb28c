"""A stored position is compared with the newest records, by take-overs on the real Kafka."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from ingest.core.batch import Batch
from ingest.core.trade import Position, Trade, Void
from ingest.kafka import position_check, topics
from ingest.kafka.encoding import EARLIEST_US, TradeEncoder
from ingest.kafka.events import Committed
from ingest.kafka.placing import partition_of
from ingest.kafka.position_check import Checked, PositionCheck
from ingest.kafka.position_search import RecordSearch, stored_voids
from ingest.kafka.positions import ShardState
from tests.integration.ingest.kafka.test_last_records import encoded
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make, settings_for

POSITION = {"BTCUSDT": Position(1, 9, 9, 10**15)}
NAMED = frozenset({"BTCUSDT"})
"""Its position was written without a time by these tests: as a rebuilt one."""


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
    assert checked == Checked(unseen=NAMED)


@pytest.mark.integration
async def test_what_was_not_seen_is_looked_for(kafka: str, make: Make, written: Instance) -> None:
    search = RecordSearch(written.settings)
    asked = {"BTCUSDT": Position(1, 7, 7), "NEVERUSDT": Position(1, 1, 1)}
    found = await search.compare(asked, 10.0)
    assert found == Checked(lost={"BTCUSDT": 9}, unseen=frozenset({"NEVERUSDT"}), recorded=NAMED)
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


PARTITIONS = 24
FILLER = 3_000
"""Records behind the newest one of each symbol: more than a take-over reads."""


@pytest.fixture
def wide(kafka: str, topic: str) -> dict[str, int]:
    """A topic of many partitions, in each a symbol whose newest record is far from the end -> that record's id."""
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=PARTITIONS, replication_factor=1)
    newest: dict[str, int] = {}
    for number in range(10_000):
        symbol = f"S{number}USDT"
        if len(newest) < PARTITIONS and all(place(symbol) != place(other) for other in newest):
            newest[symbol] = 100 + number
    producer = Producer({"bootstrap.servers": kafka, "queue.buffering.max.messages": 1_000_000})
    for symbol, last_id in newest.items():
        producer.produce(topic, record(symbol, last_id), symbol.encode(), place(symbol))
    filler = record("FILLUSDT", 1)
    for count in range(FILLER):
        for partition in range(PARTITIONS):
            producer.produce(topic, filler, b"FILLUSDT", partition)
        if count % 100 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    return newest


def record(symbol: str, trade_id: int) -> bytes:
    trade = Trade(symbol, trade_id, "1.00000000", "2.00000000", EARLIEST_US, buyer_is_maker=True)
    return TradeEncoder(1, {symbol: ("BTC", "USDT")}).encode(trade, EARLIEST_US)


def place(symbol: str) -> int:
    return partition_of(symbol.encode(), PARTITIONS)


@pytest.mark.integration
async def test_a_search_reads_many_partitions_at_once_within_its_bound(
    kafka: str, topic: str, wide: dict[str, int]
) -> None:
    search = RecordSearch(settings_for(kafka, "blue", topic))
    forged = {symbol: Position(1, last_id - 1, 1) for symbol, last_id in wide.items()}
    found = await search.compare(forged, 60.0)
    assert (found.lost, found.unseen) == (wide, frozenset())
    right = {symbol: Position(1, last_id, 1) for symbol, last_id in wide.items()}
    ahead = {symbol: Position(1, last_id + 1, 1) for symbol, last_id in wide.items()}
    assert (await search.compare(right, 60.0)) == Checked(recorded=frozenset({*wide, "FILLUSDT"}))
    assert (await search.compare(ahead, 60.0)).ahead == wide
    began = time.monotonic()
    late = await search.compare(forged, 0.0)
    assert late.unseen == forged.keys(), "what is not read is not judged"
    assert time.monotonic() - began < 10, "it does not wait for the reader, which takes up to a minute"


@pytest.mark.integration
def test_a_take_over_does_not_wait_for_longer_than_its_bound(
    kafka: str, make: Make, written: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open transaction hides the end, and closing the client takes a while."""
    monkeypatch.setattr(position_check, "WAIT_SECONDS", 0.25)
    check = PositionCheck(written.settings)
    with open_transaction(written):
        check.positions_read(ShardState({}, 1, None))
        check.fenced()
        began = time.monotonic()
        check.finish(POSITION)
        assert 0.25 <= time.monotonic() - began < 10, "the transaction stays open for longer"


@pytest.mark.integration
def test_after_partitions_were_added_older_records_elsewhere_prove_nothing(
    kafka: str, make: Make, written: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The symbol's newest record is in its partition of now, farther from the end than is read."""
    monkeypatch.setattr(position_check, "TAIL", 5)
    grown = next(count for count in range(3, 9) if partition_of(b"BTCUSDT", count) != partition_of(b"BTCUSDT", 2))
    topics.add_partitions(written.settings, written.settings.kafka.topic, grown)
    producer = Producer({"bootstrap.servers": kafka})
    present = partition_of(b"BTCUSDT", grown)
    for key, number in ((b"BTCUSDT", 10), *((b"ETHUSDT", count) for count in range(20))):
        producer.produce(written.settings.kafka.topic, record(key.decode(), number), key, present)
    assert producer.flush(60) == 0
    forge(written, 10)
    checked = make(kafka, "green", K2_KAFKA_PARTITIONS=str(grown)).take_over().checked
    assert (checked.ahead, checked.unseen) == ({}, NAMED)
