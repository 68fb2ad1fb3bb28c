"""The endpoints of both servers, over real sockets."""

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from ingest.control.command_schemas import Drain
from ingest.control.server import ControlServer, Health, Process, StatusServer
from ingest.core.errors import Stop
from ingest.http.commands import ID_HEADER, TIME_HEADER
from ingest.service.loop_commands import LoopCommands
from tests.unit.ingest.control.conftest import TOKEN, TOKENS, FakeProbe, ask

# ---- metrics, health, status


def test_metrics_are_prometheus_text_unless_open_metrics_is_asked_for(status_url: str) -> None:
    plain = ask(status_url, "GET", "/metrics?x=1")
    assert plain.status == 200
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"trades_total 7.0\n" in plain.body
    assert b"# EOF" not in plain.body
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    modern = ask(status_url, "GET", "/metrics", headers=accept)
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.body.endswith(b"# EOF\n")


def test_an_unreadable_accept_header_still_gets_metrics(status_url: str) -> None:
    answered = ask(status_url, "GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=x.y"})
    assert answered.status == 200
    assert b"trades_total" in answered.body


def test_health_is_200_or_503_with_the_reason(status_url: str, probe: FakeProbe) -> None:
    good = ask(status_url, "GET", "/health/live")
    assert (good.status, good.content) == (200, {"ok": True, "reason": "", "loop_seconds": 0.1})
    probe.fit = Health(ok=False, reason="nothing was committed", details={"ok": "shadowed", "age": float("inf")})
    bad = ask(status_url, "GET", "/health/ready")
    assert (bad.status, bad.content) == (503, {"ok": False, "reason": "nothing was committed", "age": None})
    assert bad.headers["Content-Type"].startswith("application/json")
    assert ask(status_url, "GET", "/health/live").status == 200


def test_status_is_json_whatever_is_in_it(status_url: str, probe: FakeProbe) -> None:
    probe.state = {"role": "active", "symbols": {"BTCUSDT": 5}, "error": Stop("no")}
    assert ask(status_url, "GET", "/status").content == {"role": "active", "symbols": {"BTCUSDT": 5}, "error": "no"}


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready", "/status"])
def test_head_has_the_headers_and_no_body_and_nothing_else_is_allowed(status_url: str, path: str) -> None:
    head = ask(status_url, "HEAD", path)
    assert head.status == 200
    assert int(head.headers["Content-Length"]) > 0
    assert head.body == b""
    refused = ask(status_url, "POST", path, body=b"{}")
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET, HEAD"


def test_health_is_answered_while_requests_for_the_status_wait(
    status_url: str, probe: FakeProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = threading.Event()

    def slow() -> dict[str, Any]:
        opened.wait(60)
        return {}

    monkeypatch.setattr(probe, "status", slow)
    address = urlsplit(status_url)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            one = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            one.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):
            assert ask(status_url, "GET", "/health/live").status == 200
        assert ask(status_url, "GET", "/metrics").status == 503
        opened.set()


def test_an_unknown_path_is_404_and_says_what_there_is(status_url: str) -> None:
    for path in ("/", "/health", "/metrics/", "/control/status"):
        answered = ask(status_url, "GET", path)
        assert answered.status == 404
        assert "/health/live" in answered.content["error"]


def test_an_unforeseen_error_is_answered_and_logged(
    status_url: str, probe: FakeProbe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, Any]:
        raise KeyError("gone")

    monkeypatch.setattr(probe, "status", broken)
    assert ask(status_url, "GET", "/status").status == 500
    deadline = time.monotonic() + 30
    while "KeyError" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "KeyError: 'gone'" in caplog.text
    assert ask(status_url, "GET", "/metrics").status == 200


def test_a_hung_loop_is_still_seen_and_its_commands_time_out(probe: FakeProbe, registry: CollectorRegistry) -> None:
    hung, release = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()
    commands = LoopCommands(loop)
    done: list[str] = []

    async def drain(_: Drain) -> dict[str, Any]:
        done.append("drain")
        return {"state": "draining"}

    def hang() -> None:
        hung.set()
        release.wait(60)

    commands.serve({Drain: drain})
    loop.call_soon(hang)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def command(name: str) -> dict[str, str]:
        return {**headers, ID_HEADER: f"command-{name}", TIME_HEADER: f"{time.time_ns() / 1e9:.3f}"}

    try:
        assert hung.wait(30)
        with (
            StatusServer("127.0.0.1", 0, registry=registry, probe=probe, process=Process("blue", "1")) as status,
            ControlServer(
                "127.0.0.1", 0, tokens=TOKENS, probe=probe, commands=commands, command_seconds=1.5
            ) as control,
        ):
            began = time.monotonic()
            assert ask(status.url, "GET", "/health/live").status == 200
            assert ask(status.url, "GET", "/metrics").status == 200
            assert ask(control.url, "GET", "/control/status", headers=headers).status == 200
            late = ask(control.url, "POST", "/control/drain", headers=command("late"))
            assert late.status == 504
            assert "may still be carried out" in late.content["error"]
            assert time.monotonic() - began < 30  # and not the 60 that the loop hangs
            assert done == []
            release.set()
            deadline = time.monotonic() + 30
            while not done and time.monotonic() < deadline:
                time.sleep(0.01)
            again = ask(control.url, "POST", "/control/drain", headers=command("again"))
            assert (again.status, again.content) == (200, {"state": "draining"})
            assert done == ["drain", "drain"]
    finally:
        release.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
