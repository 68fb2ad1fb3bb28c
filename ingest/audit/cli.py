"""The options of ``ingest audit`` and its exit code: 0 clean, 1 a violation, 2 it could not judge."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from time import time_ns

from prometheus_client import start_http_server

from ingest.audit import report
from ingest.audit.decode import Decoder, SchemaRegistry
from ingest.audit.ledger import Ledger, RestLedger, SimulatorLedger
from ingest.audit.model import Inconclusive
from ingest.audit.run import Audit, Outcome
from ingest.audit.topic import TopicReader
from ingest.audit.watch import Figures, watch

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2}
PASSWORD = "K2_KAFKA_SCHEMA_REGISTRY_PASSWORD"  # noqa: S105 - the variable's name
STDOUT = Path("-")
PROGRESS_SECONDS = 2.0
EPILOG = """\
exit codes: 0 clean, 1 a violation, 2 it could not judge (no data is never a pass)

examples:
  ingest audit --bootstrap-servers localhost:9092 --schema-registry-url http://localhost:8081 \\
               --ledger http://127.0.0.1:9444                     against the simulator's books
  ingest audit --bootstrap-servers kafka:9092 --schema-registry-url http://registry:8081 \\
               --ledger-rest https://api.binance.com --newest-hours 2 --json audit.json
"""
DEFAULT_TOPIC = "market.crypto.trades.binance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the auditor's options."""
    parser.description = (
        "Holds the trades topic against the exchange's own books: every id exactly once, in order and unaltered, every "
        "hole accounted for."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT,...")
    parser.add_argument("--topic", default=DEFAULT_TOPIC, help="default: %(default)s")
    parser.add_argument("--positions-topic", help="default: the topic's name with .positions")
    parser.add_argument("--schema-registry-url", type=_url, required=True, metavar="URL")
    parser.add_argument("--schema-registry-user", metavar="USER", help=f"the password comes from {PASSWORD}")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--ledger", type=_url, metavar="URL", help="admin address of the simulator")
    truth.add_argument("--ledger-rest", type=_url, metavar="URL", help="REST address of the exchange")
    parser.add_argument(
        "--rest-weight", type=int, default=3000, metavar="N",
        help="with --ledger-rest: used weight per minute at which to wait (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--symbols", type=_names, default=(), metavar="A,B", help="default: all that the topics have")
    parser.add_argument("--expect-to-head", action="store_true", help="the topic must reach the ledger's last trade")
    parser.add_argument(
        "--newest-hours", type=float, metavar="HOURS",
        help="only what was written in that time, as if retention had removed the rest (default: everything)",
    )  # fmt: skip
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="write the report here, too; -: print it instead of the table",
    )
    parser.add_argument(
        "--kafka-option", type=_option, action="append", default=[], metavar="K=V",
        help="an option of librdkafka, repeatable; K=env:NAME takes a secret from the environment",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS",
        help="give up after this long without an answer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="audit again and again, until SIGTERM; see --listen"
    )
    parser.add_argument(
        "--listen", type=_address, default=("127.0.0.1", 9097), metavar="HOST:PORT",
        help="with --every: serve the figures to Prometheus here (default: 127.0.0.1:9097)",
    )  # fmt: skip


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is http(s)://host[:port]")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip().upper() for name in text.split(",") if name.strip()))


def _option(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    if value.startswith("env:"):
        variable = value.removeprefix("env:")
        if variable not in os.environ:
            raise argparse.ArgumentTypeError(f"{name}: the environment has no {variable}")
        value = os.environ[variable]
    return name, value


def run(args: argparse.Namespace) -> int:
    """Audit; returns the exit code."""
    if args.every is not None:
        return _watch(args)
    return _publish(args, _outcome(args))


def _watch(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each page of each audit says nothing
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    figures = Figures()
    host, port = args.listen
    try:
        server, thread = start_http_server(port, host, figures.registry)
    except OSError as error:
        sys.stderr.write(f"ingest audit: {host}:{port}: {error}\n")
        return 2
    try:
        outcome = watch(
            lambda: _outcome(args), figures, every=args.every, stopping=stopping, now=lambda: time_ns() / 1e9
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return 2 if outcome is None else _publish(args, outcome)


def _publish(args: argparse.Namespace, outcome: Outcome) -> int:
    to_stdout = args.json == STDOUT
    sys.stdout.write(json.dumps(report.as_json(outcome), indent=2) + "\n" if to_stdout else report.as_text(outcome))
    sys.stdout.flush()
    if args.json is not None and not to_stdout:
        try:
            report.write_json(outcome, args.json)
        except OSError as error:
            sys.stderr.write(f"the report could not be written to {args.json}: {error}\n")
            return 1 if outcome.verdict == "FAIL" else 2
    return EXIT_CODES[outcome.verdict]


def _outcome(args: argparse.Namespace) -> Outcome:
    readers: list[TopicReader] = []
    try:
        hours = args.newest_hours
        since = None if hours is None else time_ns() // 10**6 - round(hours * 3_600_000)
        # Positions are compacted, not aged: they are always read from the beginning.
        for topic, since_ms in ((args.topic, since), (args.positions_topic or f"{args.topic}.positions", None)):
            options = dict(args.kafka_option)
            readers.append(
                TopicReader(args.bootstrap_servers, topic, options=options, timeout=args.timeout, since_ms=since_ms)
            )
        registry = SchemaRegistry(
            args.schema_registry_url,
            user=args.schema_registry_user,
            password=os.environ.get(PASSWORD),
            timeout=args.timeout,
        )
        audit = Audit(
            readers[0],
            readers[1],
            _ledger(args),
            Decoder(registry.schema),
            symbols=args.symbols,
            expect_to_head=args.expect_to_head,
            progress=_Progress() if args.every is None else lambda _: None,
        )
        return audit.run()
    except Inconclusive as error:
        return Outcome(reason=str(error))
    finally:
        for reader in readers:
            reader.close()


class _Progress:
    """A line on standard error every few seconds, so that nobody wonders whether it hangs."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, records: int) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            sys.stderr.write(f"{records:,} records audited\n")
            sys.stderr.flush()


def _ledger(args: argparse.Namespace) -> Ledger:
    if args.ledger:
        return SimulatorLedger(args.ledger, timeout=args.timeout)
    return RestLedger(args.ledger_rest, timeout=args.timeout, weight_limit=args.rest_weight)
