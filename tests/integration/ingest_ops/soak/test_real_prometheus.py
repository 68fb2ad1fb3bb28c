"""The engine on the real Prometheus: raw scrapes, none invented, none lost over a restart of either side."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx2
import pytest
from prometheus_client import make_wsgi_app

from ingest.metrics import Metrics
from ingest_ops.soak.engine import Engine
from ingest_ops.soak.plan import SOAK_3MIN
from ingest_ops.soak.record import CANDIDATE, State
from ingest_ops.soak.sources import PrometheusSource, SourceError
from tests.harness.prometheus import Prometheus, PrometheusUnavailable

PLAN = replace(SOAK_3MIN, run_seconds=40.0, required_seconds=40.0, sample_seconds=2.0)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[tuple[str, Metrics]]:
    metrics = Metrics()
    metrics.build.info({"version": "1.2.3", "revision": "abc"})
    with make_server("127.0.0.1", 0, make_wsgi_app(metrics.registry), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", metrics
        server.shutdown()
        thread.join(10)


@pytest.fixture
def prometheus(exporter: tuple[str, Metrics], tmp_path: Path) -> Iterator[Prometheus]:
    try:
        with Prometheus(tmp_path / "prometheus", {exporter[0]: {"slot": "blue"}}, scrape_seconds=0.5) as server:
            yield server
    except PrometheusUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def clock() -> float:
    return time.time_ns() / 1e9


def test_a_soak_is_read_from_raw_scrapes_and_survives_a_restart_of_prometheus(
    exporter: tuple[str, Metrics], prometheus: Prometheus, tmp_path: Path
) -> None:
    with httpx2.Client(timeout=30.0, trust_env=False) as client:
        source = PrometheusSource(prometheus.url, 'slot="blue"', client=client)
        while not source.read(clock() - 30.0, clock()):
            time.sleep(0.2)
        assert source.build()["version"] == "1.2.3"
        path = tmp_path / "record.json"
        engine = Engine.start(path, "soak-test", PLAN, {CANDIDATE: source}, clock=clock)
        ticks = 0
        while engine.tick() is State.RUNNING:
            exporter[1].received.inc(100)
            ticks += 1
            if ticks == 5:
                prometheus.stop()
                with pytest.raises(SourceError):
                    source.read(clock() - 5.0, clock())
                prometheus.start()
            time.sleep(0.5)
    record = engine.record
    # On a slow machine the restart may cost scrapes; what was scraped is there once, in order, and nothing else.
    at = [one.at for one in record.samples]
    assert at == sorted(set(at))
    assert len(record.samples) >= 5
    assert all(one.values["received"] % 100 == 0 for one in record.samples)
    assert record.environment[CANDIDATE]["build"]["revision"] == "abc"


def test_what_is_not_scraped_any_more_is_not_carried_forward(
    exporter: tuple[str, Metrics], prometheus: Prometheus
) -> None:
    del exporter
    with httpx2.Client(timeout=30.0, trust_env=False) as client:
        source = PrometheusSource(prometheus.url, 'slot="blue"', client=client)
        while not (found := source.read(clock() - 30.0, clock())):
            time.sleep(0.2)
        last = found[-1].at
        prometheus.stop()
        prometheus._targets = {"http://127.0.0.1:9": {"slot": "blue"}}
        prometheus.start()
        time.sleep(3.0)
        later = source.read(clock() - 2.0, clock())
        assert later == []
        assert source.read(last - 1.0, clock())[0].complete
