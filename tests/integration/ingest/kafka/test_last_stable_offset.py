"""Whether readers of committed records get on: the judgement alone, and a transaction that hangs on the real Kafka."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from prometheus_client import generate_latest

from ingest.kafka import topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.last_stable_offset import STUCK_SECONDS, Offsets, Partition, StableOffsetWatch, StuckOffsets
from ingest.metrics import Metrics
from ingest.settings import Settings, load
from tests.integration.ingest.kafka.writing import Make, trades

A, B = ("t", 0), ("t", 1)


def standing(*looks: tuple[float, dict[Partition, Offsets]]) -> dict[Partition, float]:
    judge, ages = StuckOffsets(), {}
    for now, offsets in looks:
        ages = judge.seen(offsets, now)
    return ages


def test_a_partition_that_moves_does_not_stand_however_much_is_open() -> None:
    looks = [(10.0 * n, {A: Offsets(100 * n, 100 * n + 50)}) for n in range(20)]
    assert standing(*looks) == {A: 0.0}


def test_the_same_open_transaction_gets_older_while_the_log_grows() -> None:
    looks = [(10.0 * n, {A: Offsets(7, 8 + n), B: Offsets(n, n)}) for n in range(4)]
    assert standing(*looks) == {A: 30.0, B: 0.0}


def test_where_everything_is_committed_nothing_stands() -> None:
    assert standing((0.0, {A: Offsets(7, 9)}), (50.0, {A: Offsets(9, 9)}), (99.0, {A: Offsets(9, 9)})) == {A: 0.0}


def test_another_transaction_at_another_offset_begins_anew() -> None:
    assert standing((0.0, {A: Offsets(7, 9)}), (50.0, {A: Offsets(9, 12)}), (60.0, {A: Offsets(9, 12)})) == {A: 10.0}


def watching(settings: Settings, metrics: Metrics, **options: Any) -> StableOffsetWatch:
    return StableOffsetWatch(settings, metrics, access=AuthBackoff(settings), **options)


class Asked:
    """What the broker would say, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.offsets: dict[Partition, Offsets] | None = {}
        self.metrics = Metrics(process=False)
        self.watch = watching(
            load({"K2_KAFKA_BOOTSTRAP_SERVERS": "nowhere:1"}),
            self.metrics,
            ask=self._answer,
            monotonic=lambda: self.now,
        )

    def _answer(self) -> dict[Partition, Offsets]:
        if self.offsets is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self.offsets

    def look(self, offsets: dict[Partition, Offsets] | None, after: float = 0.0) -> None:
        self.now += after
        self.offsets = offsets
        self.watch.look()

    def shown(self, partition: str) -> float | None:
        return self.metrics.registry.get_sample_value("ingest_stable_offset_stuck_seconds", {"partition": partition})


def test_a_standing_partition_is_shown_told_once_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    asked.look({A: Offsets(7, 9), B: Offsets(3, 3)})
    assert (asked.shown("t-0"), asked.shown("t-1"), asked.watch.stuck) == (0.0, 0.0, {})
    asked.look({A: Offsets(7, 20), B: Offsets(3, 3)}, after=STUCK_SECONDS + 1)
    asked.look({A: Offsets(7, 30), B: Offsets(3, 3)}, after=1)
    assert (asked.shown("t-0"), asked.shown("t-1")) == (STUCK_SECONDS + 2, 0.0)
    assert asked.watch.stuck == {"t-0": STUCK_SECONDS + 2}
    assert len([record for record in caplog.records if "IngestReadersBlocked" in record.message]) == 1
    asked.look({A: Offsets(31, 31), B: Offsets(3, 3)}, after=1)
    assert (asked.shown("t-0"), asked.watch.stuck) == (0.0, {})
    assert "get on in t-0" in caplog.text


def test_a_broker_that_is_away_ends_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    asked.look({A: Offsets(7, 9)})
    asked.look(None, after=40)
    asked.look(None, after=40)
    assert len(caplog.records) == 1
    asked.look({A: Offsets(7, 9)}, after=1)
    assert asked.watch.stuck == {"t-0": 81.0}
    assert asked.metrics.registry.get_sample_value("ingest_stable_offset_checks_total") == 2


