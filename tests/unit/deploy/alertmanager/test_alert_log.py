"""The default receiver of alerts, over a real socket."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from deploy.alertmanager.alert_log import Handler, lines

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
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


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
    assert post(port, "/page", b"{}", {"Content-Length": str(64 * 1024 + 1)}) == 413


def test_no_alerts_are_no_lines() -> None:
    assert lines("page", {}) == []
