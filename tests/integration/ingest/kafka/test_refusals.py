"""What the real Kafka refuses or delays again and again: a record, dead letters, a transaction that is too large."""

import logging
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from ingest.core.batch import Batch
from ingest.core.trade import DeadLetter
from ingest.kafka.events import Committed, Recycled
from ingest.kafka.producer import TransactionalProducer
from tests.harness import kafka_classes
from tests.harness.kafka import KafkaBroker, jars, java
from tests.integration.ingest.kafka.writing import Instance, Make, read, trades

pytestmark = pytest.mark.integration


def set_config(bootstrap: str, name: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})  # kept until the answer is here
    admin.incremental_alter_configs([resource])[resource].result(30)


def settle(instance: Instance, batch: Batch, session: int, seconds: float) -> int:
    """Write a batch as the service does, through recycles, until it is committed; returns the number of recycles."""
    instance.writer.write(session, batch)
    recycles, deadline = 0, time.monotonic() + seconds
    while True:
        event = instance.events.get(timeout=max(0.01, deadline - time.monotonic()))
        if isinstance(event, Recycled):
            recycles += 1
            stored = event.state.positions.get("BTCUSDT")
            due = stored.next_id if stored is not None else batch.records[0][1] if batch.records else 0
            rest = Batch(records=[r for r in batch.records if r[1] >= due], dead_letters=batch.dead_letters)
            if not rest:
                return recycles
            instance.writer.write(event.session, rest)
        elif isinstance(event, Committed) and event.batch is not None:
            return recycles


