"""A Prometheus of the gates that is away, something else, or answers in part, over a real socket."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ingest_ops.deployment.prometheus import NoAnswer, Prometheus, Sampled

VECTOR = [{"metric": {"slot": "green"}, "value": [1, "2.5"]}]
MATRIX = [{"metric": {"slot": "green"}, "values": [[1, "2"], [2, "3"]]}]


class Fake:
    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.url = ""

    def answer(self, result: Any, **more: Any) -> None:
        self.body = json.dumps({"status": "success", "data": {"result": result}, **more}).encode()


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(made.status)
            for name, value in {"Content-Length": str(len(made.body)), **made.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


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
