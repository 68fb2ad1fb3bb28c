"""Both servers on real sockets, with a probe and commands that do what a test says."""

import concurrent.futures
import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Counter

from ingest.control.server import ControlServer, Health, Process, StatusServer
from ingest.http.auth import Role
from ingest.http.commands import ID_HEADER, TIME_HEADER

TOKEN = "correct-horse-battery"  # noqa: S105 (opens nothing but these tests)
TOKENS = {Role.READ: "token-that-only-reads", Role.OPERATE: "token-of-an-operator", Role.DEPLOY: TOKEN}
WALL_CLOCK = 1_800_000_000.0


class FakeProbe:
    """Says what it was told to say."""

    def __init__(self) -> None:
        self.alive = Health(ok=True, reason="", details={"loop_seconds": 0.1})
        self.fit = Health(ok=True, reason="", details={})
        self.state: dict[str, Any] = {"role": "standby"}

    def live(self) -> Health:
        return self.alive

    def ready(self) -> Health:
        return self.fit

    def status(self) -> dict[str, Any]:
        return self.state


class FakeCommands:
    """Keeps what it was given; ``outcome`` makes each future."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.outcome: Callable[[concurrent.futures.Future[dict[str, Any]]], None] = lambda future: future.set_result(
            {"state": "done"}
        )

    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        self.calls.append((name, arguments))
        future: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        self.outcome(future)
        return future

    def fail(self, error: BaseException) -> None:
        self.outcome = lambda future: future.set_exception(error)


class Answered(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answered:
    """Send one request and read the answer."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answered(response.status, response.headers, response.read())
    finally:
        connection.close()


def raw(url: str, sent: bytes) -> bytes:
    """Send bytes as they are and return everything up to the end of the connection."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


@pytest.fixture
def probe() -> FakeProbe:
    return FakeProbe()


@pytest.fixture
def commands() -> FakeCommands:
    return FakeCommands()


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("trades_total", "Trades.", registry=registry).inc(7)
    return registry


@pytest.fixture
def status_url(registry: CollectorRegistry, probe: FakeProbe) -> Iterator[str]:
    with StatusServer("127.0.0.1", 0, registry=registry, probe=probe, process=Process("blue", "1")) as server:
        yield server.url


class Control:
    """The control server and the clock by which it counts wrong tokens."""

    def __init__(self, probe: FakeProbe, commands: FakeCommands) -> None:
        self.now = 1000.0
        self.server = ControlServer(
            "127.0.0.1",
            0,
            tokens=TOKENS,
            probe=probe,
            commands=commands,
            command_seconds=0.2,
            monotonic=lambda: self.now,
            wall_clock=lambda: WALL_CLOCK,
        )
        self._ids = itertools.count()

    def ask(self, method: str, path: str, body: object = None, *, token: str | None = TOKEN) -> Answered:
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {ID_HEADER: f"command-{next(self._ids)}", TIME_HEADER: f"{WALL_CLOCK:.3f}"}
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        return ask(self.server.url, method, path, body=sent, headers=headers)

    def post(self, verb: str, body: object = None) -> Answered:
        return self.ask("POST", f"/control/{verb}", body)


@pytest.fixture
def control(probe: FakeProbe, commands: FakeCommands) -> Iterator[Control]:
    control = Control(probe, commands)
    with control.server:
        yield control