class Skewed:
    """A producer whose records have the time of a wrong clock."""

    ahead_ms = 2 * 3600 * 1000

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def produce(self, *arguments: Any, **named: Any) -> None:
        named["timestamp"] = time.time_ns() // 1_000_000 + Skewed.ahead_ms
        self._producer.produce(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    original = TransactionalProducer._make
    monkeypatch.setattr(TransactionalProducer, "_make", lambda self: Skewed(original(self)))
    yield
    monkeypatch.setattr(Skewed, "ahead_ms", 2 * 3600 * 1000)


def test_a_clock_two_hours_ahead_waits_names_the_reason_and_loses_nothing(
    kafka: str, topic: str, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, skewed: None
) -> None:
    del skewed
    blue = make(kafka, "blue", K2_KAFKA_HEARTBEAT_INTERVAL_MS="10000")
    for name in (topic, f"{topic}.positions", f"{topic}.dlq"):
        set_config(kafka, name, "message.timestamp.type", "CreateTime")
    monkeypatch.setattr(Skewed, "ahead_ms", 0)
    took = blue.take_over()
    monkeypatch.setattr(Skewed, "ahead_ms", 2 * 3600 * 1000)
    blue.writer.write(took.session, Batch(records=[("BTCUSDT", n, b"%d" % n) for n in (1, 2, 3)]))
    deadline, recycles, session = time.monotonic() + 5.0, 0, took.session
    while (left := deadline - time.monotonic()) > 0:
        try:
            event = blue.events.get(timeout=left)
        except Exception:  # noqa: BLE001  queue.Empty: the time is over
            break
        if isinstance(event, Recycled):
            recycles, session = recycles + 1, event.session
            blue.writer.write(session, Batch(records=[("BTCUSDT", n, b"%d" % n) for n in (1, 2, 3)]))
    assert 1 <= recycles <= 4, "a permanent refusal is retried with a growing pause"
    assert "INVALID_TIMESTAMP" in caplog.text
    assert "clock" in caplog.text
    monkeypatch.setattr(Skewed, "ahead_ms", 0)
    while not isinstance(event := blue.events.get(timeout=60), Committed):
        if isinstance(event, Recycled):
            blue.writer.write(event.session, Batch(records=[("BTCUSDT", n, b"%d" % n) for n in (1, 2, 3)]))
    assert trades(kafka, topic) == [1, 2, 3]


def test_dead_letters_that_their_topic_refuses_do_not_hold_up_trades(
    kafka: str, topic: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    blue = make(kafka, "blue")
    set_config(kafka, f"{topic}.dlq", "cleanup.policy", "compact")  # which refuses a record without a key
    took = blue.take_over()
    letters = [DeadLetter("malformed_json", "ws", b"{")]
    batch = Batch(records=[("BTCUSDT", n, b"%d" % n) for n in (1, 2)], dead_letters=letters)
    assert settle(blue, batch, took.session, 60.0) == 0
    assert trades(kafka, topic) == [1, 2]
    wait_for_dropped(blue, 1)
    assert f"{topic}.dlq does not take them: INVALID_RECORD" in caplog.text


def limit_rate(broker: KafkaBroker, client: str, rate: int, folder: Path) -> None:
    """Set a producer quota with Kafka's own tool: no client library can."""
    command = [
        java(), *kafka_classes.options(java(), jars()), f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp", f"{jars()}/*", "kafka.admin.ConfigCommand", "--bootstrap-server", broker.bootstrap_servers, "--alter",
        "--add-config", f"producer_byte_rate={rate}", "--entity-type", "clients", "--entity-name", client,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    time.sleep(3.0)  # the broker applies it a moment later, and no request shows whether it has


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_that_a_quota_makes_too_slow_shrinks_until_it_fits(tmp_path: Path, topic: str, make: Make) -> None:
    """A broker answers the first request above the rate, and then leaves the connection alone for a long time.

    So the rest of that transaction times out, and its successor makes the delay longer still.
    """
    rate, size, symbols = 20_000, 1000, 4
    with KafkaBroker(tmp_path / "kafka") as broker:
        blue = make(broker.bootstrap_servers, "blue", K2_KAFKA_OPTION_COMPRESSION_TYPE="none")
        session = blue.take_over().session
        limit_rate(broker, "k2-ingest-blue-writer", rate, broker.directory)
        value = uuid.uuid4().bytes * (size // 16)
        names = [f"S{n}USDT" for n in range(symbols)]
        due, last, recycles = dict.fromkeys(names, 1), rate * 60 // size // symbols, 0
        while min(due.values()) <= last:
            records = [(name, n, b"%d " % n + value) for name in names for n in range(due[name], last + 1)]
            blue.writer.write(session, Batch(records=records))
            event = blue.expect_any(Committed, Recycled, seconds=240.0)
            if isinstance(event, Recycled):
                session, recycles = event.session, recycles + 1
                due |= {name: position.next_id for name, position in event.state.positions.items()}
            elif isinstance(event, Committed):
                due |= {name: last_id + 1 for name, last_id in event.last_ids.items()}
        assert 1 <= recycles <= 12
        found = [int((value or b"").partition(b" ")[0]) for _, value in read(broker.bootstrap_servers, topic)]
        assert sorted(found) == sorted(list(range(1, last + 1)) * symbols)


def test_dead_letters_larger_than_their_topic_takes_do_not_hold_up_trades(kafka: str, topic: str, make: Make) -> None:
    blue = make(kafka, "blue")
    set_config(kafka, f"{topic}.dlq", "max.message.bytes", "10")
    took = blue.take_over()
    letters = [DeadLetter("malformed_json", "ws", b"x" * 154) for _ in range(4)]
    batch = Batch(records=[("BTCUSDT", n, b"%d" % n) for n in (1, 2)], dead_letters=letters)
    assert settle(blue, batch, took.session, 60.0) == 0
    assert trades(kafka, topic) == [1, 2]
    wait_for_dropped(blue, 4)


def test_a_dead_letter_is_cut_to_what_its_topic_takes(kafka: str, topic: str, make: Make) -> None:
    blue = make(kafka, "blue")
    set_config(kafka, f"{topic}.dlq", "max.message.bytes", "300")
    took = blue.take_over()
    letters = [DeadLetter("malformed_json", "ws", b"0123456789" * 200, symbol="BTCUSDT") for _ in range(2)]
    assert settle(blue, Batch(dead_letters=letters), took.session, 60.0) == 0
    deadline = time.monotonic() + 60.0
    while len(found := read(kafka, f"{topic}.dlq", 1)) < 2:
        assert time.monotonic() < deadline
    assert all(value and (b"0123456789" * 200).startswith(value) for _, value in found)


def wait_for_dropped(instance: Instance, number: int) -> None:
    deadline = time.monotonic() + 60.0
    while instance.metrics.registry.get_sample_value("ingest_dead_letters_dropped_total") != number:
        assert time.monotonic() < deadline
        time.sleep(0.05)
