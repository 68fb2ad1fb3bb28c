"""A Prometheus that is away, slow, wrong, partial or empty, over a real socket."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_api_client import PrometheusConnect

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.validation.day import midnight
from ingest_ops.validation.day_reader import PrometheusAway, PrometheusRefused, PrometheusSource
from tests.unit.ingest_ops.validation.days import dates

(WHEN,) = dates(1, 1)
START = midnight(WHEN)
EMPTY = {"status": "success", "data": {"resultType": "matrix", "result": []}}
ABOUT = {
    "status/buildinfo": {"version": "2.42.0"},
    "rules": {"groups": [{"name": "ingest", "file": "/r.yml", "interval": 15, "rules": [
        {"type": "alerting", "name": "NoWriter", "query": "x", "duration": 60, "labels": {"severity": "page"}},
        {"type": "recording", "name": "r", "query": "x"}]}]},
}  # fmt: skip


@dataclass
class Fake:
    """Answers ``(status, headers, body)`` from ``answer(path, query)``."""

    answer: Callable[[str], tuple[int, dict[str, str], bytes]]
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""


def good(path: str) -> tuple[int, dict[str, str], bytes]:
    for name, data in ABOUT.items():
        if name in path:
            return 200, {}, json.dumps({"status": "success", "data": data}).encode()
    return 200, {}, json.dumps(EMPTY).encode()


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake(good)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.tokens.append(self.headers.get("Authorization", ""))
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def read(fake: Fake, **changes: Any) -> Any:
    options = {"retries": 0, "timeout_seconds": 5.0} | changes
    source = PrometheusSource(ReportSettings(prometheus_url=fake.url, **options))
    try:
        return source.day(WHEN)
    finally:
        source.close()


def test_an_empty_prometheus_is_an_empty_day(fake: Fake) -> None:
    day = read(fake)
    assert day.samples == 0
    assert day.prometheus == "2.42.0"
    assert [rule["name"] for rule in day.rules] == ["NoWriter"]
    assert len(day.rules_sha256) == 64


def refuse(status: int, headers: dict[str, str] | None = None) -> Callable[[str], tuple[int, dict[str, str], bytes]]:
    return lambda _: (status, headers or {}, b'{"status":"error","error":"no"}')


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again(fake: Fake, status: int) -> None:
    fake.answer = refuse(status)
    with pytest.raises(PrometheusRefused, match=str(status)):
        read(fake, retries=3)
    assert len(fake.asked) == 1


def test_a_redirect_is_not_followed(fake: Fake) -> None:
    fake.answer = refuse(302, {"Location": "http://169.254.169.254/"})
    with pytest.raises(PrometheusRefused):
        read(fake)
    assert len(fake.asked) == 1


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_error_of_its_own_is_tried_again_and_then_passed_on(fake: Fake, status: int) -> None:
    fake.answer = refuse(status)
    with pytest.raises(PrometheusAway):
        read(fake, retries=1)
    assert len(fake.asked) == 2


def test_what_comes_back_in_time_is_read(fake: Fake) -> None:
    def once_away(path: str) -> tuple[int, dict[str, str], bytes]:
        return refuse(503)(path) if len(fake.asked) == 1 else good(path)

    fake.answer = once_away
    assert read(fake, retries=2).samples == 0


def test_nobody_there_is_away() -> None:
    with pytest.raises(PrometheusAway):
        read(Fake(good, url="http://127.0.0.1:9"))


def test_a_slow_answer_is_away(fake: Fake) -> None:
    def slow(path: str) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1.0)
        return good(path)

    fake.answer = slow
    with pytest.raises(PrometheusAway):
        read(fake, timeout_seconds=0.2)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"status":"success"}', b'{"status":"success","data":null}', b"null",
     b'{"status":"success","data":{"result":[{"metric":{}}]}}',
     b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"x"]]}]}}'],
)  # fmt: skip
def test_something_else_is_away(fake: Fake, body: bytes) -> None:
    fake.answer = lambda _: (200, {}, body)
    with pytest.raises(PrometheusAway):
        read(fake)


def test_half_an_answer_is_away(fake: Fake) -> None:
    fake.answer = lambda _: (200, {"Content-Length": "1000", "Connection": "close"}, json.dumps(EMPTY).encode())
    with pytest.raises(PrometheusAway):
        read(fake)


def test_a_partial_answer_is_no_answer(fake: Fake) -> None:
    """The client itself drops the remark."""
    fake.answer = lambda _: (200, {}, json.dumps(EMPTY | {"warnings": ["a store is away"]}).encode())
    with pytest.raises(PrometheusAway, match="a store is away"):
        read(fake)
    assert PrometheusConnect(fake.url).custom_query("up") == []


def test_a_label_that_says_warnings_is_none(fake: Fake) -> None:
    row = {"metric": {"__name__": "up", "note": '"warnings"'}, "values": [[START + 1, "1"]]}
    data = {"status": "success", "data": {"resultType": "matrix", "result": [row]}}
    fake.answer = lambda path: good(path) if "query" not in path else (200, {}, json.dumps(data).encode())
    assert read(fake).samples > 0  # read, not refused as a partial answer


def test_the_token_goes_along_and_proxies_do_not_matter(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    (tmp_path / "token").write_text("abc\n")
    source = PrometheusSource(ReportSettings(prometheus_url=fake.url, prometheus_token_file=tmp_path / "token"))
    assert source.day(WHEN).samples == 0
    assert set(fake.tokens) == {"Bearer abc"}
    (tmp_path / "token").write_text("renewed\n")
    assert source.day(WHEN).samples == 0
    assert set(fake.tokens) == {"Bearer abc", "Bearer renewed"}
    (tmp_path / "token").unlink()
    with pytest.raises(PrometheusAway, match=f"the token file '{tmp_path}/token' cannot be used: No such file"):
        source.day(WHEN)
    source.close()
