"""The options of ``ingest audit`` and its exit code: 0 PASS, 1 FAIL, 2 INCONCLUSIVE."""

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

from prometheus_client import disable_created_metrics

from ingest.audit import report
from ingest.audit.agreement import TAKEN
from ingest.audit.agreement_run import AgreementAudit
from ingest.audit.content import CLOCK_TOLERANCE_SECONDS
from ingest.audit.decode import Decoder, SchemaRegistry
from ingest.audit.http import CA_BUNDLE, PROXY, Transport
from ingest.audit.ledger import Ledger
from ingest.audit.model import Inconclusive
from ingest.audit.run import Audit, Outcome
from ingest.audit.streams import STREAMS, rest_ledger, simulator_ledger, topic_of, topic_of_trades
from ingest.audit.topic import TopicReader
from ingest.audit.watch import Figures, watch
from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.http.metrics_page import Stop, metrics_server

EXIT_CODES = {"PASS": exit_codes.DONE, "FAIL": exit_codes.FAIL, "INCONCLUSIVE": exit_codes.INCONCLUSIVE}
PASSWORD = "K2_KAFKA_SCHEMA_REGISTRY_PASSWORD"  # noqa: S105 - the variable's name
ALLOWED_HOSTS = "K2_HTTP_ALLOWED_HOSTS"
STDOUT = Path("-")
PROGRESS_SECONDS = 2.0
EPILOG = """\
exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, bad options or a report that cannot be written (missing data is never
reported as PASS), 70 crashed

examples:
  ingest audit --bootstrap-servers localhost:9092 --schema-registry-url http://localhost:8081 \\
               --ledger http://127.0.0.1:9444                     against the simulator's ledger
  ingest audit --bootstrap-servers kafka:9092 --schema-registry-url http://registry:8081 \\
               --ledger-rest https://api.binance.com --newest-hours 2 --json audit.json
"""
DEFAULT_TOPIC = "market.crypto.trades.binance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the auditor's options."""
    parser.description = (
        "Compares the trades topic with the exchange's own trades: every id exactly once, in order and unaltered, "
        "every gap accounted for. What the ledger cannot show is INCONCLUSIVE."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--bootstrap-servers", required=True, metavar="HOST:PORT,...")
    add(
        "--stream", choices=tuple(STREAMS), default="trade", metavar="NAME",
        help="what to audit: trade, aggTrade, blockTrade, kline_<interval>, bookTicker, depth (default: %(default)s)",
    )  # fmt: skip
    add(
        "--topic",
        type=kinds.topic,
        help="default: market.crypto.<kind>.binance, of trades market.crypto.trades.binance",
    )
    add("--positions-topic", type=kinds.topic, help="default: the name of the topic of trades with .positions")
    add(
        "--without-positions",
        action="store_true",
        help="audit the trades alone, from each symbol's first record on",
    )
    add(
        "--shards", type=kinds.whole(1, 10_000), metavar="N",
        help="K2_SHARD_COUNT of the writers (default: what the positions topic, or else its writers, state)",
    )  # fmt: skip
    add("--schema-registry-url", type=kinds.url, required=True, metavar="URL")
    add("--schema-registry-user", metavar="USER", help=f"the password comes from {PASSWORD}")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--ledger", type=kinds.url, metavar="URL", help="admin address of the simulator")
    truth.add_argument("--ledger-rest", type=kinds.url, metavar="URL", help="REST address of the exchange")
    truth.add_argument(
        "--each-other",
        action="store_true",
        help="no ledger: compare the topics of all streams with each other; --topic is that of the trades",
    )
    add(
        "--rest-weight", type=kinds.whole(1), default=3000, metavar="N",
        help="with --ledger-rest: used weight per minute at which to wait (default: %(default)s)",
    )  # fmt: skip
    add(
        "--ca", type=kinds.path, metavar="FILE",
        help=f"PEM file of further authorities for the ledger and the registry (default: {CA_BUNDLE})",
    )  # fmt: skip
    add(
        "--proxy", metavar="URL",
        help=f"proxy for --ledger-rest, unless NO_PROXY names its host (default: {PROXY})",
    )  # fmt: skip
    add("--symbols", type=_names, default=(), metavar="A,B", help="default: all that the topics have")
    add("--expect-to-head", action="store_true", help="the topic must reach the ledger's last trade")
    add(
        "--head-settle", type=kinds.number(least=0), default=5.0, metavar="SECONDS",
        help="with --expect-to-head: how long a trade may take into the topic (default: %(default)g)",
    )  # fmt: skip
    add(
        "--newest-hours", type=kinds.number(above=0, most=1e6), metavar="HOURS",
        help="only what was written in that time, as if retention had removed the rest (default: everything)",
    )  # fmt: skip
    add(
        "--clock-tolerance", type=kinds.number(least=0), default=CLOCK_TOLERANCE_SECONDS, metavar="SECONDS",
        help="how far the writer's clock may be from the exchange's and the broker's (default: %(default)g)",
    )  # fmt: skip
    add(
        "--json",
        type=kinds.path,
        metavar="PATH",
        help="write the report to this file; -: print it instead of the table",
    )
    add(
        "--kafka-option", type=_option, action="append", default=[], metavar="K=V",
        help="an option of librdkafka, repeatable; K=env:NAME takes a secret from the environment",
    )  # fmt: skip
    add(
        "--timeout", type=kinds.number(above=0, most=86_400), default=60.0, metavar="SECONDS",
        help="give up after this long without an answer (default: %(default)g)",
    )  # fmt: skip
    add(
        "--every", type=kinds.number(above=0, most=86_400 * 30), metavar="SECONDS",
        help="audit again and again, until SIGTERM; see --listen",
    )  # fmt: skip
    add(
        "--listen", type=kinds.address, default=("127.0.0.1", 9097), metavar="HOST:PORT",
        help="with --every: serve the figures to Prometheus here (default: 127.0.0.1:9097)",
    )  # fmt: skip


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip().upper() for name in text.split(",") if name.strip()))


