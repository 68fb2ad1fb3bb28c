"""``ingest check --connect`` on the real parts: what it says is what a service would meet."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from ingest.kafka.layout_guard import in_each_partition
from ingest.kafka.position_records import LayoutRecord
from tests.harness.processes import ROOT, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def check(settings: dict[str, str], **changed: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "check", "--connect", "--json"],
        env=inherited() | settings | changed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    return done.returncode, {one["what"].partition(" http")[0].partition(" ws")[0]: one for one in found["connections"]}


def test_every_connection_is_tried(kafka: str, schema_registry: Registry, tmp_path: Path) -> None:
    with Stack(
        tmp_path, bootstrap_servers=kafka, registry_url=schema_registry.url, simulator=("--symbols", "BTC/USDT"),
        topic=f"t-{uuid4().hex[:8]}",
    ) as stack:  # fmt: skip
        code, found = check(stack.settings())
        assert code == 0, found
        assert {one["state"] for one in found.values()} == {"ok"}
        assert set(found) == {
            "Kafka's topics",
            "positions",
            "Kafka's transactions",
            "schema registry",
            "K2_METRICS_HOST",
            "K2_CONTROL_HOST",
            "symbols",
            "REST",
            "WebSocket",
        }

        producer = Producer({"bootstrap.servers": kafka})
        layout = LayoutRecord(1, "stable", 1, "host-1", 0, 6)
        for topic, key, value, partition in in_each_partition(layout, f"{stack.topic}.positions"):
            producer.produce(topic, value, key, partition=partition)
        producer.flush(30)
        assert check(stack.settings())[1]["positions"]["state"] == "ok"
        code, found = check(stack.settings(), K2_SHARD_COUNT="2")
        assert (code, found["positions"]["state"]) == (3, "wrong")
        for word in ("has 1 shards", "K2_SHARD_COUNT is 2", "ingest reshard --to 2"):
            assert word in found["positions"]["detail"]

        producer.produce(f"{stack.topic}.positions", b'{"v":2,"generation":7}', b"writer", partition=0)
        producer.flush(30)
        code, found = check(stack.settings())
        assert (code, found["positions"]["state"]) == (3, "wrong")
        for word in ("`writer` at offset 1", "generation 7", "ingest positions rebuild --replace"):
            assert word in found["positions"]["detail"]

        code, found = check(stack.settings(), K2_KAFKA_TOPIC="no-such-topic", K2_BINANCE_SYMBOLS="BTCUSDT,NOPEUSDT")
        assert code == 3
        assert "ingest topics" in found["Kafka's topics"]["detail"]
        assert "NOPEUSDT" in found["symbols"]["detail"]

        stack.simulator.fault("clock_skew", ms=60_000)
        code, found = check(stack.settings())
        assert code == 3
        assert "60" in found["REST"]["detail"]
        assert "behind" in found["REST"]["detail"]

        code, found = check(stack.settings(), K2_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
        assert found["Kafka's topics"]["state"] == "no answer"
