"""The options of ``python -m ingest_ops exporter``."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from time import time_ns

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.core.errors import BadSettings, Stop
from ingest.http.metrics_page import metrics_server
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
    disable_created_metrics()  # type: ignore[no-untyped-call]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load(os.environ)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        journal_url = settings.journal_url
        reports, clock = Path(settings.reports), lambda: time_ns() / 1e9
        registry.register(Operations(reports, lambda: Journal(journal_url, clock), clock))
        allowed = os.environ.get("K2_HTTP_ALLOWED_HOSTS", "").split(",")
        with metrics_server("exporter", namespace.host, namespace.port, registry, allowed_hosts=allowed) as server:
            terminal.write(f"metrics on {server.url}/metrics\n", sys.stderr)
            stop.wait()
    except (BadSettings, Stop) as error:
        terminal.complain("ingest_ops exporter", str(error))
        return exit_codes.UNUSABLE
    return 0
