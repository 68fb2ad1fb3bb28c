"""The chart's probes and termination rules as a kubelet applies them, on real processes and the real Kafka."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.helm import VALUES, Helm
from tests.harness.kafka import KafkaBroker
from tests.harness.kubelet import Kubelet
from tests.harness.processes import ServiceProcess, http_json
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(900)]

PATIENCE = 180.0
SHARDS = 2
"""Of the fleet."""
COMMIT_AGE = 5
"""Seconds; less than the default, so that the tests are shorter."""
OF_THE_STACK = ("K2_KAFKA_", "K2_BINANCE_", "K2_METRICS_", "K2_INSTANCE_ID", "K2_HTTP_")
"""Settings that the stack gives: where things are, and free ports."""


@pytest.fixture(scope="module")
def deployment(helm: Helm) -> Mapping[str, Any]:
    """The rendered Deployment of a single instance."""
    return next(one for one in helm.template(VALUES["single"]) if one["kind"] == "Deployment")


@pytest.fixture(scope="module")
def fleet(helm: Helm) -> Mapping[str, Any]:
    """The rendered StatefulSet of a fleet."""
    return next(one for one in helm.template(VALUES["fleet"]) if one["kind"] == "StatefulSet")


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The broker that a test has for itself, else the one that all share."""
    if "own_kafka" in request.fixturenames:
        broker: KafkaBroker = request.getfixturevalue("own_kafka")
        return broker.bootstrap_servers
    return str(request.getfixturevalue("kafka"))


@pytest.fixture
def stack(tmp_path: Path, bootstrap: str, schema_registry: Registry, request: pytest.FixtureRequest) -> Iterator[Stack]:
    shards = SHARDS if "fleet" in request.fixturenames else 1
    with Stack(
        tmp_path,
        bootstrap_servers=bootstrap,
        registry_url=schema_registry.url,
        simulator=("--symbols", "4", "--rate", "200"),
        settings={"K2_READY_MAX_COMMIT_AGE_SECONDS": f"{COMMIT_AGE}", "K2_SHARD_COUNT": f"{shards}"},
        topic=f"helm-{uuid.uuid4().hex[:8]}",
    ) as running:
        yield running


def started(workload: Mapping[str, Any], stack: Stack, name: str, **settings: str) -> Kubelet:
    """A pod of a rendered workload, with these settings in place of its own."""
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert int(given["K2_METRICS_PORT"]) == ports["status"]
    ours = {key: value for key, value in given.items() if not key.startswith(OF_THE_STACK)}
    process = stack.service(name, start=False, module=("ingest", *container["args"]), **{**ours, **settings})
    kubelet = Kubelet(spec, process)
    assert {probe.port for probe in kubelet.probes.values()} == {"status"}
    kubelet.start()
    return kubelet


@pytest.fixture
def pod(deployment: Mapping[str, Any], stack: Stack) -> Callable[[str], Kubelet]:
    """A pod of the Deployment by its name, started."""
    return lambda name: started(deployment, stack, name)


def role(process: ServiceProcess) -> str:
    return str(process.status()["role"])


def ready(kubelet: Kubelet) -> None:
    kubelet.until(lambda: kubelet.ready, f"{kubelet.process.name} ready", PATIENCE)


def whole(stack: Stack, writer: str) -> None:
    """Stop the market; everything that it made must be in Kafka, once."""
    stack.simulator.market("stop")
    stack.wait(lambda: stack.caught_up(writer), "the last trade")
    code, report = stack.audit()
    assert code == 0, json.dumps(report["totals"])


