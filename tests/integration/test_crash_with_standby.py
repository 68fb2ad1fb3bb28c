"""The writer's process is killed: the standby that watches it takes over long before its lease is over."""

import uuid
from pathlib import Path

import pytest

from tests.harness.kafka import free_ports
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

LEASE = 300.0
"""Longer than any wait of the test: what takes over before has seen the end of the process."""


def test_a_standby_takes_over_from_a_killed_and_from_a_stopped_writer(
    tmp_path: Path, kafka: str, schema_registry: Registry
) -> None:
    names = ("blue", "green")
    ports = dict(zip(names, free_ports(2), strict=True))
    settings = {
        "K2_PEERS": ",".join(f"http://127.0.0.1:{port}" for port in ports.values()),
        "K2_TAKEOVER_AFTER_SECONDS": str(LEASE),
    }
    with Stack(
        tmp_path,
        bootstrap_servers=kafka,
        registry_url=schema_registry.url,
        simulator=["--symbols", "5", "--rate", "200", "--seed", "4"],
        settings=settings,
        topic=f"crash-{uuid.uuid4().hex[:8]}.trades.binance",
    ) as stack:

        def watched() -> bool:
            services = stack.services.values()
            return all(one.alive and one.metrics().get("ingest_peers_connected") == 1 for one in services)

        blue = stack.service("blue", K2_METRICS_PORT=str(ports["blue"]))
        stack.wait(stack.writing, "blue as the writer")
        green = stack.service("green", K2_METRICS_PORT=str(ports["green"]))
        stack.wait(watched, "each instance watched by the other one")
        blue.kill()
        stack.wait(lambda: stack.writing("green"), "green as the writer", seconds=60)
        assert green.status()["peers"][f"http://127.0.0.1:{ports['green']}"] == {"127.0.0.1": "this instance"}
        blue.start()
        stack.wait(watched, "each instance watched by the other one")
        assert blue.status()["role"] == "standby"
        assert green.terminate() == 0
        stack.wait(stack.writing, "blue as the writer", seconds=60)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "everything in Kafka")
        assert blue.terminate() == 0
        code, report = stack.audit()
        assert code == 0, report["verdict"]
        assert report["totals"]["committed"] > 0
