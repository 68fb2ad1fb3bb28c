"""What a client without a token does to an HTTP port. Each attack runs until its time is over and then cleans up."""

import contextlib
import itertools
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

HEADERS = 95
HEADER_BYTES = 65_000
Attack = Callable[[str, float], int]
"""(URL of the port, seconds) -> how often the attack did its thing."""


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _connect(url: str) -> socket.socket:
    one = socket.create_connection(_address(url), timeout=5)
    one.settimeout(1)
    return one


@contextlib.contextmanager
def _many(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        opened: list[socket.socket] = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                one = stack.enter_context(_connect(url))
                one.sendall(sent)
                opened.append(one)
        yield opened


def _in_parallel(workers: int, work: Callable[[], int], seconds: float) -> int:
    """Repeat ``work`` on threads until the time is over; returns the sum of its results."""
    end = time.monotonic() + seconds
    done = [0] * workers

    def run(number: int) -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                done[number] += work()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    return sum(done)


def large_headers(url: str, seconds: float) -> int:
    """Three clients with 95 header lines of 65 kB each."""
    head = b"GET /status HTTP/1.1\r\nHost: x\r\n"
    lines = b"".join(b"X-%d: " % number + b"a" * HEADER_BYTES + b"\r\n" for number in range(HEADERS))

    def once() -> int:
        with _connect(url) as one:
            one.sendall(head + lines)
            one.recv(1024)
        return 1

    return _in_parallel(3, once, seconds)


def idle_connections(url: str, seconds: float) -> int:
    """300 connections that send nothing, opened again as they are closed."""
    end, opened = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with _many(url, 300) as clients:
            opened += len(clients)
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
    return opened


def connect_flood(url: str, seconds: float) -> int:
    """Two clients that open connections without a pause, and keep the latest 300."""

    def work() -> int:
        end, opened = time.monotonic() + 1.0, 0
        kept: deque[socket.socket] = deque()
        try:
            while time.monotonic() < end:
                kept.append(_connect(url))
                opened += 1
                if len(kept) > 300:
                    kept.popleft().close()
        finally:
            for one in kept:
                one.close()
        return opened

    return _in_parallel(2, work, seconds)


def dripping_heads(url: str, seconds: float) -> int:
    """300 clients that send a byte of a header now and then."""
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with _many(url, 300, b"GET / HTTP/1.1\r\nX: ") as clients:
            while clients and time.monotonic() < end:
                for one in list(clients):
                    try:
                        sent += one.send(b"x")
                    except OSError:
                        clients.remove(one)
                time.sleep(0.2)
    return sent


def dripping_bodies(url: str, seconds: float) -> int:
    """100 clients that announce a body and send a byte of it now and then."""
    end, sent = time.monotonic() + seconds, 0
    head = b"POST /control/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    while time.monotonic() < end:
        with _many(url, 100, head) as clients:
            while clients and time.monotonic() < end:
                for one in list(clients):
                    try:
                        sent += one.send(b"x")
                    except OSError:
                        clients.remove(one)
                time.sleep(0.2)
    return sent


def request_flood(url: str, seconds: float) -> int:
    """16 clients that ask for the most expensive page without a pause."""

    def once() -> int:
        with _connect(url) as one:
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            while one.recv(65_536):
                pass
        return 1

    return _in_parallel(16, once, seconds)


def unread_responses(url: str, seconds: float) -> int:
    """200 clients that ask for a page and never read it."""
    end, asked = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with _many(url, 200, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") as clients:
            asked += len(clients)
            time.sleep(min(2.0, max(0.0, end - time.monotonic())))
    return asked


def token_guesses(url: str, seconds: float) -> int:
    """Two clients that guess the token."""
    numbers = itertools.count()

    def once() -> int:
        with _connect(url) as one:
            head = f"GET /control/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess-{next(numbers)}\r\n\r\n"
            one.sendall(head.encode())
            one.recv(1024)
        time.sleep(0.02)
        return 1

    return _in_parallel(2, once, seconds)


def large_bodies(url: str, seconds: float) -> int:
    """Eight clients that send bodies of 64 MB."""
    head = b"POST /control/promote HTTP/1.1\r\nHost: x\r\nContent-Length: 64000000\r\n\r\n"
    chunk = b"x" * 64_000

    def once() -> int:
        with _connect(url) as one, contextlib.suppress(OSError):  # refused before all of it is sent
            one.sendall(head)
            for _ in range(1_000):
                one.sendall(chunk)
        return 1

    return _in_parallel(8, once, seconds)


def garbage(url: str, seconds: float) -> int:
    """Four clients that send bytes that are not HTTP, pipelined requests, and half a TLS handshake."""
    texts = itertools.cycle(
        [
            bytes(range(256)) * 40,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        ]
    )

    def once() -> int:
        with _connect(url) as one:
            one.sendall(next(texts))
            one.recv(1024)
        return 1

    return _in_parallel(4, once, seconds)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        large_headers, connect_flood, idle_connections, dripping_heads, dripping_bodies, request_flood,
        unread_responses, token_guesses, large_bodies, garbage,
    )
}  # fmt: skip

CHEAP = (
    "large_headers",
    "connect_flood",
    "idle_connections",
    "dripping_heads",
    "dripping_bodies",
    "token_guesses",
    "large_bodies",
    "garbage",
)
"""Those that every HTTP port must bear; the others are about the service's metrics."""
