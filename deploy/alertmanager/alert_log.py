"""The webhook that alerts go to until yours is set: each becomes one line of JSON on standard output.

Alertmanager posts to ``/page``, ``/ticket`` or ``/watchdog``; the path is the ``route`` of the line.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 9094
MOST_BYTES = 64 * 1024


def lines(route: str, message: dict[str, Any]) -> list[str]:
    """One line for each alert of a message."""
    return [
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


class Handler(BaseHTTPRequestHandler):
    """Takes POSTs; everything else is not there."""

    timeout = 10.0

    def do_POST(self) -> None:
        """Write the alerts down; 400 for what is no message of Alertmanager's."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.send_error(413)
            return
        try:
            text = "".join(
                line + "\n" for line in lines(self.path.strip("/"), json.loads(self.rfile.read(int(length))))
            )
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            self.send_error(400)
            return
        sys.stdout.write(text)
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Say nothing of requests: the log is for alerts."""


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
