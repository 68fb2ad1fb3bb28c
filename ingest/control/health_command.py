"""``ingest health``: asks a running instance whether it is ready; for a container's health check.

Exit code 0 if it is ready, 1 if it is not or does not answer.
"""

import argparse
import http.client
import json
import os
from collections.abc import Mapping
from http import HTTPStatus

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.decoding import Undecodable, decode_json
from ingest.settings import load

EPILOG = """\
exit codes: 0 ready; 1 not ready, or no answer; 2 bad options or settings

examples:
  ingest health
  ingest health --port 9195 --json
"""
SECONDS = 3.0
"""The HTTP server answers from a thread of its own: even an instance with a hung event loop answers at once."""
MOST_BYTES = 64 * 1024
"""Of an answer; ours has less than a hundredth of it."""
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what the instance listens on
"""Where an instance is asked that listens on every address."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ingest health``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--host", type=kinds.host, metavar="HOST", help="of metrics and health (default: K2_METRICS_HOST)"
    )
    parser.add_argument(
        "--port", type=kinds.whole(1, 65_535), metavar="N", help="of metrics and health (default: K2_METRICS_PORT)"
    )
    parser.add_argument(
        "--timeout", type=kinds.number(above=0, most=3600), default=SECONDS, metavar="SECONDS",
        help="for an answer (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object, where there is no answer, too")


def run(arguments: argparse.Namespace) -> int:
    """Ask, print the answer, and return the exit code."""
    host, port = address_of(os.environ)
    host, port = arguments.host or host, arguments.port or port
    if port == 0:
        terminal.complain("ingest health", "K2_METRICS_PORT=0 lets the system choose the port: give --port")
        return exit_codes.UNUSABLE
    ok, text = ask(host, port, arguments.timeout)
    if arguments.json and not ok and not text.startswith("{"):
        text = json.dumps({"ok": False, "reason": text})
    terminal.write(f"{text}\n")
    return exit_codes.DONE if ok else exit_codes.FAIL


def address_of(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the instance of this environment answers: one that listens everywhere, on loopback.

    Raises ``BadSettings``.
    """
    names = ("K2_METRICS_HOST", "K2_METRICS_PORT")
    service = load({name: environment[name] for name in names if name in environment}).service
    return LOOPBACK.get(service.metrics_host, service.metrics_host), service.metrics_port


def ask(host: str, port: int, timeout: float) -> tuple[bool, str]:
    """Whether the instance at this address is ready, and its answer."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        body = response.read(MOST_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {host} port {port}: {error}"
    finally:
        connection.close()
    try:
        body = json.dumps(decode_json(body))
    except Undecodable:
        return False, f"{host} port {port} is no instance of ours: {body[:200]!r}"
    return response.status == HTTPStatus.OK, body
