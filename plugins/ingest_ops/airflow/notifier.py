"""A message to a web address where a run fails, is late, or waits for a person."""

import asyncio
import json
import logging
import os
import time
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseNotifier, Context
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

log = logging.getLogger(__name__)

URL = "K2_NOTIFY_URL"
SECONDS = 10.0


class WebhookNotifier(BaseNotifier):
    """POSTs JSON to the address in ``K2_NOTIFY_URL``; without one the message is a line of the log alone.

    ``{"text", "dag_id", "run_id", "task_id", "url"}``; ``text`` is what chat services show. A message that cannot be
    sent is logged and changes nothing.
    """

    template_fields: Sequence[str] = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Context) -> None:
        """Send it."""
        send(message(self.text, context))

    async def async_notify(self, context: Context) -> None:
        """Send it from the triggerer."""
        await asyncio.to_thread(send, message(self.text, context))


def message(text: str, context: Any) -> dict[str, str]:
    """What is sent. A deadline's context has plain data in place of objects, or nothing."""
    run = context.get("dag_run") or {}
    ti = context.get("ti") or context.get("task_instance") or {}
    dag_id, run_id = (_get(run, name) for name in ("dag_id", "run_id"))
    base = os.environ.get("AIRFLOW__API__BASE_URL", "").rstrip("/")
    url = f"{base}/dags/{dag_id}/runs/{quote(run_id, safe='')}" if dag_id and run_id else base
    return {"text": text, "dag_id": dag_id, "run_id": run_id, "task_id": _get(ti, "task_id"), "url": url}


def _get(thing: Any, name: str) -> str:
    if isinstance(thing, dict):
        return str(thing.get(name) or thing.get("dag_run_id" if name == "run_id" else name) or "")
    return str(getattr(thing, name, "") or "")


def send(body: dict[str, str]) -> bool:
    """POST it; whether that worked."""
    url = os.environ.get(URL, "")
    log.warning("%s (%s %s)", body["text"], body["dag_id"], body["run_id"])
    if not url:
        return False
    if urlsplit(url).scheme not in ("http", "https"):
        log.error("%s is no http address", URL)
        return False
    request = urllib.request.Request(  # noqa: S310 - checked above
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310 - checked above
            return True
    except OSError as error:
        log.error("%s does not take the message: %s", URL, error)  # noqa: TRY400 - the text says it all
        return False


class RunCreated(BaseDeadlineReference):
    """When the run was created, whatever day it is for. A run that is cleared keeps its deadline.

    Airflow's own ``DAGRUN_QUEUED_AT`` is computed again when a run is cleared, which Airflow 3.3.2 answers with an
    error 500 for every interval: no run of a DAG with such a deadline could be cleared.
    """

    def _evaluate_with(self, **_: Any) -> datetime:
        """Airflow evaluates it as it creates the run."""
        return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


def late(hours: float, text: str) -> DeadlineAlert:
    """The message ``text`` where a run is not over so many hours after it was created."""
    return DeadlineAlert(
        reference=RunCreated(),
        interval=timedelta(hours=hours),
        callback=AsyncCallback(WebhookNotifier, {"text": text}),
    )
