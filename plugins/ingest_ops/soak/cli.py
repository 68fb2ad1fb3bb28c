"""``python -m ingest_ops soak``: watch a running service, judge a record again, measure the method's error rates."""

import argparse
import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.decoding import decode_json
from ingest_ops.common.audit_runner import AuditResult, run_audit
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.files import RUN_ID
from ingest_ops.soak.engine import Engine
from ingest_ops.soak.error_rates import RATES, Rates
from ingest_ops.soak.plan import PLANS
from ingest_ops.soak.record import CANDIDATE, PREVIOUS, BadRecord, Record
from ingest_ops.soak.sources import Source, source_from

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}
REPORTS = Path("reports/soak")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the soak's sub-commands."""
    _explain(parser, "run --plan 1h --run-id by-hand --metrics-url http://localhost:9095/metrics", "schema")
    parts = parser.add_subparsers(dest="part", required=True, metavar="part")
    watch = parts.add_parser("run", help="watch a running service until the soak is over; started again, it goes on")
    _explain(
        watch,
        "run --plan 1h --run-id by-hand --metrics-url http://localhost:9095/metrics",
        "run --plan 24h --run-id week-4 --prometheus-url http://localhost:9090 --selector 'slot=\"blue\"' --json",
    )
    watch.add_argument("--plan", choices=sorted(PLANS), default="1h")
    watch.add_argument("--run-id", required=True, type=kinds.run_id, help="name of the run and of its files")
    watch.add_argument(
        "--seconds", type=kinds.seconds, help="a trial, cut to this: never a PASS of the plan's criterion"
    )
    watch.add_argument(
        "--compressed",
        type=kinds.number(above=0, most=100_000),
        default=1.0,
        metavar="N",
        help="the market runs N times as fast",
    )
    watch.add_argument("--metrics-url", type=kinds.url, help="read /metrics here; a dead watcher costs samples")
    watch.add_argument("--prometheus-url", type=kinds.url, help="read the scrapes here; with --selector")
    watch.add_argument("--selector", default='job="ingest"', help="labels of the one instance (default: %(default)s)")
    watch.add_argument("--previous-metrics-url", type=kinds.url, help="the previous release on the same feed")
    watch.add_argument("--previous-selector", help="the previous release on the same feed, in the same Prometheus")
    watch.add_argument(
        "--environment", type=_pair, action="append", default=[], metavar="NAME=TEXT", help="for the report; repeatable"
    )
    _add_output(watch)
    again = parts.add_parser("report", help="judge a record (again) and write its report")
    _explain(again, "report reports/soak/records/by-hand.json --json")
    again.add_argument("record", type=kinds.path, help="what run left behind")
    _add_output(again)
    rates = parts.add_parser("calibrate", help="measure how often the verdict is wrong on planted leaks")
    _explain(rates, "calibrate --series 50 --plan 1h")
    rates.add_argument(
        "--series", type=kinds.whole(1), default=200, help="soaks of each family and leak (default: %(default)s)"
    )
    rates.add_argument(
        "--recording", type=kinds.path, help="the memory of a real soak (default: the one beside the code)"
    )
    rates.add_argument("--write", action="store_true", help=f"replace {RATES.name}, from which reports take the rates")
    rates.add_argument(
        "--plan", choices=sorted(PLANS), action="append", help="this plan; repeatable (default: 24h, 12h, 1h)"
    )
    rates.add_argument(
        "--processes", type=kinds.whole(1), default=os.cpu_count() or 1, help="work in so many (default: %(default)s)"
    )
    schema = parts.add_parser("schema", help="print the JSON schema of the report")
    _explain(schema, "schema")


def _explain(parser: argparse.ArgumentParser, *examples: str) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = "".join(f"  python -m ingest_ops soak {example}\n" for example in examples)
    parser.epilog = (
        f"exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, bad options, or an unusable file\n\nexamples:\n{lines}"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="verdict, reasons and paths as one JSON object")
    parser.add_argument("--reports", type=kinds.path, default=REPORTS, help="default: %(default)s")
    parser.add_argument("--audit", metavar="COMMAND", help="the auditor's command line; --json is added")
    parser.add_argument("--audit-figures", type=kinds.path, help="in place of --audit: what it wrote, with its verdict")


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=TEXT")
    return name, value


