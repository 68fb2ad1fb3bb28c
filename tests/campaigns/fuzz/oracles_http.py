"""What must hold whatever a client sends to a port: one valid response or none, and no error of ours."""

import concurrent.futures
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import h11
from prometheus_client import CollectorRegistry

from ingest.control.server import ControlServer, Health, Process, StatusServer
from ingest.http.auth import Role
from ingest.http.connection import MAX_BODY, MAX_HEAD, MAX_HEADERS, ServerConnection, State
from ingest.http.host import check_host
from ingest.http.messages import HttpError, Request, Response, error_response
from ingest_ops.agent.server import AgentServer
from ingest_ops.agent.slots import SlotStatus, check_slot

TOKEN = "right-token-of-the-fuzzer"  # noqa: S105 - for these servers alone
READ_TOKEN = "read-token-of-the-fuzzer"  # noqa: S105
NOW = 1_700_000_000.0


class _Probe:
    def live(self) -> Health:
        return Health(ok=True, reason="", details={})

    def ready(self) -> Health:
        return Health(ok=False, reason="not yet", details={"x": 1})

    def status(self) -> dict[str, Any]:
        return {"generation": 1}


class _Commands:
    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        done: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        done.set_result({"command": name, "arguments": arguments})
        return done


class _Slots:
    def build(self, version: str) -> str:
        return version

    def start(self, slot: str, version: str) -> SlotStatus:
        return SlotStatus(slot=check_slot(slot), running=True, version=version)

    def stop(self, slot: str) -> SlotStatus:
        return SlotStatus(slot=check_slot(slot), running=False)

    def status(self, slot: str) -> SlotStatus:
        return SlotStatus(slot=check_slot(slot), running=False)

    def versions(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


def _handlers() -> Iterator[Callable[[Request], Response]]:
    """The handlers of the service's two ports and of the agent, anew: they remember commands and guesses."""
    yield StatusServer(
        "127.0.0.1", 0, registry=CollectorRegistry(), probe=_Probe(), process=Process("blue", "1")
    )._respond
    tokens = {Role.DEPLOY: TOKEN, Role.READ: READ_TOKEN}
    yield ControlServer(
        "127.0.0.1", 0, tokens=tokens, probe=_Probe(), commands=_Commands(),
        monotonic=lambda: 0.0, wall_clock=lambda: NOW,
    )._respond  # fmt: skip
    yield AgentServer(
        "127.0.0.1", 0, slots=_Slots(), token=TOKEN, monotonic=lambda: 0.0, wall_clock=lambda: NOW
    )._respond


def check_http(data: bytes) -> None:
    """Bytes of one connection; the first says how they are cut into pieces."""
    size = data[0] * 4 + 1 if data else 1
    connection = ServerConnection("127.0.0.1")
    for at in range(1, len(data), size):
        reply = connection.receive(data[at : at + size])
        assert reply in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
        assert len(connection._body) <= MAX_BODY
        assert sum(len(key) + len(value) for key, value in connection.headers.items()) <= 2 * MAX_HEAD
        if connection.state in (State.READY, State.CLOSED):
            break
    if connection.state is State.BODY:
        connection.expire()
    if connection.state is not State.READY:
        return
    if connection.refusal is not None:
        _valid(connection.refused(), head_only=False)
        return
    request = connection.request()
    assert len(request.headers) <= MAX_HEADERS
    head_only = request.method == "HEAD"
    for handler in _handlers():
        answer = _answer(handler, request)
        assert answer.status != HTTPStatus.INTERNAL_SERVER_ERROR
        if request.header("Authorization").rpartition(" ")[2] not in (TOKEN, READ_TOKEN):
            assert not (request.method == "POST" and answer.status == HTTPStatus.OK), "a command without a token"
            assert TOKEN.encode() not in answer.body
        _valid(connection.response(answer), head_only=head_only)


def _answer(handler: Callable[[Request], Response], request: Request) -> Response:
    try:
        check_host(request, ())
        return handler(request)
    except HttpError as error:
        return error_response(error)


def _valid(raw: bytes, *, head_only: bool) -> None:
    """One response, whole, and nothing after it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    events: list[Any] = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        event = client.next_event()
        assert isinstance(event, h11.Response | h11.Data | h11.EndOfMessage), f"no whole response: {event!r}"
        events.append(event)
    assert client.trailing_data[0] == b""


ORACLES: dict[str, Callable[[bytes], None]] = {"http": check_http}
