"""A package index on loopback that offers a newer version of everything, of names that it does not know, too."""

import hashlib
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.campaigns.locks import fabricate
from tools.locks import normal

NEWER = "9999.0"


class Index:
    """Serves files by name, and for every project that is asked for a fabricated version ``NEWER``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: set[str] = set()
        """Projects whose page was read."""
        self.served: list[str] = []
        """Files that were downloaded."""
        self._lock = threading.Lock()
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(*index.answer(self.path), whole=False)

            def do_GET(self) -> None:
                self._answer(*index.answer(self.path), whole=True)

            def _answer(self, body: bytes | None, kind: str, *, whole: bool) -> None:
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if whole:
                    self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                """Keep standard error clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Address for pip's ``--index-url``."""
        return f"http://127.0.0.1:{self._server.server_port}/simple/"

    def answer(self, path: str) -> tuple[bytes | None, str]:
        """Body and content type for a path."""
        if page := re.fullmatch(r"/simple/([^/]+)/", path):
            return self._page(normal(page[1])), "text/html"
        name = path.removeprefix("/files/")
        with self._lock:
            self.served.append(name)
        return self.files.get(name), "application/octet-stream"

    def _page(self, project: str) -> bytes:
        newer, content = fabricate.wheel(project, NEWER)
        with self._lock:
            self.asked.add(project)
            self.files.setdefault(newer, content)
            names = [name for name in self.files if project_of(name) == project]
        links = (
            f'<a href="/files/{name}#sha256={hashlib.sha256(self.files[name]).hexdigest()}">{name}</a>'
            for name in names
        )
        return "<!DOCTYPE html><html><body>{}</body></html>".format("\n".join(links)).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def project_of(file: str) -> str:
    """Project that a wheel or an sdist belongs to."""
    stem = file.removesuffix(".tar.gz")
    return normal(file.split("-")[0] if file.endswith(".whl") else stem.rpartition("-")[0])
