"""Messages where a run fails, is late or asks: what is sent, and that nothing depends on it."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

CONTEXT: Any = {
    "dag_run": SimpleNamespace(dag_id="deploy_blue_green", run_id="manual__2026-01-22T03:15:00+00:00"),
    "ti": SimpleNamespace(task_id="approve"),
}


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    found: list[dict[str, str]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setenv("K2_NOTIFY_URL", f"http://127.0.0.1:{running.server_port}/hook")
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
        yield found
        running.shutdown()
        thread.join()


def test_a_message_names_run_task_and_address(received: list[dict[str, str]]) -> None:
    from ingest_ops.airflow.notifier import WebhookNotifier

    WebhookNotifier(text="a question").notify(CONTEXT)
    asyncio.run(WebhookNotifier(text="late").async_notify({}))  # a deadline's context may be empty
    first, second = received
    assert first == {
        "text": "a question",
        "dag_id": "deploy_blue_green",
        "run_id": "manual__2026-01-22T03:15:00+00:00",
        "task_id": "approve",
        "url": "https://airflow.example/dags/deploy_blue_green/runs/manual__2026-01-22T03%3A15%3A00%2B00%3A00",
    }
    assert (second["text"], second["url"]) == ("late", "https://airflow.example")


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://127.0.0.1:9/nobody"])
def test_a_message_that_cannot_be_sent_changes_nothing(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from ingest_ops.airflow.notifier import message, send

    monkeypatch.setenv("K2_NOTIFY_URL", url)
    assert send(message("lost", CONTEXT)) is False


def test_every_dag_that_judges_says_when_it_fails_or_is_late() -> None:
    from ingest_ops.airflow.notifier import WebhookNotifier, late

    alert = late(4, "no report")
    assert alert.interval == timedelta(hours=4)
    assert alert.callback.path.endswith("notifier.WebhookNotifier")
    assert WebhookNotifier(text="x").template_fields == ("text",)
