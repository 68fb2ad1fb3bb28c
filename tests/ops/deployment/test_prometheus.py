"""What the gates ask, answered by the real Prometheus that scrapes a service's declared metrics."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import start_http_server

from ingest.metrics import Metrics
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.gate_evaluation import evaluate
from ingest_ops.deployment.gates import GATES, gates_of
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.prometheus import NoAnswer, Prometheus
from ingest_ops.deployment.state_machine import State
from tests.support import prometheus as real

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PLAN = parse({"version": "v2", "scrape_seconds": 0.5, "min_rate": 1, "min_compared": 100, "min_coverage": 0.5})
OUTSIDE = {"G1a"}
"""What the agent exposes, not the service."""


@pytest.fixture
def metrics() -> Iterator[tuple[Metrics, str]]:
    """The service's own registry behind a port."""
    made = Metrics()
    made.healthy.set(1)
    made.writer_active.set(1)
    made.handover_seconds.set(0.2)
    made.shadow_compared.inc(5000)
    server, thread = start_http_server(0, "127.0.0.1", registry=made.registry)
    yield made, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def prometheus(tmp_path: Path, metrics: tuple[Metrics, str]) -> Iterator[Prometheus]:
    try:
        with real.Prometheus(tmp_path, {metrics[1]: {"slot": "green"}}, scrape_seconds=0.5) as running:
            yield Prometheus(running.url)
    except real.PrometheusUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def now() -> float:
    return time.time_ns() / 1e9


def feed(made: Metrics, seconds: float) -> None:
    """Messages arrive for a while."""
    until = now() + seconds
    while now() < until:
        made.received.inc(20)
        time.sleep(0.1)


def test_every_gate_finds_its_series_among_those_that_the_service_has(
    prometheus: Prometheus, metrics: tuple[Metrics, str]
) -> None:
    made, _ = metrics
    until = now() + 300
    while not prometheus.value('up{slot="green"} == 1', now()):
        assert now() < until
        time.sleep(0.1)
    start = now()
    feed(made, 8)
    end = now()
    for gate in GATES:
        found = evaluate(gate, PLAN, "green", start, end, prometheus)
        expected = Verdict.INCONCLUSIVE if gate.id in OUTSIDE else Verdict.PASS
        assert found.verdict is expected, found
        if expected is Verdict.PASS:
            assert all(start <= at <= end for at, _ in found.samples)
            assert 0 < len(found.samples) <= found.expected + 1

    made.log_events.labels("ERROR").inc()
    made.shadow_mismatch.inc()
    made.healthy.set(0)
    while not prometheus.value('ingest_healthy{slot="green"} == 0', now()):
        feed(made, 0.5)
    verdicts = {
        gate.id: evaluate(gate, PLAN, "green", start, now(), prometheus).verdict for gate in gates_of(State.SHADOW)
    }
    assert [name for name, verdict in verdicts.items() if verdict is Verdict.FAIL] == ["G2", "G6", "G7a"]
    assert evaluate(GATES[2], PLAN, "blue", start, now(), prometheus).verdict is Verdict.INCONCLUSIVE


def test_what_prometheus_refuses_and_nobody_answers_is_no_verdict(prometheus: Prometheus) -> None:
    with pytest.raises(NoAnswer, match="400"):
        prometheus.value("this is no query(", now())
    with pytest.raises(NoAnswer):
        Prometheus("http://127.0.0.1:9").value("up", now())
