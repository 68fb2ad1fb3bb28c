"""Records of the positions topic that contradict a writer, on the real Kafka: its transactional id decides."""

import time

import pytest
from confluent_kafka import Producer

from ingest.binance.symbols import shard_of
from ingest.kafka.events import Committed, Defended, Failed, LayoutRestored, Recycled, Superseded, WriterEvent
from ingest.kafka.layout import configured, stable
from ingest.kafka.positions import LayoutRecord, ShardState, WriterRecord, layout_record, writer_record
from ingest.kafka.positions_reader import PositionsReader
from ingest.kafka.reshard import KafkaReshardPort
from ingest.kafka.resharding import Resharding
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make

pytestmark = pytest.mark.integration
ONE = LayoutRecord(1, "stable", 1, "host", 1, 2)
SEVEN = LayoutRecord(99, "stable", 7, "forger", 1, 2)


def store(one: Instance, record: tuple[bytes, bytes]) -> None:
    """By another client, without a transaction."""
    producer = Producer({"bootstrap.servers": one.settings.kafka.bootstrap_servers})
    producer.produce(one.settings.positions_topic, record[1], record[0], 0)
    assert producer.flush(60) == 0


def stored(one: Instance) -> ShardState:
    reader = PositionsReader(one.settings)
    try:
        return reader.read()
    finally:
        reader.close()


def answer(one: Instance, *kinds: type[WriterEvent]) -> WriterEvent:
    return one.expect_any(*kinds)


def require_writes(one: Instance, session: int) -> None:
    one.write(session, 1, 2)
    assert one.expect(Committed).last_ids == {"BTCUSDT": 2}


def test_a_forged_generation_is_exceeded_and_the_writer_goes_on(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    store(blue, writer_record(WriterRecord(40, "forger", None, 1, 1)))
    blue.writer.defend(40)
    assert answer(blue, Defended, Superseded, Failed) == Defended(41)
    require_writes(blue, took.session)
    state = stored(blue)
    assert state.writer is not None
    assert (state.generation, state.writer.instance) == (41, "blue")


def test_a_claim_below_the_own_generation_is_not_answered(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.writer.defend(took.generation)
    require_writes(blue, took.session)
    assert stored(blue).generation == took.generation


def test_a_writer_that_is_fenced_does_not_exceed_its_successor(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue", K2_KAFKA_HEARTBEAT_INTERVAL_MS="10000")  # it notices nothing by itself
    blue.take_over()
    took = make(kafka, "green").take_over()
    blue.writer.defend(took.generation)
    assert answer(blue, Defended, Superseded, Failed) == Superseded(took.generation)
    assert stored(blue).generation == took.generation


def test_a_forged_layout_is_replaced_and_the_writer_goes_on(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    store(blue, layout_record(SEVEN))
    blue.writer.restore_layout(ONE)
    assert answer(blue, LayoutRestored, Superseded, Failed) == LayoutRestored()
    require_writes(blue, took.session)
    assert stored(blue).layout == ONE


def test_a_forged_layout_that_a_recycle_reads_is_replaced_and_the_writer_goes_on(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue", K2_KAFKA_HEARTBEAT_INTERVAL_MS="10000")
    took = blue.take_over()
    store(blue, layout_record(SEVEN))
    with KafkaReshardPort(blue.settings) as port:
        port.fence([0])  # and records no generation: the writer takes its id back
    blue.write(took.session, 1, 2)
    assert answer(blue, LayoutRestored, Superseded, Failed) == LayoutRestored()
    recycled = answer(blue, Recycled, Superseded, Failed)
    assert isinstance(recycled, Recycled)
    require_writes(blue, recycled.session)
    assert stored(blue).layout == configured(1)


def test_a_layout_that_the_command_has_changed_is_not_replaced(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue", K2_KAFKA_HEARTBEAT_INTERVAL_MS="10000")
    blue.take_over()
    with KafkaReshardPort(blue.settings) as port, Resharding(
        port, topic=blue.settings.positions_topic, configured=1, by="command", shard_of=shard_of,
        time_ns=time.time_ns,
    ) as command:  # fmt: skip
        assert command.run(2) is not None
    layout = stored(blue).layout
    assert layout is not None
    blue.writer.restore_layout(stable(layout, 1, by="blue", now_us=1))
    ended = answer(blue, LayoutRestored, Superseded, Failed)
    assert isinstance(ended, Superseded), "the command has fenced it and recorded a generation"
    assert stored(blue).layout == layout
    blue.writer.close(DRAIN)