def run(namespace: argparse.Namespace) -> int:
    """Run a sub-command; returns the exit code."""
    match namespace.part:
        case "run":
            return _watch(namespace)
        case "report":
            return _again(namespace)
        case "calibrate":
            return _calibrate(namespace)
        case _:
            from ingest_ops.soak.report import SCHEMA

            terminal.write(SCHEMA.read_text(encoding="utf-8"))
            return 0


def _watch(namespace: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    plan = PLANS[namespace.plan]
    if namespace.compressed != 1.0:
        plan = plan.compressed_by(namespace.compressed)
    if namespace.seconds is not None:
        plan = plan.shortened(namespace.seconds)
    try:
        path = record_path(namespace.reports, namespace.run_id)
        sources = _sources(namespace)
        engine = Engine.start(
            path, namespace.run_id, plan, sources, clock=_clock, environment=dict(namespace.environment)
        )
        engine.record.save(path)  # a folder that cannot be written is refused now, not after the soak
    except (OSError, ValueError) as error:
        return _cannot(str(error))
    return _finish(engine.run(time.sleep), namespace)


def _clock() -> float:
    return time.time_ns() / 1e9


def _sources(namespace: argparse.Namespace) -> dict[str, Source]:
    def target(metrics_url: str | None, selector: str | None) -> dict[str, str]:
        if namespace.prometheus_url and selector:
            return {"prometheus_url": namespace.prometheus_url, "selector": selector}
        return {"metrics_url": metrics_url or ""}

    found = {CANDIDATE: source_from(target(namespace.metrics_url, namespace.selector))}
    if namespace.previous_metrics_url or namespace.previous_selector:
        found[PREVIOUS] = source_from(target(namespace.previous_metrics_url, namespace.previous_selector))
    return found


def record_path(reports: Path, run_id: str) -> Path:
    """Where a run's record lies: not beside the reports, where it would be listed as one.

    Raises ``ValueError`` for a name that no report may have.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"no name for a run: {run_id!r}; allowed is {RUN_ID.pattern}")
    return reports / "records" / f"{run_id}.json"


def _again(namespace: argparse.Namespace) -> int:
    try:
        record = Record.load(namespace.record)
    except (OSError, BadRecord) as error:
        return _cannot(str(error))
    if record is None:
        return _cannot(f"{namespace.record}: no such record")
    return _finish(record, namespace)


def _finish(record: Record, namespace: argparse.Namespace) -> int:
    from ingest_ops.soak import report

    audit: AuditResult | None = None
    try:
        figures = record_path(namespace.reports, f"{record.run_id}.audit")
        if namespace.audit:
            audit = run_audit(shlex.split(namespace.audit), figures)
        elif namespace.audit_figures:
            audit = AuditResult.of_figures(decode_json(namespace.audit_figures.read_bytes()))
        judgement, paths = report.write(namespace.reports, record, audit, known_rates(), now=_clock())
    except (OSError, ValueError, RecursionError) as error:
        return _cannot(str(error))
    if namespace.json:
        where = {name: str(path) for name, path in paths.items()}
        data = {"verdict": judgement.verdict, "reasons": list(judgement.reasons), "reports": where}
        terminal.write(json.dumps(data, indent=2) + "\n")
    else:
        lines = [*judgement.reasons, f"{judgement.verdict}: {paths['html']}"]
        terminal.write("".join(f"{line}\n" for line in lines))
    return EXIT_CODES[judgement.verdict]


def known_rates() -> Rates | None:
    """The committed rates; ``None`` where there are none."""
    try:
        return Rates.load()
    except FileNotFoundError:
        return None


def _calibrate(namespace: argparse.Namespace) -> int:
    from ingest_ops.soak import calibration

    recording = namespace.recording or (calibration.RECORDING if calibration.RECORDING.exists() else None)
    names = namespace.plan or ["24h", "12h", "1h"]
    try:
        text, kept = calibration.run(
            namespace.series, recording, RATES if namespace.write else None, names, namespace.processes
        )
    except (OSError, ValueError) as error:
        return _cannot(str(error))
    terminal.write(text + "\n")
    return 0 if kept else 1


def _cannot(reason: str) -> int:
    terminal.complain("soak", reason)
    return exit_codes.UNUSABLE
