"""``ingest health``: asks a running instance whether it does its job. What a container's health check calls.

Exit code 0 where it commits (or stands by, warm), 1 where it does not, does not answer, or is not there.
"""

import argparse
import http.client
import json
import os
import sys
from collections.abc import Mapping
from http import HTTPStatus

from ingest.settings import load

EPILOG = """\
exit codes: 0 it commits, or stands by, warm; 1 it does not, or does not answer; 2 bad settings

examples:
  ingest health
  ingest health --port 9195 --json
"""
SECONDS = 3.0
"""The doors answer from threads of their own: even a hung instance says so at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ingest health``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--port", type=int, metavar="N", help="of metrics and health (default: K2_METRICS_PORT)")
    parser.add_argument(
        "--timeout", type=float, default=SECONDS, metavar="SECONDS", help="for an answer (default: %(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, where there is no answer, too")


def run(arguments: argparse.Namespace) -> int:
    """Ask, say what it said, and return the exit code."""
    port = arguments.port if arguments.port is not None else port_of(os.environ)
    ok, text = ask(port, arguments.timeout)
    if arguments.json and not ok and not text.startswith("{"):
        text = json.dumps({"ok": False, "reason": text})
    sys.stdout.write(f"{text}\n")
    return 0 if ok else 1


def port_of(environment: Mapping[str, str]) -> int:
    """The port that the instance beside us was told. Raises ``BadSettings``."""
    return load({name: environment[name] for name in ("K2_METRICS_PORT",) if name in environment}).service.metrics_port


def ask(port: int, timeout: float) -> tuple[bool, str]:
    """Whether the instance on this port of loopback is ready, and what it says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from port {port}: {error}"
    finally:
        connection.close()
    try:
        body = json.dumps(json.loads(body))
    except ValueError:
        return False, f"port {port} is no instance of ours: {body[:200]!r}"
    return response.status == HTTPStatus.OK, body
