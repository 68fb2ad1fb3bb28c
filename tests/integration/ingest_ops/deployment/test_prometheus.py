"""What the gates ask, answered by the real Prometheus that scrapes a service's declared metrics."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import start_http_server

from ingest.metrics import Metrics
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.gate_evaluation import evaluate
from ingest_ops.deployment.gate_inputs import Scope
from ingest_ops.deployment.gates import GATES, gates_of
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.prometheus import NoAnswer, Prometheus
from ingest_ops.deployment.state_machine import State
from tests.harness import prometheus as real

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PLAN = parse(
    {
        "version": "v2",
        "scrape_seconds": 0.5,
        "min_rate": 1,
        "min_compared": 100,
        "min_coverage": 0.5,
        "max_growth_mb": 64,
        "max_memory_mb": 8192,  # that of this process of pytest, with whatever ran in it before
    }
)
OUTSIDE = {"G1a", "H1", "C7"}
"""What the agent exposes, what needs two slots, and what needs commits at a pace."""


@pytest.fixture
def metrics() -> Iterator[tuple[Metrics, str]]:
    """The service's own registry behind a port."""
    made = Metrics(symbols=["BTCUSDT"])
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


@contextmanager
def fed(made: Metrics) -> Iterator[None]:
    """Messages arrive all the time."""
    over = threading.Event()

    def feed() -> None:
        while not over.wait(0.1):
            made.received.inc(20)
            made.messages_received.labels("BTCUSDT").inc(20)
            made.trades_committed.labels("BTCUSDT").inc(20)
            made.shadow_compared.inc(20)
            made.latency.observe(0.1)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_every_gate_finds_its_series_among_those_that_the_service_has(
    prometheus: Prometheus, metrics: tuple[Metrics, str]
) -> None:
    made, _ = metrics
    with fed(made):
        _all_gates(prometheus, made)


def _all_gates(prometheus: Prometheus, made: Metrics) -> None:
    until = now() + 300
    while not prometheus.value('up{slot="green"} == 1', now()):
        assert now() < until
        time.sleep(0.1)
    start = now()
    time.sleep(8)
    end = now()

    def scope(until: float) -> Scope:
        # The comparisons hold the candidate against itself here: what counts is that each series is there.
        return Scope(
            plan=PLAN, candidate="green", live="green", start=start, end=until, baseline=(start, until),
            symbols=frozenset({"BTCUSDT"}),
        )  # fmt: skip

    for gate in GATES:
        found = evaluate(gate, scope(end), prometheus)
        assert found.verdict is not Verdict.FAIL or gate.id == "H1", found
        if gate.id not in OUTSIDE:
            assert found.verdict is Verdict.PASS, found
            assert all(start <= at <= end for at, _ in found.samples)
            assert 0 < len(found.samples) <= found.expected + 1

    made.log_events.labels("ERROR").inc()
    made.shadow_mismatch.inc()
    made.healthy.set(0)
    while not prometheus.value('ingest_healthy{slot="green"} == 0', now()):
        time.sleep(0.5)
    verdicts = {gate.id: evaluate(gate, scope(now()), prometheus).verdict for gate in gates_of(State.SHADOW)}
    assert [name for name, verdict in verdicts.items() if verdict is Verdict.FAIL] == ["G2", "G6", "G7a"]
    assert evaluate(GATES[2], replace(scope(now()), candidate="blue"), prometheus).verdict is Verdict.INCONCLUSIVE


def test_what_prometheus_refuses_and_nobody_answers_is_no_verdict(prometheus: Prometheus) -> None:
    with pytest.raises(NoAnswer, match="400"):
        prometheus.value("this is no query(", now())
    with pytest.raises(NoAnswer):
        Prometheus("http://127.0.0.1:9").value("up", now())
