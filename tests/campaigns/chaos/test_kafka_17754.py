"""KAFKA-17754 on the real broker: a commit that comes late ends the next transaction, unless the producer is replaced.

The proxy holds one EndTxn and cuts the connection; librdkafka sends it again and is told that all is well. The writer
begins its next transaction, the held commit is let go, and the half of a transaction that was there by then is
committed. The other half fails, the writer reads the positions, which do not know of that half, and writes it again.
"""

import os
import queue
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest.core.batch import Batch
from ingest.kafka import topics
from ingest.kafka.events import Committed, Recycled, TookOver, WriterEvent
from ingest.kafka.producer import Message, TransactionalProducer
from ingest.kafka.writer_thread import WriterThread
from ingest.metrics import Metrics
from ingest.settings import Settings, load
from tests.campaigns.chaos.mutants import Applied
from tests.harness.kafka import KafkaBroker, KafkaUnavailable, free_ports
from tests.harness.proxy import END_TXN, KafkaProxy

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaBroker, KafkaProxy]]:
    proxy = KafkaProxy(free_ports(1)[0])
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), proxied=proxy.port)
    try:
        broker.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    assert broker.proxied_port is not None
    proxy.target = broker.proxied_port
    try:
        with proxy:
            yield broker, proxy
    finally:
        broker.stop()


def records(bootstrap: str, topic: str) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": True,
            "auto.offset.reset": "earliest", "isolation.level": "read_committed",
        }
    )  # fmt: skip
    found: list[bytes] = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = consumer.poll(60)
            assert message is not None
            error = message.error()
            if error is None:
                found.append(message.value() or b"")
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                return found
    finally:
        consumer.close()


class Session:
    """A writer behind the proxy, and a transaction that stops half-way until it is told to go on."""

    def __init__(self, settings: Settings, proxy: KafkaProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: queue.Queue[WriterEvent] = queue.Queue()
        self.writer = WriterThread(settings, Metrics(process=False), self.events.put)
        self.halve = False
        original = TransactionalProducer._produce
        session = self

        def produce(self: TransactionalProducer, messages: Iterator[Message]) -> None:
            """Deliver what comes before the positions, let the held commit go, then deliver the rest."""
            if not session.halve:
                original(self, messages)
                return
            session.halve = False
            parts = list(messages)
            trades = [message for message in parts if message[0] == settings.kafka.topic]
            original(self, trades)
            assert self._producer.flush(60) == 0
            assert proxy.release() == 1
            time.sleep(3.0)  # so that it has reached the broker
            original(self, [message for message in parts if message[0] != settings.kafka.topic])
            original(self, trades[:1])  # what the writer would send next fails: its transaction is over
            self._producer.flush(60)
            raise_abort()

        monkeypatch.setattr(TransactionalProducer, "_produce", produce)
        self.writer.start()

    def expect(self, *kinds: type[object], seconds: float = 120.0) -> WriterEvent:
        deadline = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, kinds) and not (isinstance(event, Committed) and event.batch is None):
                return event


def raise_abort() -> None:
    """The transaction cannot be finished."""
    from ingest.core.errors import Recycle

    raise Recycle("abort", "the transaction is over")


def five(first: int) -> Batch:
    return Batch(records=[("BTCUSDT", number, b"%d" % number) for number in range(first, first + 5)])


@pytest.mark.parametrize("rule", [True, False], ids=["with the rule", "without the rule"])
def test_a_held_commit(proxied: tuple[KafkaBroker, KafkaProxy], rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, proxy = proxied
    topic = f"t-{uuid.uuid4().hex[:8]}"
    settings = load(
        {
            "K2_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{proxy.port}",
            "K2_KAFKA_TOPIC": topic,
            "K2_INSTANCE_ID": "blue",
            "K2_KAFKA_HEARTBEAT_INTERVAL_MS": "10000",
        }
    )
    topics.create(settings, partitions=1, replication_factor=1)
    with nullcontext() if rule else Applied("no-recycle"):
        session = Session(settings, proxy, monkeypatch)
        session.writer.take_over(None)
        took_over = session.expect(TookOver)
        assert isinstance(took_over, TookOver)
        proxy.hold(END_TXN)
        session.writer.write(took_over.session, five(1))
        assert proxy.holding.wait(60)
        session.expect(Committed)
        if rule:
            recycled = session.expect(Recycled)
            assert isinstance(recycled, Recycled)
            number = recycled.session
        else:
            number = took_over.session
        session.halve = True
        session.writer.write(number, five(6))
        recycled = session.expect(Recycled)
        assert isinstance(recycled, Recycled)
        stored = recycled.state.positions["BTCUSDT"].last_id
        session.writer.write(recycled.session, five(stored + 1))  # as the outbox would: behind the stored position
        session.expect(Committed)
        session.writer.close(60)
    found = [int(value) for value in records(broker.bootstrap_servers, topic)]
    duplicates = len(found) - len(set(found))
    assert set(found) == set(range(1, 11))
    assert duplicates == (0 if rule else 5), found
