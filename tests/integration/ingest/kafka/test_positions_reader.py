"""Reading the positions on the real Kafka: from where it stopped, or from where somebody else has read to."""

import queue
import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from ingest.core.errors import IngestError
from ingest.core.trade import Position
from ingest.kafka import topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.positions import ShardState, ShardStateUpdate, position_record
from ingest.kafka.positions_reader import Checkpoint, PositionsFollower, PositionsReader
from ingest.settings import Settings, load

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: str) -> Settings:
    settings = load(
        {"K2_KAFKA_BOOTSTRAP_SERVERS": kafka, "K2_KAFKA_TOPIC": f"t-{uuid.uuid4().hex[:8]}", "K2_INSTANCE_ID": "blue"}
    )
    topics.create(settings, partitions=1, replication_factor=1)
    return settings


def commit(settings: Settings, *positions: tuple[str, int]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for symbol, last_id in positions:
        key, value = position_record(symbol, Position(1, last_id, last_id))
        producer.produce(settings.positions_topic, value, key, 0)
    assert producer.flush(60) == 0


@pytest.fixture
def follower(settings: Settings) -> Iterator[tuple[PositionsFollower, "queue.Queue[ShardState | ShardStateUpdate]"]]:
    seen: queue.Queue[ShardState | ShardStateUpdate] = queue.Queue()
    failed: queue.Queue[IngestError] = queue.Queue()
    with PositionsFollower(
        settings, on_first=seen.put, on_update=seen.put, on_error=failed.put, access=AuthBackoff(settings)
    ) as follower:
        yield follower, seen
    assert failed.empty()


def last_ids(state: ShardState) -> dict[str, int]:
    return {symbol: position.last_id for symbol, position in state.positions.items()}


def test_what_somebody_else_has_read_is_not_read_again(settings: Settings) -> None:
    commit(settings, ("A", 1), ("B", 1))
    # An invented checkpoint: that it shows in the answer proves that the records before it were not read.
    known = Checkpoint(2, ShardState({"A": Position(1, 100, 100)}, 7, None))
    reader = PositionsReader(settings, lambda: known)
    try:
        assert last_ids(reader.read()) == {"A": 100}
        assert reader.read().generation == 7
        commit(settings, ("A", 101), ("C", 3))
        assert last_ids(reader.read()) == {"A": 101, "C": 3}
    finally:
        reader.close()


def test_a_checkpoint_behind_what_was_read_is_not_taken(settings: Settings) -> None:
    commit(settings, ("A", 1), ("A", 2), ("A", 3))
    reader = PositionsReader(settings, lambda: Checkpoint(1, ShardState({"A": Position(1, 1, 1)}, 0, None)))
    try:
        assert last_ids(reader.read()) == {"A": 3}
        assert last_ids(reader.read()) == {"A": 3}
    finally:
        reader.close()


def test_the_followers_checkpoint_is_what_a_reader_reads(
    settings: Settings, follower: tuple[PositionsFollower, "queue.Queue[ShardState | ShardStateUpdate]"]
) -> None:
    following, seen = follower
    commit(settings, ("A", 1), ("B", 5))
    positions: dict[str, Position] = {}
    while {symbol: position.last_id for symbol, position in positions.items()} != {"A": 1, "B": 5}:
        positions |= seen.get(timeout=60).positions
    checkpoint = following.checkpoint()
    assert checkpoint.next_offset == 2
    alone, helped = PositionsReader(settings), PositionsReader(settings, following.checkpoint)
    try:
        assert alone.read() == helped.read() == checkpoint.state
    finally:
        alone.close()
        helped.close()


def test_junk_is_skipped_and_a_tombstone_is_honoured(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    commit(settings, ("A", 1), ("B", 1))
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(settings.positions_topic, b"world", b"hello", 0)
    far = b'{"first_id":1,"last_id":1' + b"0" * 30 + b',"count":1}'
    producer.produce(settings.positions_topic, far, b"position:B", 0)
    producer.produce(settings.positions_topic, None, b"position:A", 0)
    assert producer.flush(60) == 0
    reader = PositionsReader(settings)
    try:
        state = reader.read()
    finally:
        reader.close()
    assert last_ids(state) == {"B": 1}
    assert state.invalid == 2
    assert "skipped records that are not positions (2 in all)" in caplog.text


def test_partitions_with_records_of_a_time_are_told_from_new_ones(settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    begun_ms = time.time_ns() // 1_000_000
    producer.produce(settings.kafka.topic, b"x", b"BTCUSDT", 0)  # at the broker's time
    assert producer.flush(60) == 0
    topics.add_partitions(settings, settings.kafka.topic, 2)
    reader = PositionsReader(settings)
    try:
        reader.read()
        seen = [reader.recorded_from(settings.kafka.topic, 0, at) for at in (-5, begun_ms, begun_ms + 60_000)]
        assert seen == [False, False, True]
        assert not reader.recorded_from(settings.kafka.topic, 1, begun_ms + 60_000), "it has no record"
    finally:
        reader.close()
