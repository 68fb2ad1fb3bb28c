"""Two shards of one topic, as two processes on the real Kafka: one is killed, symbols are listed, ids are lost."""

import io
import json
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition

from ingest.binance.symbols import shard_of
from ingest.kafka.schemas import void_schema
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NAMES = ("shard0", "shard1")
LISTED = "币安人生USDT"
LOST = 3
PATIENCE = 180.0
"""For conditions that take a second on an idle machine."""


def owner(symbol: str) -> str:
    return NAMES[shard_of(symbol, len(NAMES))]


def recorded(stack: Stack) -> list[set[str]]:
    return [set(stack.committed(name)) for name in NAMES]


def published(stack: Stack) -> list[dict[str, Any]]:
    """What the topic of voids holds."""
    schema = fastavro.parse_schema(json.loads(void_schema()))
    consumer = Consumer(
        {
            "bootstrap.servers": stack.bootstrap_servers,
            "group.id": "voids",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    found: dict[bytes, Any] = {}
    consumer.assign([TopicPartition(f"{stack.topic}.voids", 0, 0)])
    while (message := consumer.poll(10)) is not None and message.error() is None:
        found[message.key() or b""] = fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[5:]), schema, None)
    consumer.close()
    return list(found.values())


def test_two_shards_record_every_symbol_once_and_publish_their_voids(
    tmp_path: Path, kafka: str, schema_registry: Registry
) -> None:
    with Stack(
        tmp_path,
        bootstrap_servers=kafka,
        registry_url=schema_registry.url,
        simulator=("--symbols", "8", "--rate", "200"),
        settings={
            "K2_SHARD_COUNT": str(len(NAMES)),
            "K2_BINANCE_SYMBOL_REFRESH_SECONDS": "1",
            "K2_BINANCE_VOID_CONFIRM_SECONDS": "3",
        },
        topic=f"shards-{uuid.uuid4().hex[:8]}",
    ) as stack:
        for index, name in enumerate(NAMES):
            stack.service(name, K2_SHARD_INDEX=str(index))
        wait = partial(stack.wait, seconds=PATIENCE)
        wait(lambda: len(set.union(*recorded(stack))) == 8, "every symbol in Kafka")
        stack.simulator.fault("list_symbol", symbol=LISTED)
        wait(lambda: LISTED in stack.committed(owner(LISTED)), f"{LISTED} in Kafka")
        stack.services[NAMES[1]].kill()
        for name in NAMES:  # one while its shard records, one while nothing does
            symbol = next(one for one in stack.simulator.state()["symbols"] if owner(one) == name)
            stack.simulator.fault("void", symbol=symbol, count=LOST)
        stack.services[NAMES[1]].start()
        wait(lambda: len(published(stack)) == len(NAMES), "the voids in their own topic")
        stack.simulator.market("stop")
        for name in NAMES:
            wait(partial(stack.caught_up, name), f"the last trade of {name}")
        first, second = recorded(stack)
        assert first.isdisjoint(second), "a symbol is recorded by two shards"
        assert first | second == set(stack.simulator.state()["symbols"])
        code, audit = stack.audit()
        assert code == 0, json.dumps(audit["totals"])
        assert audit["totals"]["voids"] == len(NAMES) * LOST
        assert {owner(one["symbol"]) for one in published(stack)} == set(NAMES)
        assert {one["last_id"] - one["first_id"] + 1 for one in published(stack)} == {LOST}
