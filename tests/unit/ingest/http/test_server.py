"""What a stranger can do to the HTTP server, and what it does then."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
import pytest

from ingest.core.errors import Stop
from ingest.http.connection import MAX_BODY, MAX_HEAD, ServerConnection
from ingest.http.host import check_host
from ingest.http.limits import Limits
from ingest.http.messages import Request, Response, json_response
from ingest.http.server import HttpServer
from tests.unit.ingest.control.conftest import ask, raw

LIMITS = Limits()
QUICK = Limits(head_seconds=0.3, body_seconds=0.3)


def echo(request: Request) -> Response:
    return json_response(HTTPStatus.OK, {"got": len(request.body()), "path": request.path})


def post(length: object, body: bytes, *extra: str) -> bytes:
    lines = ["POST /x HTTP/1.1", "Host: x", f"Content-Length: {length}", *extra, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_body_may_be_as_long_as_the_limit_and_no_longer() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        assert ask(server.url, "POST", "/x", body=b"x" * MAX_BODY).content["got"] == MAX_BODY
        # http.client sends everything before it reads: it sees the refusal only if the connection is not reset.
        for _ in range(5):
            refused = ask(server.url, "POST", "/x", body=b"x" * (MAX_BODY + 1))
            assert refused.status == 413
            assert str(MAX_BODY) in refused.content["error"]


def test_a_refusal_reaches_a_client_that_sends_everything_before_it_reads() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        address = urlsplit(server.url)
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
        (post("9" * 5000, b"x"), 400),
        (post("9" * 15, b"x"), 413),
        (post(1, b"x", "Content-Length: 2"), 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 411),
        (b"BREW /x HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_cannot_be_read_is_refused_in_json(sent: bytes, status: int) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        head, _, body = raw(server.url, sent).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Python" not in head
    assert json.loads(body)["error"]


def test_a_body_that_ends_early_is_400() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(post(10, b"xyz"))
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_continue_is_said_only_once_the_body_is_wanted() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(post(3, b"", "Expect: 100-continue"))
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"abc")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert raw(server.url, post(MAX_BODY + 1, b"", "Expect: 100-continue")).startswith(b"HTTP/1.1 413 ")


def test_a_sender_of_a_byte_now_and_then_is_cut_off() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo, limits=QUICK) as server:
        address = urlsplit(server.url)
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
            assert 0.2 < time.monotonic() - began < 30
        assert raw(server.url, post(5, b"x")).startswith(b"HTTP/1.1 408 ")


class Gate:
    """A handler that waits until it is opened."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, _: Request) -> Response:
        self.inside.release()
        self.open.wait(60)
        return json_response(HTTPStatus.OK, {})


