"""The proxy's aimed faults, on a server that tells what came and in which order."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness.kafka import free_ports
from tests.harness.proxy import END_TXN, FETCH, PRODUCE, KafkaProxy


def frame(key: int, body: bytes) -> bytes:
    data = key.to_bytes(2, "big") + body
    return len(data).to_bytes(4, "big") + data


class Server:
    """Answers each frame with itself and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.seen: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(4):
                data = stream.read(int.from_bytes(head, "big"))
                self.seen.append(data[2:])
                connection.sendall(head + data)


@pytest.fixture
def parts() -> Iterator[tuple[Server, KafkaProxy]]:
    server, proxy = Server(), KafkaProxy(free_ports(1)[0])
    proxy.target = server.port
    try:
        with proxy:
            yield server, proxy
    finally:
        server.listener.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_kept_request_arrives_behind_the_first_of_two(parts: tuple[Server, KafkaProxy]) -> None:
    server, proxy = parts
    proxy.hold(END_TXN)
    proxy.release_behind(PRODUCE)
    with socket.create_connection(("127.0.0.1", proxy.port)) as first:
        first.sendall(frame(END_TXN, b"commit"))
        assert proxy.holding.wait(30)
        with contextlib.suppress(ConnectionResetError):
            assert first.recv(100) == b""
    with socket.create_connection(("127.0.0.1", proxy.port)) as second:
        second.sendall(frame(END_TXN, b"again") + frame(PRODUCE, b"one") + frame(PRODUCE, b"two"))
        until(lambda: len(server.seen) == 4)
    assert server.seen == [b"again", b"one", b"commit", b"two"]


def test_an_answer_waits_for_the_end_of_the_black_hole(parts: tuple[Server, KafkaProxy]) -> None:
    server, proxy = parts
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        proxy.unanswered(END_TXN)
        client.sendall(frame(FETCH, b"read"))
        assert client.recv(100) == frame(FETCH, b"read")
        client.sendall(frame(END_TXN, b"commit") + frame(FETCH, b"more"))
        assert proxy.holding.wait(30)
        until(lambda: server.seen == [b"read", b"commit"])
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert server.seen == [b"read", b"commit"]
        proxy.black_hole(False)
        client.settimeout(30)
        received = b""
        while len(received) < len(frame(END_TXN, b"commit") + frame(FETCH, b"more")):
            received += client.recv(100)
        assert received == frame(END_TXN, b"commit") + frame(FETCH, b"more")
