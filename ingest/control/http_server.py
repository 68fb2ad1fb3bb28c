"""A small HTTP server for machines: threads of its own, bounded in time, size and number, one request a connection.

It knows no paths: a ``Handler`` turns a ``Request`` into a ``Response``. Slow senders, oversized bodies, too many
connections and clients that leave are dealt with here.
"""

import contextlib
import io
import logging
import math
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec

from ingest.core.errors import Stop

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""A request must have arrived whole, and an answer have left whole, within this."""
MAX_BODY = 64 * 1024
"""Bytes; a longer body is refused with 413 before it is read."""
MAX_CONCURRENT = 32
"""Connections served at once; one more is refused with 503 at once."""
LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024
POLL_SECONDS = 0.2
"""How soon the accepting thread sees that the door closes."""
CLOSE_SECONDS = 1.0
"""Answers under way may finish within this when the door closes."""

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

JSON = "application/json; charset=utf-8"


class HttpError(Exception):
    """The request is answered with ``status`` and ``{"error": text}``."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Request(msgspec.Struct, frozen=True):
    """What a client asks. ``body()`` reads it, at most once; it raises ``HttpError`` where it is unusable."""

    method: str
    path: str
    headers: Message
    client: str
    body: Callable[[], bytes]


class Response(msgspec.Struct, frozen=True):
    """What it is told."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = {}


Handler = Callable[[Request], Response]


def json_response(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    """Return ``content`` as JSON; what JSON does not know is written as text."""
    return Response(status, msgspec.json.encode(content, enc_hook=str) + b"\n", headers=headers or {})


def retry_after(seconds: float) -> str:
    """Return the value of the header Retry-After: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))


class HttpServer:
    """Listens while its ``with`` block runs. Raises ``Stop`` where the address cannot be had."""

    def __init__(self, name: str, host: str, port: int, answer: Handler) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._answer = answer
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers, as seen from this machine: a wildcard address is given as loopback."""
        if self._server is None:
            raise Stop(f"the {self._name} door is not open: use it in a with block")
        port = self._server.server_address[1]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 (replaced)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self._host, self._port, self._answer)
        except OSError as error:
            raise Stop(
                f"{self._name}: cannot listen on {self._host}:{self._port}: {error}. Choose another host or port."
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": POLL_SECONDS}, name=self._name, daemon=True
        )
        self._thread.start()
        log.info("%s on %s", self._name, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.wait_idle(CLOSE_SECONDS)
        self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # wait_idle() waits instead, but not for ever
    request_queue_size = 64

    def __init__(self, host: str, port: int, answer: Handler) -> None:
        self.answer = answer
        self._idle = threading.Condition()
        self._serving = 0
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for this machine's full name here, which nobody reads and which can hang for long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:  # out of file descriptors: without a pause the accept loop would spin
            log.warning("a connection could not be accepted: %s", error)
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._idle:
            full = self._serving >= MAX_CONCURRENT
            if not full:
                self._serving += 1
        if not full:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(0)
            request.send(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._idle:
                self._serving -= 1
                self._idle.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until every answer has left, at most ``seconds``."""
        with self._idle:
            return self._idle.wait_for(lambda: self._serving == 0, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception() if sys.version_info >= (3, 12) else sys.exc_info()[1]
        if isinstance(error, ConnectionError | TimeoutError):
            log.debug("%s left: %r", client_address[0], error)
        else:
            log.error("a request of %s failed", client_address[0], exc_info=error)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a deadline for the whole, so that a byte now and then does not hold a thread for ever."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # a broken request line is answered with headers, too

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection, REQUEST_SECONDS))
        self._unread = True
        self.command = ""

    def answer(self) -> None:
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        request = Request(
            self.command, self.path.partition("?")[0], self.headers, str(self.client_address[0]), self._body
        )
        reply = json_response(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error: see this instance's log"})
        try:
            reply = self.server.answer(request)
        except HttpError as error:
            reply = json_response(error.status, {"error": str(error)}, error.headers)
        finally:  # an unforeseen error is answered as well, and then logged by handle_error()
            self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 (http.server's names)

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length instead of a Transfer-Encoding")
        lengths = self.headers.get_all("Content-Length", ["0"])
        if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit():
            raise HttpError(HTTPStatus.BAD_REQUEST, "Content-Length must be one decimal number")
        if len(lengths[0]) > 10 or int(lengths[0]) > MAX_BODY:
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have at most {MAX_BODY} bytes")
        length = int(lengths[0])
        if length and self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        try:
            body = self.rfile.read(length)
        except TimeoutError as error:
            raise HttpError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {REQUEST_SECONDS:g} s"
            ) from error
        self._unread = False
        if len(body) < length:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"the body ended after {len(body)} of {length} bytes")
        return body

    def handle_expect_100(self) -> bool:
        return True  # _body() says "continue", once it is known that the body is wanted

    def _send(self, reply: Response) -> None:
        self.connection.settimeout(REQUEST_SECONDS)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        if self._unread:
            self._linger()

    def _linger(self) -> None:
        # Closing over unread bytes resets the connection, and the client would never see why it was refused.
        deadline = time.monotonic() + LINGER_SECONDS
        left = LINGER_BYTES
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                self.connection.settimeout(seconds)
                chunk = self.connection.recv(64 * 1024)
                if not chunk:
                    break
                left -= len(chunk)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Handler a request that could not even be parsed."""
        self._send(json_response(code, {"error": message or HTTPStatus(code).phrase}))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        log.debug("%s: %r", self.client_address[0], format % args)

    def version_string(self) -> str:
        return "k2-ingest"
