"""The options of ``python -m ingest_ops exporter``."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from time import time_ns

from prometheus_client import CollectorRegistry, start_http_server

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.core.errors import BadSettings
from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.settings import load
from ingest_ops.exporter.collector import Operations

EPILOG = """\
Reports and journal are those of K2_DEPLOY_REPORTS and K2_DEPLOY_JOURNAL_URL. It serves metrics, and nothing else.

exit codes: 0 stopped by SIGTERM or SIGINT, 2 bad settings

examples:
  python -m ingest_ops exporter
  K2_DEPLOY_REPORTS=/srv/reports python -m ingest_ops exporter --host 0.0.0.0 --port 9098
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--host", type=kinds.host, default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=kinds.port, default=9098, help="default: %(default)s")


def run(namespace: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load(os.environ)
        registry = CollectorRegistry()
        journal_url = settings.journal_url
        registry.register(Operations(Path(settings.reports), lambda: Journal(journal_url, lambda: time_ns() / 1e9)))
        server, thread = start_http_server(namespace.port, namespace.host, registry)
    except (BadSettings, OSError) as error:
        terminal.complain("ingest_ops exporter", str(error))
        return exit_codes.UNUSABLE
    terminal.write(f"metrics on http://{namespace.host}:{namespace.port}/metrics\n", sys.stderr)
    stop.wait()
    server.shutdown()
    server.server_close()
    thread.join()
    return 0