def _option(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError("an option is not K=V")  # what it is may be a secret
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{name!r}: no option has a NUL character")
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
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # else one line for each page of each audit
    disable_created_metrics()  # type: ignore[no-untyped-call]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    figures = Figures()
    host, port = args.listen
    allowed = os.environ.get(ALLOWED_HOSTS, "").split(",")
    try:
        with metrics_server("auditor", host, port, figures.registry, allowed_hosts=allowed):
            outcome = watch(
                lambda: _outcome(args), figures, every=args.every, stopping=stopping, now=lambda: time_ns() / 1e9
            )
    except Stop as error:
        terminal.complain("ingest audit", str(error))
        return exit_codes.UNUSABLE
    return exit_codes.INCONCLUSIVE if outcome is None else _publish(args, outcome)


def _publish(args: argparse.Namespace, outcome: Outcome) -> int:
    to_stdout = args.json == STDOUT
    terminal.write(
        json.dumps(report.as_json(outcome), indent=2) + "\n" if to_stdout else report.as_text(outcome), sys.stdout
    )
    if args.json is not None and not to_stdout:
        try:
            report.write_json(outcome, args.json)
        except OSError as error:
            terminal.complain("ingest audit", f"the report could not be written to {args.json}: {error}")
            return exit_codes.UNUSABLE
    return EXIT_CODES[outcome.verdict]


def _agreement(args: argparse.Namespace) -> Outcome:
    """Compare the topics of all streams with each other."""
    hours = args.newest_hours
    since = None if hours is None else time_ns() // 10**6 - round(hours * 3_600_000)
    of_trades = args.topic or DEFAULT_TOPIC
    streams = {name: STREAMS.get(name, STREAMS["kline_1m"]) for name in TAKEN}
    readers: list[TopicReader] = []
    try:
        registry = _registry(args, _transport(args))
        topics = {}
        for name, stream in streams.items():
            topic = topic_of(of_trades, stream.kind)
            options = dict(args.kafka_option)
            readers.append(
                TopicReader(args.bootstrap_servers, topic, options=options, timeout=args.timeout, since_ms=since)
            )
            topics[name] = (readers[-1], Decoder(registry.schema, stream.fields))
        progress = _Progress() if args.every is None else lambda _: None
        return AgreementAudit(topics, symbols=args.symbols, progress=progress).run()
    except Inconclusive as error:
        return Outcome(reason=str(error))
    finally:
        for reader in readers:
            reader.close()


def _registry(args: argparse.Namespace, transport: Transport) -> SchemaRegistry:
    return SchemaRegistry(
        args.schema_registry_url,
        user=args.schema_registry_user,
        password=os.environ.get(PASSWORD),
        transport=transport,
    )


def _outcome(args: argparse.Namespace) -> Outcome:
    if args.each_other:
        return _agreement(args)
    readers: list[TopicReader] = []
    try:
        hours = args.newest_hours
        since = None if hours is None else time_ns() // 10**6 - round(hours * 3_600_000)
        # Positions are compacted, not aged: they are always read from the beginning.
        stream = STREAMS[args.stream]
        topic = args.topic or f"market.crypto.{stream.kind}.binance"
        topics = [(topic, since)]
        if not args.without_positions:
            topics.append((args.positions_topic or f"{topic_of_trades(topic, stream.kind)}.positions", None))
        transport = _transport(args)
        for name, since_ms in topics:
            options = dict(args.kafka_option)
            readers.append(
                TopicReader(args.bootstrap_servers, name, options=options, timeout=args.timeout, since_ms=since_ms)
            )
        registry = _registry(args, transport)
        audit = Audit(
            readers[0],
            None if args.without_positions else readers[1],
            _ledger(args, transport),
            Decoder(registry.schema, stream.fields),
            stream=stream,
            symbols=args.symbols,
            expect_to_head=args.expect_to_head,
            settle_seconds=args.head_settle,
            shards=args.shards,
            clock_tolerance_seconds=args.clock_tolerance,
            progress=_Progress() if args.every is None else lambda _: None,
        )
        return audit.run()
    except Inconclusive as error:
        return Outcome(reason=str(error))
    finally:
        for reader in readers:
            reader.close()


class _Progress:
    """Prints a line on standard error every few seconds."""

    def __init__(self) -> None:
        self._printed = time.monotonic()

    def __call__(self, records: int) -> None:
        now = time.monotonic()
        if now - self._printed >= PROGRESS_SECONDS:
            self._printed = now
            terminal.write(f"{records:,} records audited\n", sys.stderr)


def _transport(args: argparse.Namespace) -> Transport:
    bundle = os.environ.get(CA_BUNDLE)
    ca = args.ca or (Path(bundle) if bundle else None)
    return Transport(args.timeout, ca, args.proxy or os.environ.get(PROXY) or None)


def _ledger(args: argparse.Namespace, transport: Transport) -> Ledger:
    if args.ledger:
        return simulator_ledger(args.ledger, args.stream, transport)
    return rest_ledger(args.ledger_rest, args.stream, transport, args.rest_weight)
