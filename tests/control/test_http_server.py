"""What a stranger can do to a door, and what it does then."""

import contextlib
import json
import socket
import threading
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from ingest.control import http_server as module
from ingest.control.http_server import MAX_BODY, MAX_CONCURRENT, HttpServer, Request, Response, json_response
from ingest.core.errors import Stop
from tests.control.conftest import TOKEN, Control, FakeCommands, ask, raw


def echo(request: Request) -> Response:
    return json_response(HTTPStatus.OK, {"got": len(request.body()), "path": request.path})


def post(length: object, body: bytes, *extra: str) -> bytes:
    lines = ["POST /x HTTP/1.1", "Host: x", f"Content-Length: {length}", *extra, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_body_may_be_as_long_as_the_limit_and_no_longer(control: Control, commands: FakeCommands) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        assert ask(door.url, "POST", "/x", body=b"x" * MAX_BODY).content["got"] == MAX_BODY
        # http.client sends everything before it reads: it sees the refusal only if the connection is not reset.
        for _ in range(5):
            refused = ask(door.url, "POST", "/x", body=b"x" * (MAX_BODY + 1))
            assert refused.status == 413
            assert str(MAX_BODY) in refused.content["error"]
    oversized = {"deployment_id": "d", "padding": "x" * MAX_BODY}
    assert control.post("promote", oversized).status == 413
    assert commands.calls == []


def test_a_refusal_reaches_a_client_that_sends_everything_before_it_reads() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        address = urlsplit(door.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(post(200_000, b""))
            for _ in range(4):
                time.sleep(0.1)
                client.sendall(b"x" * 50_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post("abc", b""), 400),
        (post("-1", b""), 400),
        (post("+1", b"x"), 400),
        (post("\u0661", b"x"), 400),
        (post("9" * 5000, b"x"), 413),
        (post(1, b"x", "Content-Length: 2"), 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 411),
        (b"BREW /x HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_cannot_be_read_is_refused_in_json(sent: bytes, status: int) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        head, _, body = raw(door.url, sent).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Python" not in head
    assert json.loads(body)["error"]


def test_a_body_that_ends_early_is_400() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        address = urlsplit(door.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(post(10, b"xyz"))
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_continue_is_said_only_once_the_body_is_wanted() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        address = urlsplit(door.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(post(3, b"", "Expect: 100-continue"))
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"abc")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert raw(door.url, post(MAX_BODY + 1, b"", "Expect: 100-continue")).startswith(b"HTTP/1.1 413 ")


def test_a_sender_of_a_byte_now_and_then_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    with HttpServer("echo", "127.0.0.1", 0, echo) as door:
        address = urlsplit(door.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET /x HTTP/1.1\r\nX: ")
                while time.monotonic() - began < 40:
                    client.sendall(b"x")
                    client.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        if client.recv(1) == b"":
                            break
            assert 0.3 < time.monotonic() - began < 30
        assert raw(door.url, post(5, b"x")).startswith(b"HTTP/1.1 408 ")


def test_more_connections_than_the_bound_are_refused_at_once_and_the_bound_recovers() -> None:
    inside = threading.Semaphore(0)
    release = threading.Event()

    def slow(_: Request) -> Response:
        inside.release()
        release.wait(60)
        return json_response(HTTPStatus.OK, {})

    with HttpServer("slow", "127.0.0.1", 0, slow) as door, contextlib.ExitStack() as open_sockets:
        address = urlsplit(door.url)
        clients = [
            open_sockets.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            for _ in range(MAX_CONCURRENT)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for _ in clients:
            assert inside.acquire(timeout=30)
        with socket.create_connection((address.hostname, address.port), timeout=30) as refused:
            answered = refused.recv(65536)
        assert answered.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answered
        release.set()
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        deadline = time.monotonic() + 30
        while (status := _status(door.url)) != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert status == 200


def _status(url: str) -> int:
    try:
        return ask(url, "GET", "/").status
    except ConnectionError:
        return 0


def test_a_client_that_leaves_before_its_answer_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, b"x" * 8_000_000, "text/plain")

    with HttpServer("large", "127.0.0.1", 0, large) as door:
        address = urlsplit(door.url)
        for _ in range(5):
            client = socket.create_connection((address.hostname, address.port), timeout=30)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not an end
            client.close()
        assert len(ask(door.url, "GET", "/").body) == 8_000_000
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_answer_under_way_still_leaves_when_the_door_closes() -> None:
    inside = threading.Event()
    answers: list[int] = []

    def slow(_: Request) -> Response:
        inside.set()
        time.sleep(0.3)
        return json_response(HTTPStatus.OK, {})

    with HttpServer("slow", "127.0.0.1", 0, slow) as door:
        url = door.url
        client = threading.Thread(target=lambda: answers.append(ask(url, "GET", "/").status))
        client.start()
        assert inside.wait(30)
    client.join(30)
    assert answers == [200]
    with pytest.raises(ConnectionRefusedError):
        ask(url, "GET", "/")
    with pytest.raises(Stop, match="not open"):
        _ = door.url


def test_a_door_that_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    inside, release = threading.Event(), threading.Event()

    def hang(_: Request) -> Response:
        inside.set()
        release.wait(60)
        return json_response(HTTPStatus.OK, {})

    with contextlib.ExitStack() as stack:
        with HttpServer("hang", "127.0.0.1", 0, hang) as door:
            address = urlsplit(door.url)
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert inside.wait(30)
            began = time.monotonic()
        assert time.monotonic() - began < 30  # and not the 60 of the answer
        release.set()


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with HttpServer("first", "127.0.0.1", 0, echo) as door:
        port = int(door.url.rpartition(":")[2])
        with (
            pytest.raises(Stop, match=rf"second: cannot listen on 127\.0\.0\.1:{port}.*another"),
            HttpServer("second", "127.0.0.1", port, echo),
        ):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::", "::1"])  # noqa: S104 (loopback is asked)
def test_its_address_can_be_asked_from_this_machine(host: str) -> None:
    if ":" in host:
        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:
            pytest.skip("no IPv6 here")
    with HttpServer("echo", host, 0, echo) as door:
        assert ask(door.url, "GET", "/x?token=1").content == {"got": 0, "path": "/x"}


def test_the_token_is_never_logged(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    assert control.post("drain").status == 200
    assert control.ask("GET", "/control/status", token=f"{TOKEN}-not").status == 401
    assert "drain" in caplog.text
    assert "wrong token" in caplog.text
    assert TOKEN not in caplog.text
