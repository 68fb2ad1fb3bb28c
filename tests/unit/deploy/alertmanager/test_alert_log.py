"""The default receiver of alerts, over a real socket."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from deploy.alertmanager.alert_log import lines, respond
from ingest.http.connection import MAX_BODY
from ingest.http.limits import Limits
from ingest.http.server import HttpServer

MESSAGE = {
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "IngestNoWriter", "severity": "page"},
            "annotations": {"summary": "Nobody writes\nforged", "runbook_url": "docs/runbook.md#ingestnowriter"},
            "startsAt": "2026-01-01T00:00:00Z",
        },
        {"status": "resolved", "labels": {"alertname": "Watchdog"}},
    ]
}


@pytest.fixture
def port() -> Iterator[int]:
    with HttpServer("alert log", "127.0.0.1", 0, respond) as server:
        yield int(server.url.rpartition(":")[2])


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body=body, headers=headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_each_alert_is_one_line(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert post(port, "/page", json.dumps(MESSAGE).encode()) == 200
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["route"], one["status"], one["labels"]["alertname"]) for one in written] == [
        ("page", "firing", "IngestNoWriter"),
        ("page", "resolved", "Watchdog"),
    ]
    assert written[0]["summary"] == "Nobody writes\nforged"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"a":' + b"[" * 20_000, b'{"alerts":3}'])
def test_what_is_no_message_is_refused_and_writes_nothing(
    port: int, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert post(port, "/page", body) == 400
    assert capsys.readouterr().out == ""


def test_an_unending_message_is_not_read(port: int) -> None:
    assert post(port, "/page", b"{}", {"Content-Length": str(MAX_BODY + 1)}) == 413


def test_clients_that_never_finish_keep_no_alert_out(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * Limits().connections):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            one.sendall(b"POST /page HTTP/1.1\r\nX: ")
        assert post(port, "/page", json.dumps(MESSAGE).encode()) == 200


def test_only_posts_are_taken(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/page")
    assert connection.getresponse().status == 405
    connection.close()


def test_alerts_that_a_message_leaves_out_are_a_line() -> None:
    (first, *rest) = lines("page", {**MESSAGE, "truncatedAlerts": 7})
    assert json.loads(first) == {"route": "page", "left_out": 7}
    assert len(rest) == 2


def test_no_alerts_are_no_lines() -> None:
    assert lines("page", {}) == []
