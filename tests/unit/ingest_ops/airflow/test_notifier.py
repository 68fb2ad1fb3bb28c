"""Messages where a run fails, is late or asks: what is sent, and that nothing depends on it."""

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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


def test_a_late_run_is_counted_from_its_creation_and_can_be_cleared() -> None:
    """Clearing a run whose deadline counts from its queueing ends with an error 500 in Airflow 3.3.2."""
    from airflow.serialization.decoders import decode_deadline_reference
    from airflow.serialization.encoders import encode_deadline_alert

    from ingest_ops.airflow.notifier import late

    stored = encode_deadline_alert(late(4, "no report"))["reference"]
    assert stored["reference_type"] == "RunCreated", "not the one that is computed again when a run is cleared"
    session: Any = None
    before = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
    due = decode_deadline_reference(stored).evaluate_with(
        session=session, interval=timedelta(hours=4), dag_id="d", run_id="r"
    )
    assert before <= due - timedelta(hours=4) <= datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
