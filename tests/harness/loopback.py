"""HTTP to the parts that run on this machine: never through the proxy of the environment (``http_proxy``)."""

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

import httpx2

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def urlopen(request: str | urllib.request.Request, *, timeout: float) -> HTTPResponse:
    """As ``urllib.request.urlopen``, directly. Raises ``urllib.error.HTTPError`` for a status of 400 and more."""
    return cast("HTTPResponse", _DIRECT.open(request, timeout=timeout))


def get(url: str, **options: Any) -> httpx2.Response:
    """As ``httpx2.get``, directly."""
    return httpx2.get(url, trust_env=False, **options)


def post(url: str, **options: Any) -> httpx2.Response:
    """As ``httpx2.post``, directly."""
    return httpx2.post(url, trust_env=False, **options)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """An HTTP server on a thread that answers every GET with this body; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep standard error clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
