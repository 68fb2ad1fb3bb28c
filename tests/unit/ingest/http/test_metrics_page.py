"""The page of metrics of auditor and exporter."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Gauge

from ingest.http.limits import Limits
from ingest.http.metrics_page import metrics_server
from tests.harness.processes import ROOT


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    registry = CollectorRegistry()
    Gauge("seen", "A figure.", registry=registry).set(3)
    with metrics_server("metrics", "127.0.0.1", 0, registry) as server:
        parts = urlsplit(server.url)
        yield str(parts.hostname), int(parts.port or 0)


def ask(address: tuple[str, int], method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_figures_are_served_and_nothing_else(address: tuple[str, int]) -> None:
    status, text = ask(address, "GET", "/metrics")
    assert status == 200
    assert "seen 3.0" in text
    assert ask(address, "GET", "/other")[0] == 404
    assert ask(address, "POST", "/metrics")[0] == 405


def test_a_foreign_host_or_origin_is_refused(address: tuple[str, int]) -> None:
    assert ask(address, "GET", "/metrics", Host="evil.example")[0] == 421
    assert ask(address, "GET", "/metrics", Origin="http://evil.example")[0] == 403


def test_idle_connections_cost_no_thread_and_keep_nobody_out(address: tuple[str, int]) -> None:
    """The server of prometheus_client began a thread for each."""
    before = threading.active_count()
    idle = [socket.create_connection(address) for _ in range(300)]
    try:
        assert ask(address, "GET", "/metrics")[0] == 200
        assert threading.active_count() <= before + Limits().running + Limits().reserved
    finally:
        for one in idle:
            one.close()


def test_no_program_serves_by_another_server_than_the_bounded_one() -> None:
    """The simulator, which never runs beside the real exchange, has one of its own."""
    other = re.compile(
        r"start_http_server|start_wsgi_server|make_server\(|HTTPServer\)|import http\.server|asyncio\.start_server"
    )
    found = [
        str(path.relative_to(ROOT))
        for folder in ("ingest", "plugins", "dags")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if other.search(path.read_text(encoding="utf-8")) and "simulator" not in path.parts
    ]
    assert found == []