def test_an_update_replaces_a_pod_make_before_break_and_drains_within_the_grace_period(
    stack: Stack, pod: Callable[[str], Kubelet], deployment: Mapping[str, Any]
) -> None:
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    old = pod("old")
    ready(old)
    assert role(old.process) == "active"
    new = pod("new")
    ready(new)
    assert role(new.process) == "standby", "a warm standby is ready, so that the update goes on"
    new.watch(deployment["spec"]["minReadySeconds"])
    assert new.ready
    took = old.terminate()
    assert old.process.returncode == 0, old.process.tail()
    assert took < old.grace / 2
    gap = new.until(lambda: stack.writing("new"), "the successor", PATIENCE)
    assert gap < PATIENCE / 2, "the standby takes over by itself"
    whole(stack, "new")
    assert (old.restarts, new.restarts) == (0, 0), (old.events, new.events)
    for kubelet in (old, new):
        assert kubelet.seconds_to_start < kubelet.probes["startup"].budget / 2


def test_a_frozen_process_is_restarted_and_goes_on(stack: Stack, pod: Callable[[str], Kubelet]) -> None:
    kubelet = pod("frozen")
    ready(kubelet)
    kubelet.process.pause()
    liveness = kubelet.probes["liveness"]
    took = kubelet.until(lambda: kubelet.restarts > 0, "the restart", liveness.budget + kubelet.grace + PATIENCE)
    assert kubelet.events[-3:] == ["killed after the grace period", "liveness probe failed", "started"]
    assert took >= (liveness.failures - 1) * liveness.period + kubelet.grace, "not before the thresholds"
    ready(kubelet)
    assert role(kubelet.process) == "active"
    whole(stack, "frozen")
    assert kubelet.restarts == 1, kubelet.events


def test_a_broker_that_is_away_makes_the_pod_not_ready_and_restarts_nothing(
    stack: Stack, pod: Callable[[str], Kubelet], own_kafka: KafkaBroker
) -> None:
    kubelet = pod("patient")
    ready(kubelet)
    own_kafka.pause()
    longest = COMMIT_AGE + kubelet.probes["readiness"].budget
    kubelet.until(lambda: not kubelet.ready, "not ready", longest + PATIENCE)
    liveness = kubelet.probes["liveness"]
    kubelet.watch(liveness.period * (liveness.failures + 0.5))
    assert kubelet.restarts == 0, kubelet.events
    own_kafka.resume()
    ready(kubelet)
    own_kafka.pause()
    time.sleep(2)  # trades wait in memory, and a transaction is open
    took = kubelet.terminate()
    assert "killed after the grace period" not in kubelet.events, "it gives up before Kubernetes kills it"
    assert took < kubelet.grace
    own_kafka.resume()
    kubelet.start()
    ready(kubelet)
    whole(stack, "patient")


def recorded(process: ServiceProcess) -> dict[str, int]:
    """Symbol -> last id in Kafka, by the shards that an instance of a fleet writes."""
    found: dict[str, int] = {}
    for shard in range(SHARDS):
        with contextlib.suppress(OSError):  # no such child here
            symbols = http_json(f"{process.url}/shards/{shard}/status", timeout=5.0)["symbols"]
            found |= {name: one["last_id"] for name, one in symbols.items() if one["last_id"] is not None}
    return found


def test_an_instance_of_a_fleet_leaves_its_shards_to_another_within_the_grace_period(
    stack: Stack, fleet: Mapping[str, Any]
) -> None:
    both = [started(fleet, stack, f"fleet-{at}", K2_SHARD_COUNT=f"{SHARDS}") for at in range(2)]
    old, new = both
    for kubelet in both:
        ready(kubelet)
    new.until(lambda: len(new.process.status()["members"]) == len(both), "both in the group", PATIENCE)
    took = old.terminate()
    assert old.process.returncode == 0, old.process.tail()
    assert took < old.grace - 10, "it ends long before Kubernetes kills it"
    ready(new)
    stack.simulator.market("stop")
    heads = {symbol: one["last_id"] for symbol, one in stack.simulator.state()["symbols"].items()}
    new.until(lambda: recorded(new.process).items() >= heads.items(), "the last trade of every symbol", PATIENCE)
    assert (old.restarts, new.restarts) == (0, 0), (old.events, new.events)
    code, report = stack.audit()
    assert code == 0, json.dumps(report["totals"])
