"""Answers are read up to a bound, whatever answers."""

import ast
import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from ingest.http.answers import MiB, TooMuch, ask, pieces

ROOT = Path(__file__).resolve().parents[4]
ASKING = frozenset({"delete", "get", "head", "patch", "post", "put", "request", "send", "stream"})
BOUNDED = {
    "plugins/ingest_ops/archive/daily_files.py": "a file, through pieces",
    "plugins/ingest_ops/validation/exchange_counts.py": "through pieces",
    "plugins/ingest_ops/validation/day_reader.py": "Prometheus, which is trusted, through its own client",
    "ingest/http/answers.py": "it bounds",
    "ingest/audit/ledger.py": "through ingest.http.answers",
    "ingest/audit/book_truth.py": "through ingest.http.answers",
    "ingest/audit/stream_ledger.py": "through ingest.http.answers",
    "ingest/binance/rest.py": "BODY_LIMIT",
    "ingest/kafka/schemas.py": "BODY_LIMIT",
    "ingest/control/health_command.py": "reads MOST_BYTES",
    "ingest/reader/schemas.py": "BODY_LIMIT",
    "ingest/fleet/endpoints.py": "reads MOST_BYTES",
    "plugins/ingest_ops/airflow/hooks.py": "reads nothing",
    "plugins/ingest_ops/airflow/notifier.py": "reads nothing",
}
"""Files that speak HTTP as a client themselves, and how they bound the answer."""


class Endless(httpx2.SyncByteStream):
    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.given += 1
            yield b"x" * MiB


def client(answer: httpx2.Response) -> httpx2.Client:
    return httpx2.Client(base_url="http://x", transport=httpx2.MockTransport(lambda _: answer))


def test_an_answer_within_the_bound_is_as_it_would_be_without() -> None:
    sent = gzip.compress(b'{"a": 1}')
    answer = httpx2.Response(201, headers={"Content-Encoding": "gzip", "X-A": "b"}, content=sent)
    found = ask(client(answer), "POST", "/y", most_bytes=8)
    assert (found.status_code, found.json(), found.headers["x-a"]) == (201, {"a": 1}, "b")
    assert str(found.request.url) == "http://x/y"


def test_an_answer_without_end_is_left_at_the_bound() -> None:
    stream = Endless()
    with pytest.raises(TooMuch, match="beyond"):
        ask(client(httpx2.Response(200, stream=stream)), "GET", "/", most_bytes=3 * MiB)
    assert stream.given == 4


def test_the_bound_counts_what_an_answer_inflates_to() -> None:
    bomb = gzip.compress(b"\0" * (64 * MiB))
    assert len(bomb) < MiB
    with pytest.raises(TooMuch):
        ask(
            client(httpx2.Response(200, headers={"Content-Encoding": "gzip"}, content=bomb)),
            "GET", "/", most_bytes=MiB,
        )  # fmt: skip


def test_an_answer_that_drips_is_left_after_its_time() -> None:
    with pytest.raises(TooMuch, match="more than 0 s"):
        list(pieces(iter([b"a", b"b"]), most_bytes=100, most_seconds=0))


def _asks(tree: ast.Module) -> Iterator[int]:
    """Lines with a request of an HTTP client, told by the name of what is called."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="HTTPConnection" | "HTTPSConnection" | "urlopen")):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr="open", value=ast.Name(id="_DIRECT"))):  # an opener without proxies
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr=verb, value=ast.Name(id=name) | ast.Attribute(attr=name))) if (
                verb in ASKING and any(word in name.lower() for word in ("client", "http", "session", "requests"))
            ):
                yield node.lineno
            case _:
                pass


def test_every_client_of_http_bounds_what_it_reads() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("ingest", "plugins/ingest_ops")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not {"simulator", "server.py", "clients.py"} & set(path.parts) and list(_asks(ast.parse(path.read_text())))
    }
    assert found == set(BOUNDED), "read through ingest.http.answers, or say how it is bounded"
