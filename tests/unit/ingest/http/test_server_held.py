"""Responses that stay open until the process ends, and a handler's place that is free again whatever happens."""

import contextlib
import select
import socket
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from ingest.http.limits import Limits
from ingest.http.messages import Request, Response
from ingest.http.server import DISPLACED, HttpServer
from tests.unit.ingest.control.conftest import ask

QUICK = Limits(head_seconds=0.3, body_seconds=0.3)


def held(_: Request) -> Response:
    return Response(HTTPStatus.OK, b"first line\n", held=True)


@contextlib.contextmanager
def get(server: HttpServer, method: str = "GET") -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(f"{method} /x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield client


def until(client: socket.socket, last: bytes) -> bytes:
    received = b""
    while not received.endswith(last):
        chunk = client.recv(65536)
        assert chunk, received
        received += chunk
    return received


def test_a_held_response_ends_without_a_word_when_its_server_does() -> None:
    with HttpServer("held", "127.0.0.1", 0, held, limits=QUICK) as server, get(server) as client:
        assert b"Content-Length" not in until(client, b"first line\n")
        client.settimeout(1.0)  # longer than every deadline of the server
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        server.__exit__(None, None, None)
        assert client.recv(65536) == b""


def test_one_held_response_too_many_displaces_the_oldest_which_is_told_so() -> None:
    with HttpServer("held", "127.0.0.1", 0, held, limits=Limits(held=2)) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(get(server)) for _ in range(2)]
        for client in clients:
            until(client, b"first line\n")
        latest = stack.enter_context(get(server))
        until(latest, b"first line\n")
        gone = [client for client in clients if select.select([client], [], [], 2.0)[0]]
        assert len(gone) == 1
        assert until(gone[0], DISPLACED)
        assert gone[0].recv(1) == b""


def test_a_client_that_goes_on_sending_loses_its_held_response() -> None:
    with HttpServer("held", "127.0.0.1", 0, held) as server, get(server) as client:
        until(client, b"first line\n")
        client.sendall(b"more")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(65536) == b""


def test_a_response_that_cannot_be_written_costs_its_request_and_no_place() -> None:
    with HttpServer("bad", "127.0.0.1", 0, lambda _: Response(299, b""), limits=Limits(running=1)) as server:
        for _ in range(3):
            answered = ask(server.url, "GET", "/x")
            assert (answered.status, answered.content) == (500, {"error": "internal error: see the log"})
