"""The writer's thread on the real Kafka: take over, fence, recycle, and nothing twice."""

import contextlib
import itertools
import json
import queue
import threading
import time
import uuid

import pytest
from confluent_kafka import Producer

from ingest.core.batch import Batch
from ingest.core.trade import DeadLetter, Position, Void
from ingest.kafka import topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.events import Committed, Failed, Recycled, Released, Superseded
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.kafka.positions_reader import PositionsFollower
from ingest.kafka.producer import TransactionalProducer
from tests.harness.kafka import KafkaBroker
from tests.integration.ingest.kafka.writing import DRAIN, Make, read, settings_for, trades

pytestmark = pytest.mark.integration


def test_trades_and_positions_are_one_transaction(kafka: str, topic: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    assert (took.generation, took.state.positions, took.gap_seconds) == (1, {}, None)
    blue.write(took.session, 7, 8, 9)
    committed = blue.expect(Committed)
    assert committed.batch is not None
    blue.writer.write(
        took.session,
        Batch(
            records=[("BTCUSDT", 12, b"12")],
            voids=[Void("BTCUSDT", 10, 11, "exchange_hole", {"replies": 5})],
            dead_letters=[DeadLetter("malformed_json", "a", b"{", symbol="BTCUSDT", trade_id=10)],
            baselines={"QUIET": 100},
        ),
    )
    blue.expect(Committed)
    assert trades(kafka, topic) == [7, 8, 9, 12]
    positions = {(key or b"").decode(): json.loads(value or b"") for key, value in read(kafka, f"{topic}.positions", 1)}
    assert positions["position:BTCUSDT"] == {"v": 1, "first_id": 7, "last_id": 12, "count": 4}
    assert positions["position:QUIET"] == {"v": 1, "first_id": 100, "last_id": 99, "count": 0}
    assert positions["void:BTCUSDT:10"]["last_id"] == 11
    assert positions["writer"]["generation"] == 1
    assert positions["handover:1"]["to"] == "blue"
    deadline = time.monotonic() + 60.0
    while not (letters := read(kafka, f"{topic}.dlq", 1)):  # outside of the transaction, a moment later
        assert time.monotonic() < deadline
    assert letters == [(b"BTCUSDT", b"{")]


def test_the_second_fences_the_first_which_stands_by(kafka: str, topic: str, make: Make) -> None:
    blue, green = make(kafka, "blue"), make(kafka, "green")
    first = blue.take_over()
    blue.write(first.session, 1, 2)
    blue.expect(Committed)
    second = green.take_over()
    assert second.generation == 2
    assert second.state.positions == {"BTCUSDT": Position(1, 2, 2)}
    assert second.gap_seconds is not None
    assert second.gap_seconds < 30.0
    blue.write(first.session, 3, 4)
    green.write(second.session, 3, 4, 5)
    green.expect(Committed)
    assert blue.expect(Superseded).generation == 2
    assert not blue.writer._shard.writing
    assert trades(kafka, topic) == [1, 2, 3, 4, 5]


def test_hand_over_back_and_forth(kafka: str, topic: str, make: Make) -> None:
    both = make(kafka, "blue"), make(kafka, "green")
    due = 1
    for turn in range(6):
        writer = both[turn % 2]
        took = writer.take_over()
        assert took.generation == turn + 1
        for _ in range(3):
            writer.write(took.session, due, due + 1)
            due += 2
        for _ in range(3):
            writer.expect(Committed)
        other = both[(turn + 1) % 2]
        if turn:
            assert other.expect(Superseded).generation == turn + 1
    assert trades(kafka, topic) == list(range(1, due))


def test_a_restart_of_the_same_instance_takes_a_new_generation(kafka: str, topic: str, make: Make) -> None:
    first = make(kafka, "blue")
    took = first.take_over()
    first.write(took.session, 1)
    first.expect(Committed)
    first.writer.close(DRAIN)
    again = make(kafka, "blue").take_over()
    assert (again.generation, again.state.positions["BTCUSDT"].last_id) == (2, 1)


def test_release_closes_the_producer_and_taking_over_again_works(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.write(took.session, 1)
    blue.expect(Committed)
    blue.writer.release()
    blue.expect(Released)
    blue.write(took.session, 2)  # of a session that is over: ignored
    again = blue.take_over()
    assert again.session > took.session
    assert again.state.positions["BTCUSDT"].last_id == 1


def test_an_intruder_without_a_newer_generation_costs_a_recycle_not_a_trade(kafka: str, topic: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.write(took.session, 1)
    blue.expect(Committed)
    intruder = Producer({"bootstrap.servers": kafka, "transactional.id": blue.settings.transactional_id})
    intruder.init_transactions(60)
    blue.write(took.session, 2)
    recycled = blue.expect(Recycled)
    assert recycled.reason == "fenced"
    assert recycled.state.positions["BTCUSDT"].last_id == 1
    blue.write(recycled.session, 2)
    blue.expect(Committed)
    assert trades(kafka, topic) == [1, 2]


def test_heartbeats_of_an_idle_writer_reach_a_follower(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue")
    blue.take_over()
    firsts: queue.Queue[ShardState] = queue.Queue()
    updates: queue.Queue[ShardStateUpdate] = queue.Queue()
    failures: list[BaseException] = []
    access = AuthBackoff(blue.settings)
    with PositionsFollower(
        blue.settings, on_first=firsts.put, on_update=updates.put, on_error=failures.append, access=access
    ):
        assert firsts.get(timeout=60).generation == 1
        seen = [updates.get(timeout=60).writer for _ in range(3)]
    assert not failures
    sequences = [writer.sequence for writer in seen if writer is not None]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3


def test_a_missing_topic_stops_instead_of_waiting_for_ever(kafka: str) -> None:
    from ingest.core.errors import Stop

    with pytest.raises(Stop, match="ingest topics"):
        topics.verify(settings_for(kafka, "blue", f"absent-{uuid.uuid4().hex[:6]}"))


def test_destroying_a_producer_in_the_middle_of_a_transaction_does_not_wait(kafka: str, topic: str, make: Make) -> None:
    settings = make(kafka, "blue").settings
    producer = TransactionalProducer(settings, interrupted=lambda: False, monotonic=time.monotonic)
    producer.init()
    producer._producer.begin_transaction()
    for number in range(20_000):
        producer._producer.produce(topic, b"x" * 200, str(number).encode())
    began = time.monotonic()
    producer.close()
    assert time.monotonic() - began < 8.0  # and not the ten that a message waits for its delivery
    assert read(kafka, topic) == []


@pytest.mark.timeout(900)
def test_a_broker_that_dies_and_comes_back_costs_nothing(own_kafka: KafkaBroker, topic: str, make: Make) -> None:
    blue = make(own_kafka.bootstrap_servers, "blue")
    took = blue.take_over()
    session, due = took.session, 1
    for _ in range(5):
        blue.write(session, due)
        blue.expect(Committed)
        due += 1
    own_kafka.kill()
    blue.write(session, due)
    time.sleep(1.0)
    own_kafka.start()
    deadline = time.monotonic() + 300
    while due < 12 and time.monotonic() < deadline:
        event = blue.events.get(timeout=120)
        if isinstance(event, Recycled):
            session, due = event.session, event.state.positions["BTCUSDT"].next_id
            blue.write(session, due)
        elif isinstance(event, Committed) and event.batch is not None and event.session == session:
            due += 1
            blue.write(session, due)
    assert due == 12
    blue.writer.close(DRAIN)
    assert trades(own_kafka.bootstrap_servers, topic)[:11] == list(range(1, 12))


@pytest.mark.timeout(900)
def test_a_broker_frozen_during_a_commit_costs_a_recycle_not_a_trade(
    own_kafka: KafkaBroker, topic: str, make: Make
) -> None:
    blue = make(own_kafka.bootstrap_servers, "blue", K2_KAFKA_SLOW_COMMIT_MS="300")
    session, due, recycles = blue.take_over().session, 1, 0
    blue.write(session, due)
    deadline = time.monotonic() + 400
    for turn in itertools.count():
        # Only some of the freezes hit a commit, others the delivery before it: go on until one did.
        freeze = threading.Timer(0.2 + 0.0013 * turn, own_kafka.pause)
        freeze.start()
        thaw_at = time.monotonic() + 1.2
        while time.monotonic() < thaw_at:
            with contextlib.suppress(queue.Empty):
                event = blue.events.get(timeout=0.01)
                if isinstance(event, Recycled):
                    session, due, recycles = event.session, event.state.positions["BTCUSDT"].next_id, recycles + 1
                    blue.write(session, due)
                elif isinstance(event, Committed) and event.batch is not None and event.session == session:
                    due += 1
                    blue.write(session, due)
        freeze.join()
        own_kafka.resume()
        if recycles >= 2 or time.monotonic() > deadline:
            break
    assert recycles >= 2
    blue.writer.close(DRAIN)
    found = trades(own_kafka.bootstrap_servers, topic)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= due - 1


@pytest.mark.timeout(900)
def test_what_is_queued_behind_a_failed_transaction_is_not_written_when_closing(
    own_kafka: KafkaBroker, topic: str, make: Make
) -> None:
    blue = make(own_kafka.bootstrap_servers, "blue")
    took = blue.take_over()
    blue.write(took.session, 1)
    blue.expect(Committed)
    own_kafka.kill()
    blue.write(took.session, 2)
    blue.write(took.session, 3)  # continues what will not have been written
    time.sleep(0.5)
    blue.writer.close(120.0)
    assert not blue.writer.is_alive()
    told = []
    with contextlib.suppress(queue.Empty):
        while True:
            told.append(blue.events.get_nowait())  # the thread has ended: nothing follows
    assert not [event for event in told if isinstance(event, Failed)]
    own_kafka.start()
    # What was committed a moment before the kill is finished by the broker when it comes back.
    deadline = time.monotonic() + 300
    while not (found := trades(own_kafka.bootstrap_servers, topic)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == [1]


def test_a_foreign_record_among_the_positions_costs_nothing(kafka: str, topic: str, make: Make) -> None:
    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.write(took.session, 1, 2)
    blue.expect(Committed)
    foreign = Producer({"bootstrap.servers": kafka})
    foreign.produce(f"{topic}.positions", b"world", b"hello", 0)
    foreign.produce(f"{topic}.positions", b'{"first_id":-10,"last_id":5,"count":1}', b"position:BTCUSDT", 0)
    assert foreign.flush(60) == 0
    green = make(kafka, "green")
    second = green.take_over()
    assert second.state.positions == {"BTCUSDT": Position(1, 2, 2)}
    assert second.state.invalid == 2
    green.write(second.session, 3)
    green.expect(Committed)
    assert trades(kafka, topic) == [1, 2, 3]
