"""The archive's clients: only an exchange outside is reached through the proxy of the environment."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ingest_ops.archive.exchange_client import exchange_client, is_loopback
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.source import Schemas


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"schema": "\\"string\\""}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine, where the environment names a proxy that does not answer."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_registry_and_an_exchange_on_this_machine_answer_although_there_is_a_proxy(url: str) -> None:
    schemas = Schemas(ArchiveSettings(schema_registry_url=url))
    assert schemas[bytes(5)] == "string"
    schemas.close()
    with exchange_client(url, timeout=10.0) as client:
        assert client.get(url).status_code == 200


@pytest.mark.parametrize(("address", "loopback"), [
    ("http://127.0.0.1:9100", True), ("http://127.8.0.1", True), ("http://[::1]:9100/x", True),
    ("http://localhost:9100", True), ("http://sim.localhost", True), ("https://api.binance.com", False),
    ("http://simulator:9100", False), ("http://10.0.0.7:9100", False), ("https://localhost.example", False),
    ("", False),
])  # fmt: skip
def test_this_machine_is_known_by_its_names(address: str, *, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(("address", "obeys"), [("https://api.binance.com", True), ("http://127.0.0.1:9100", False)])
def test_only_an_exchange_outside_may_be_behind_the_proxy_of_the_environment(address: str, *, obeys: bool) -> None:
    with exchange_client(address, timeout=1.0, headers={"X": "y"}, follow_redirects=True) as client:
        assert client.trust_env is obeys
        assert (client.headers["X"], client.follow_redirects) == ("y", True)
