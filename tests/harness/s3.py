"""An object store with S3's API on loopback: moto's server in an environment of its own. Knows no pytest."""

import contextlib
import http.client
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from pyarrow.fs import AwsDefaultS3RetryStrategy

from tests.harness import loopback
from tests.harness.engines import engine
from tests.harness.kafka import free_ports


class OneTry(AwsDefaultS3RetryStrategy):  # type: ignore[misc] # pyarrow has no types
    """Tests do not wait for the pauses between tries."""

    def __init__(self) -> None:
        super().__init__(max_attempts=1)


BUCKET = "archive"
KEY, SECRET, REGION = "test", "test", "us-east-1"
START_SECONDS = 120.0


class S3Server:
    """A server with an empty bucket. Raises ``EngineUnavailable`` if it cannot be installed."""

    def __enter__(self) -> Self:
        python = engine("s3")
        (self.port,) = free_ports(1)
        command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        request = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")  # noqa: S310 - loopback
        while True:
            try:
                loopback.urlopen(request, timeout=5).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.05)
            else:
                return self

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def options(self, url: str | None = None) -> tuple[str, ...]:
        """Options of PyIceberg's catalog that lead to it, or to what stands before it."""
        return (
            f"s3.endpoint={url or self.url}",
            f"s3.access-key-id={KEY}",
            f"s3.secret-access-key={SECRET}",
            f"s3.region={REGION}",
            f"s3.retry-strategy-impl={OneTry.__module__}.{OneTry.__name__}",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()


class FaultyFront:
    """Stands before an object store: answers some requests with an error, or late, and hands on the others."""

    def __init__(self, server: S3Server) -> None:
        self.fault: Callable[[str, str], int] = lambda _method, _path: 0
        """Method and path of a request -> status to answer with; 0: hand it on. It may sleep."""
        self.faults = 0
        front, port = self, server.port

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.body()
                status = front.fault(self.command, self.path)
                if status:
                    front.faults += 1
                    self.answer(status, [], b"")
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                left_out = ("transfer-encoding", "expect", "content-length")
                headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
                connection.request(self.command, self.path, body, headers)
                found = connection.getresponse()
                self.answer(found.status, found.getheaders(), found.read())
                connection.close()

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return found

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the names are the library's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="s3-front", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
