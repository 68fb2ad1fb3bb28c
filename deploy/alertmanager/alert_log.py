"""The webhook that alerts go to until yours is set: each becomes one line of JSON on standard output.

Alertmanager posts to ``/page``, ``/ticket`` or ``/watchdog``; the path is the ``route`` of the line. Runs in the
service's image, on the service's HTTP server.
"""

import json
import signal
import sys
import threading
from http import HTTPStatus
from typing import Any

from ingest.decoding import Undecodable, decode_json, decoding
from ingest.http.messages import HttpError, Request, Response, json_response, not_allowed
from ingest.http.server import HttpServer

PORT = 9094


def lines(route: str, message: dict[str, Any]) -> list[str]:
    """One line for each alert of a message, and one for those that it leaves out (``max_alerts``)."""
    left_out = int(message.get("truncatedAlerts", 0))
    more = [json.dumps({"route": route, "left_out": left_out})] if left_out else []
    return more + [
        json.dumps(
            {
                "route": route,
                "status": alert.get("status"),
                "labels": alert.get("labels", {}),
                "summary": alert.get("annotations", {}).get("summary", ""),
                "runbook": alert.get("annotations", {}).get("runbook_url", ""),
                "starts_at": alert.get("startsAt"),
                "ends_at": alert.get("endsAt"),
            }
        )
        for alert in message.get("alerts", [])
    ]


def respond(request: Request) -> Response:
    """Write the alerts down; 400 for what is no message of Alertmanager's."""
    if request.method != "POST":
        raise not_allowed(request, "POST")
    try:
        with decoding():
            text = "".join(line + "\n" for line in lines(request.path.strip("/"), decode_json(request.body())))
    except Undecodable as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"no message of Alertmanager's: {error}") from error
    sys.stdout.write(text)
    sys.stdout.flush()
    return json_response(HTTPStatus.OK, {})


def main() -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with HttpServer("alert log", "", PORT, respond):
        ended.wait()


if __name__ == "__main__":
    main()