def test_a_partition_that_is_gone_is_not_shown_any_more() -> None:
    asked = Asked()
    asked.look({A: Offsets(7, 9), B: Offsets(3, 3)})
    asked.look({B: Offsets(3, 3)}, after=1)
    assert asked.shown("t-0") is None
    assert asked.shown("t-1") == 0.0


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


class Watched:
    """A watch on the real broker whose clock the test turns."""

    def __init__(self, settings: Settings) -> None:
        self.now = 0.0
        self.metrics = Metrics(process=False)
        self.watch = watching(settings, self.metrics, monotonic=lambda: self.now)

    def look(self, after: float = 0.0) -> dict[str, float]:
        self.now += after
        before = self.metrics.registry.get_sample_value("ingest_stable_offset_checks_total")
        deadline = time.monotonic() + 50
        while self.metrics.registry.get_sample_value("ingest_stable_offset_checks_total") == before:
            assert time.monotonic() < deadline
            self.watch.look()
        return self.watch.stuck


@pytest.fixture
def hanging(kafka: str) -> Iterator[Producer]:
    """A stranger whose transaction nobody ends."""
    stranger = Producer(
        {"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 600_000}
    )
    stranger.init_transactions(30)
    stranger.begin_transaction()
    yield stranger
    stranger.purge()


@pytest.mark.integration
def test_a_transaction_that_hangs_is_seen_while_the_writer_commits_on(
    kafka: str,
    topic: str,
    make: Make,
    hanging: Producer,
) -> None:
    from ingest.kafka.events import Committed

    blue = make(kafka, "blue")
    took = blue.take_over()
    blue.write(took.session, 1)
    blue.expect(Committed)
    watched = Watched(blue.settings)
    partition = next(n for n in (0, 1) if _end(watched, topic, n) > 0)  # where the key of our symbol leads
    hanging.produce(topic, b"never ended", b"stranger", partition)
    assert hanging.flush(30) == 0
    blue.write(took.session, 2)
    blue.expect(Committed)
    place = f"{topic}-{partition}"
    assert watched.look() == {}
    blue.write(took.session, 3)
    blue.expect(Committed)
    assert watched.look(after=STUCK_SECONDS + 1) == {place: STUCK_SECONDS + 1}
    line = f'ingest_stable_offset_stuck_seconds{{partition="{place}"}} {STUCK_SECONDS + 1}'
    assert line in generate_latest(watched.metrics.registry).decode()
    assert trades(kafka, topic) == [1]  # what it is all about: readers see nothing of what was committed since
    hanging.abort_transaction(30)
    deadline = time.monotonic() + 50
    while watched.look(after=1):
        assert time.monotonic() < deadline
    assert trades(kafka, topic) == [1, 2, 3]


def _end(watched: Watched, topic: str, partition: int) -> int:
    return watched.watch._from_broker()[topic, partition].end


@pytest.mark.integration
def test_closing_does_not_wait_for_a_broker_that_is_away() -> None:
    watch = watching(load({"K2_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}), Metrics(process=False))
    watch.start()
    watch.close(0.1)
    watch.join(50)
    assert not watch.is_alive()


@pytest.mark.integration
def test_topics_that_are_missing_are_no_crash(kafka: str, topic: str) -> None:
    settings = load({"K2_KAFKA_BOOTSTRAP_SERVERS": kafka, "K2_KAFKA_TOPIC": topic})
    watch = watching(settings, metrics := Metrics(process=False))
    watch.look()
    assert metrics.registry.get_sample_value("ingest_stable_offset_checks_total") == 0
    topics.create(settings, partitions=1, replication_factor=1)
    deadline = time.monotonic() + 50
    while metrics.registry.get_sample_value("ingest_stable_offset_checks_total") == 0:
        assert time.monotonic() < deadline
        watch.look()
    assert watch.stuck == {}
