"""The auditor's HTTP clients: private CA, proxy, NO_PROXY, and no password in any error."""

import importlib.util
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest.audit.http import Transport, bypassed
from ingest.audit.ledger import RestLedger
from ingest.audit.model import Inconclusive
from ingest.simulator.tls import server_context
from tests.harness.audit.books import SYMBOL, trade
from tests.harness.audit.ledger_server import LedgerServer


class Proxy(ThreadingHTTPServer):
    """An HTTP proxy that forwards nothing: it answers itself and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("Proxy-Authorization")))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"[]")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_the_exchange_is_asked_through_the_proxy_unless_no_proxy_names_it(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    url = f"http://user:pass@127.0.0.1:{proxy.server_address[1]}"
    assert RestLedger("http://api.example", transport=Transport(proxy=url)).page(SYMBOL, 0, 5).trades == []
    assert proxy.asked == [
        (f"http://api.example/api/v3/historicalTrades?symbol={SYMBOL}&fromId=0&limit=5", "Basic dXNlcjpwYXNz")
    ]
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert RestLedger(server.url, transport=Transport(proxy=url)).page(SYMBOL, 0, 5).trades == [trade(1)]
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        ("", "https://api.binance.com", False),
        ("binance.com", "https://api.binance.com", True),
        (".binance.com, other", "https://api.binance.com:443", True),
        ("api.binance.com:443", "https://api.binance.com:443", True),
        ("*", "https://api.binance.com", True),
        ("inance.com", "https://api.binance.com", False),
    ],
)
def test_no_proxy(names: str, host: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", names)
    monkeypatch.delenv("no_proxy", raising=False)
    assert bypassed(host) is expected


@pytest.mark.parametrize("url", ["foo://u:canary@h:1", "http://u:canary@h:port", "socks5://u:canary@h:1080"])
def test_a_proxy_that_cannot_be_used_is_no_verdict_and_shows_no_password(url: str) -> None:
    if url.startswith("socks5") and importlib.util.find_spec("socksio") is not None:
        pytest.skip("the package for SOCKS proxies is installed: it can be used")
    with pytest.raises(Inconclusive, match="proxy") as caught:
        Transport(proxy=url).client("http://api.example", proxied=True)
    assert "canary" not in str(caught.value)


def test_a_private_authority_is_trusted_if_its_file_is_given(tmp_path: Path) -> None:
    context, ca_file = server_context(tmp_path, "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            for _ in range(2):
                try:
                    with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                        connection.recv(10_000)
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
                except (ssl.SSLError, OSError):
                    continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{port}"
        with Transport(5.0).client(url) as stranger, pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.get("/")
        ledger = RestLedger(url, transport=Transport(5.0, ca_file))
        assert ledger.page(SYMBOL, 0, 5).trades == []
        thread.join(5)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bad_authority_file_is_no_verdict(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Inconclusive, match="CA file"):
        Transport(ca=file).client("https://h")
