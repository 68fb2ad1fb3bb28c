"""A Prometheus of the gates that is away, something else, or answers in part, over a real socket."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ingest.core.errors import BadSettings
from ingest.simulator.tls import server_context
from ingest_ops.deployment.prometheus import NoAnswer, Prometheus, Sampled
from ingest_ops.deployment.settings import DeployerContext, load

VECTOR = [{"metric": {"slot": "green"}, "value": [1, "2.5"]}]
MATRIX = [{"metric": {"slot": "green"}, "values": [[1, "2"], [2, "3"]]}]


class Fake:
    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.url = ""
        self.tokens: list[str] = []
        self.servers: list[ThreadingHTTPServer] = []

    def answer(self, result: Any, **more: Any) -> None:
        self.body = json.dumps({"status": "success", "data": {"result": result}, **more}).encode()


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Authorization" in self.headers:
                made.tokens.append(self.headers["Authorization"])
            self.send_response(made.status)
            for name, value in {"Content-Length": str(len(made.body)), **made.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.servers.append(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def private(tmp_path: Path, fake: Fake) -> tuple[str, Path]:
    """The address of an HTTPS server before the fake, by an authority of its own, and that authority's file."""
    context, ca_file = server_context(tmp_path / "tls", "127.0.0.1")
    server = fake.servers[0]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return fake.url.replace("http://", "https://"), ca_file


def test_a_private_authority_and_a_token_are_those_of_the_files(
    fake: Fake, private: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, ca_file = private
    token = tmp_path / "token"
    token.write_text("a-token\n")
    fake.answer(VECTOR)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    with pytest.raises(NoAnswer, match="no connection"):
        Prometheus(url).value("up", 1.0)
    assert fake.tokens == []
    assert Prometheus(url, ca_file=ca_file, token_file=token).value("up", 1.0) == [2.5]
    settings = load(
        {
            "K2_DEPLOY_PROMETHEUS_URL": url,
            "K2_DEPLOY_PROMETHEUS_CA_FILE": str(ca_file),
            "K2_DEPLOY_PROMETHEUS_TOKEN_FILE": str(token),
            "K2_DEPLOY_JOURNAL_URL": f"sqlite:///{tmp_path}/journal.db",
            "K2_AGENT_TOKEN": "0123456789abcdef",
            "K2_CONTROL_TOKEN": "0123456789abcdef",
        }
    )
    with DeployerContext(settings, "a test") as context:
        assert context.queries.value("up", 1.0) == [2.5]
    assert fake.tokens == ["Bearer a-token"] * 2


def test_a_token_is_read_for_each_question(fake: Fake, tmp_path: Path) -> None:
    """A cluster renews the tokens that it mounts, and a deployment takes hours."""
    token = tmp_path / "token"
    token.write_text("first")
    fake.answer(VECTOR)
    queries = Prometheus(fake.url, token_file=token)
    queries.value("up", 1.0)
    token.write_text("second")
    queries.value("up", 1.0)
    token.unlink()
    with pytest.raises(NoAnswer, match=f"the token file '{token}' cannot be used: No such file"):
        queries.value("up", 1.0)
    os.mkfifo(token)
    with pytest.raises(NoAnswer, match="is no file"):
        queries.value("up", 1.0)
    token.unlink()
    token.write_text("third")
    assert queries.value("up", 1.0) == [2.5]
    assert fake.tokens == ["Bearer first", "Bearer second", "Bearer third"]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["K2_DEPLOY_PROMETHEUS_CA_FILE", "K2_DEPLOY_PROMETHEUS_TOKEN_FILE"])
def test_a_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadSettings, match=f"{name}='{path}': cannot be used: "):
        load({name: str(path), "K2_AGENT_TOKEN": "0123456789abcdef", "K2_CONTROL_TOKEN": "0123456789abcdef"})


def test_values_and_series_are_read(fake: Fake) -> None:
    fake.answer(VECTOR)
    assert Prometheus(fake.url).value("up", 1.0) == [2.5]
    fake.answer(MATRIX)
    assert Prometheus(fake.url).series("up", 0.0, 2.0) == [Sampled({"slot": "green"}, [(1.0, 2.0), (2.0, 3.0)])]


def test_a_partial_answer_is_no_answer(fake: Fake) -> None:
    fake.answer(VECTOR, warnings=["a store is away"])
    with pytest.raises(NoAnswer, match="a store is away"):
        Prometheus(fake.url).value("up", 1.0)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b"3", b"{}", b'{"data":null}', b'{"data":[]}', b'{"data":{"result":null}}',
     b'{"data":{"result":{}}}', b'{"data":{"result":[null]}}', b'{"data":{"result":[{}]}}',
     b'{"data":{"result":[{"metric":{},"value":[1]}]}}', b'{"data":{"result":[{"metric":{},"value":[1,"x"]}]}}',
     b'{"data":{"result":[{"metric":3,"values":[[1]],"value":3}]}}', b"[" * 100_000],
)  # fmt: skip
def test_something_else_is_no_answer(fake: Fake, body: bytes) -> None:
    fake.body = body
    with pytest.raises(NoAnswer):
        Prometheus(fake.url).value("up", 1.0)
    with pytest.raises(NoAnswer):
        Prometheus(fake.url).series("up", 0.0, 1.0)


def test_credentials_go_neither_to_a_proxy_nor_where_a_redirect_points(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    fake.answer(VECTOR)
    url = fake.url.replace("//", "//user:secret-word@")
    assert Prometheus(url).value("up", 1.0) == [2.5]
    fake.status, fake.headers = 302, {"Location": "http://127.0.0.1:9/"}
    with pytest.raises(NoAnswer) as caught:
        Prometheus(url).value("up", 1.0)
    assert "secret-word" not in str(caught.value)