@contextlib.contextmanager
def clients(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that send ``sent`` and then nothing."""
    address = urlsplit(url)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            with contextlib.suppress(ConnectionError):
                one.sendall(sent)
            opened.append(one)
        yield opened


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "])
def test_any_number_of_idle_connections_keeps_nobody_out(sent: bytes) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo, limits=Limits(head_seconds=60)) as server:
        for _ in range(3):
            with clients(server.url, 2 * LIMITS.connections, sent):
                assert ask(server.url, "GET", "/").status == 200
        assert len(server._clients) <= LIMITS.connections


def test_heads_beyond_the_bound_are_refused_before_they_are_kept() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo, limits=Limits(head_seconds=60)) as server:
        head = b"GET / HTTP/1.1\r\nA: " + b"b" * (MAX_HEAD + 1000)
        assert raw(server.url, head).startswith(b"HTTP/1.1 431 ")
        with clients(server.url, 64, b"GET / HTTP/1.1\r\nA: " + b"b" * (MAX_HEAD - 1000)):
            assert ask(server.url, "GET", "/").status == 200


def test_more_requests_than_the_bound_are_refused_and_the_bound_recovers() -> None:
    gate = Gate()
    limits = msgspec.structs.replace(LIMITS, running=2, waiting=3)
    with (
        HttpServer("slow", "127.0.0.1", 0, gate, limits=limits) as server,
        clients(server.url, 5, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as waiting,
    ):
        assert gate.inside.acquire(timeout=30)
        assert gate.inside.acquire(timeout=30)
        assert not gate.inside.acquire(timeout=0.2), "two handlers at once, no more"
        answered = raw(server.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answered
        gate.open.set()
        for client in waiting:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert ask(server.url, "GET", "/").status == 200


def test_the_holder_of_the_token_is_answered_while_strangers_wait() -> None:
    gate = Gate()
    limits = msgspec.structs.replace(LIMITS, running=2, reserved=1, waiting=3)

    def handler(request: Request) -> Response:
        return json_response(HTTPStatus.OK, {}) if request.header("X-Token") == "right" else gate(request)

    with (
        HttpServer(
            "slow", "127.0.0.1", 0, handler, limits=limits, trusted=lambda one: one.header("X-Token") == "right"
        ) as server,
        clients(server.url, 20, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ):
        assert gate.inside.acquire(timeout=30)
        for _ in range(10):
            assert ask(server.url, "GET", "/", headers={"X-Token": "right"}).status == 200
        assert ask(server.url, "GET", "/", headers={"X-Token": "wrong"}).status == 503
        gate.open.set()


def test_a_flood_of_connections_keeps_out_no_slow_client_of_its_address() -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, b"x" * 8_000_000, "text/plain")

    with HttpServer("large", "127.0.0.1", 0, large, limits=Limits(head_seconds=60, body_seconds=60)) as server:
        address = urlsplit(server.url)
        slow = socket.create_connection((address.hostname, address.port), timeout=30)
        body = socket.create_connection((address.hostname, address.port), timeout=30)
        with slow, body:
            slow.sendall(b"GET /x HTTP/1.1\r\n")
            body.sendall(post(3, b"a"))
            with clients(server.url, 2 * LIMITS.connections):
                slow.sendall(b"Host: x\r\n\r\n")
            assert slow.recv(1000).startswith(b"HTTP/1.1 200 ")
            with clients(server.url, 2 * LIMITS.connections):
                received = 1000
                while data := slow.recv(2**20):
                    received += len(data)
            assert received > 8_000_000, "it is closed while it reads"
            body.sendall(b"bc")
            assert body.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_the_holder_of_the_token_may_send_its_body_while_strangers_fill_every_place() -> None:
    limits = msgspec.structs.replace(LIMITS, answers=2, body_seconds=60)
    with HttpServer(
        "echo", "127.0.0.1", 0, echo, limits=limits, trusted=lambda one: one.header("X-Token") == "right"
    ) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as holder:
            holder.sendall(post(3, b"a", "X-Token: right"))
            with clients(server.url, 2 * LIMITS.connections, post(3, b"a")) as strangers:
                holder.sendall(b"bc")
                assert holder.recv(1000).startswith(b"HTTP/1.1 200 ")
                assert sum(1 for one in server._clients if one.phase == "body") <= 2
                assert len(strangers) == 2 * LIMITS.connections


def test_as_many_protected_bodies_as_the_bound_and_no_more() -> None:
    limits = msgspec.structs.replace(LIMITS, answers=2, protected=3, body_seconds=60)
    with (
        HttpServer("echo", "127.0.0.1", 0, echo, limits=limits, trusted=lambda _: True) as server,
        clients(server.url, 50, post(3, b"a")),
    ):
        assert ask(server.url, "GET", "/").status == 200
        assert sum(1 for one in server._clients if one.phase == "body") <= 5


def test_readers_that_take_nothing_are_closed_to_make_room() -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, b"x" * 8_000_000, "text/plain")

    limits = msgspec.structs.replace(LIMITS, connections=8, answers=6, send_seconds=60, stall_seconds=0.2)
    with (
        HttpServer("large", "127.0.0.1", 0, large, limits=limits) as server,
        clients(server.url, 12, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ):
        time.sleep(0.5)
        assert len(ask(server.url, "GET", "/").body) == 8_000_000
        assert len(server._clients) <= 8


def test_a_client_that_leaves_before_its_response_disturbs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, b"x" * 8_000_000, "text/plain")

    with HttpServer("large", "127.0.0.1", 0, large) as server:
        address = urlsplit(server.url)
        for _ in range(5):
            client = socket.create_connection((address.hostname, address.port), timeout=30)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not an end
            client.close()
        assert len(ask(server.url, "GET", "/").body) == 8_000_000
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_answer_under_way_still_leaves_when_the_door_closes() -> None:
    inside = threading.Event()
    answers: list[int] = []

    def slow(_: Request) -> Response:
        inside.set()
        time.sleep(0.3)
        return json_response(HTTPStatus.OK, {})

    with HttpServer("slow", "127.0.0.1", 0, slow) as server:
        url = server.url
        client = threading.Thread(target=lambda: answers.append(ask(url, "GET", "/").status))
        client.start()
        assert inside.wait(30)
    client.join(30)
    assert answers == [200]
    with pytest.raises(ConnectionRefusedError):
        ask(url, "GET", "/")
    with pytest.raises(Stop, match="not open"):
        _ = server.url


def test_a_handler_that_hangs_does_not_keep_the_process() -> None:
    inside, release = threading.Event(), threading.Event()

    def hang(_: Request) -> Response:
        inside.set()
        release.wait(60)
        return json_response(HTTPStatus.OK, {})

    with contextlib.ExitStack() as stack:
        with HttpServer("hang", "127.0.0.1", 0, hang, limits=Limits(close_seconds=0.2)) as server:
            address = urlsplit(server.url)
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert inside.wait(30)
            began = time.monotonic()
        assert time.monotonic() - began < 30  # and not the 60 of the answer
        release.set()


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with HttpServer("first", "127.0.0.1", 0, echo) as server:
        port = int(server.url.rpartition(":")[2])
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
    with HttpServer("echo", host, 0, echo) as server:
        assert ask(server.url, "GET", "/x?token=1").content == {"got": 0, "path": "/x"}


@pytest.mark.parametrize("part", ["check", "trusted"])
def test_an_error_in_a_check_costs_its_request_and_no_other(part: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> bool:
        if request.path == "/bad":
            raise ValueError("a header that nobody expected")
        return False

    def check(request: Request) -> None:
        if part == "check":
            broken(request)

    with HttpServer("echo", "127.0.0.1", 0, echo, check=check, trusted=broken) as server:
        assert ask(server.url, "GET", "/bad").status == 500
        assert ask(server.url, "GET", "/good").status == 200
    assert "could not be checked" in caplog.text


def test_an_error_in_a_connection_closes_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:
        receive = ServerConnection.receive

        def fail(self: ServerConnection, data: bytes) -> bytes:
            if b"bad" in data:
                raise RuntimeError("a parser's fault")
            return receive(self, data)

        monkeypatch.setattr(ServerConnection, "receive", fail)
        assert raw(server.url, b"bad") == b""
        assert ask(server.url, "GET", "/good").status == 200
    assert "failed" in caplog.text


def test_a_request_is_refused_while_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo) as server:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(2 * LIMITS.running):
                assert raw(server.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 503 ")
        assert ask(server.url, "GET", "/").status == 200


def test_a_real_origin_that_is_no_url_does_not_end_the_server() -> None:
    with HttpServer("echo", "127.0.0.1", 0, echo, check=lambda one: check_host(one, ())) as server:
        assert ask(server.url, "GET", "/", headers={"Origin": "http://["}).status == 403
        assert ask(server.url, "GET", "/").status == 200
