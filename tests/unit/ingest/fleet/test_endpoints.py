"""The HTTP server of an instance: its own answers, and those of its children, which may be wrong or missing."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from ingest.control.server import Health, Process
from ingest.fleet.endpoints import FleetServer
from ingest.fleet.metrics import FleetMetrics
from ingest.http.limits import Limits
from tests.unit.ingest.control.conftest import ask


class Probe:
    """A fixed state."""

    def live(self) -> Health:
        return Health(ok=True, reason="", details={})

    def ready(self) -> Health:
        return Health(ok=False, reason="shard 0 is not written here yet", details={"shards": [0]})

    def status(self) -> dict[str, str]:
        return {"instance": "a"}


class Child:
    """Answers every connection with the same bytes and closes it."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65_536))
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.close()


def answer(body: bytes, *, length: int | None = None, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/x-child\r\n"
    head += "" if length is None else f"Content-Length: {length}\r\n"
    return head.encode() + b"\r\n" + body


children: dict[int, str] = {}


@pytest.fixture
def server() -> Iterator[FleetServer]:
    children.clear()
    with FleetServer(
        "127.0.0.1",
        0,
        registry=FleetMetrics("g", process=False).registry,
        probe=Probe(),
        process=Process("fleet-1", "1"),
        children=lambda: dict(children),
        labels=lambda shard: {"shard": str(shard)},
    ) as opened:
        yield opened


def test_it_answers_what_every_service_does(server: FleetServer) -> None:
    assert ask(server.url, "GET", "/health/live").status == 200
    ready = ask(server.url, "GET", "/health/ready")
    assert (ready.status, ready.content["reason"]) == (503, "shard 0 is not written here yet")
    assert ask(server.url, "GET", "/status").content == {"instance": "a"}


def test_a_path_that_there_is_not_is_answered_with_those_that_there_are(server: FleetServer) -> None:
    for path in ("/", "/shards", "/shards/0", "/shards/0/control", "/shards/99999/status", "/shards/-1/status"):
        refused = ask(server.url, "GET", path)
        assert refused.status == 404
        for word in ("/health/ready", "/targets", "/shards/<n>/metrics"):
            assert word in refused.content["error"]


def test_targets_are_the_children_at_the_address_that_was_asked(server: FleetServer) -> None:
    children.update({3: "http://127.0.0.1:1", 0: "http://127.0.0.1:2"})
    address = server.url.removeprefix("http://")
    assert ask(server.url, "GET", "/targets").content == [
        {"targets": [address], "labels": {"__metrics_path__": f"/shards/{shard}/metrics", "shard": str(shard)}}
        for shard in (0, 3)
    ]


@pytest.mark.parametrize("path", ["/targets", "/shards/0/status"])
def test_other_methods_are_refused(server: FleetServer, path: str) -> None:
    refused = ask(server.url, "POST", path, body=b"{}")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_a_child_s_answer_is_passed_on_with_its_status(server: FleetServer, status: str) -> None:
    child = Child(answer(b'{"a":1}', length=7, status=status))
    children[4] = child.url
    try:
        found = ask(server.url, "GET", "/shards/4/health/ready", headers={"Accept": "text/x-child"})
    finally:
        child.close()
    assert (found.status, found.content) == (int(status[:3]), {"a": 1})
    assert found.headers["Content-Type"] == "text/x-child"
    assert child.asked[0].startswith(b"GET /health/ready HTTP/1.1\r\n")
    assert b"Accept: text/x-child" in child.asked[0]


def test_a_shard_that_does_not_run_here_is_not_found(server: FleetServer) -> None:
    refused = ask(server.url, "GET", "/shards/7/metrics")
    assert (refused.status, refused.content["error"]) == (404, "no child of shard 7 runs here: see /status")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"no HTTP at all\r\n\r\n",
        answer(b"half of it", length=20),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\nhalf",
    ],
    ids=["nothing", "another protocol", "a part of the body", "a part of a chunk"],
)
def test_an_answer_that_is_not_whole_is_a_bad_gateway(server: FleetServer, said: bytes) -> None:
    child = Child(said)
    children[0] = child.url
    try:
        refused = ask(server.url, "GET", "/shards/0/metrics")
    finally:
        child.close()
    assert refused.status == 502
    assert "child" in refused.content["error"]


def test_a_child_that_is_gone_is_a_bad_gateway(server: FleetServer) -> None:
    child = Child(b"")
    child.close()
    children[0] = child.url
    assert ask(server.url, "GET", "/shards/0/metrics").status == 502


@pytest.mark.parametrize(("children_asked", "own"), [(3, "/status"), (9, "/health/live")])
def test_children_that_do_not_answer_do_not_hold_back_the_instance_s_own_answers(
    server: FleetServer, children_asked: int, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.fleet.endpoints.CHILD_SECONDS", 60.0)  # all still wait when the machine is busy
    silent = socket.create_server(("127.0.0.1", 0), backlog=children_asked)
    children[0] = f"http://127.0.0.1:{silent.getsockname()[1]}"
    asking = [
        threading.Thread(target=lambda: ask(server.url, "GET", "/shards/0/health/live"), daemon=True)
        for _ in range(children_asked)
    ]
    silent.settimeout(30)
    with contextlib.ExitStack() as stack:
        stack.enter_context(silent)
        for thread in asking:
            thread.start()
        for _ in range(min(children_asked, Limits().running)):
            stack.enter_context(silent.accept()[0])  # it is under way, and stays without an answer
        assert ask(server.url, "GET", own).status == 200
        assert all(thread.is_alive() for thread in asking), "it waited for one of them"
    for thread in asking:
        thread.join(30)
