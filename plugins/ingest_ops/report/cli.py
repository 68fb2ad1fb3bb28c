"""``python -m ingest_ops report``: read the days from Prometheus, judge them, write the report; no Airflow needed."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from ingest.command import arguments as kinds
from ingest.command import terminal
from ingest.core.errors import BadSettings, IngestError
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation import day_store
from ingest_ops.validation.daily import WINDOW, Built, audit, build, read_day
from ingest_ops.validation.day import days_until
from ingest_ops.validation.day_reader import PrometheusSource
from ingest_ops.validation.report_json import stamp

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}

EPILOG = """\
Thresholds are K2_REPORT_... settings.

exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE or it could not be made

examples:
  python -m ingest_ops report                                  the seven days to yesterday
  python -m ingest_ops report --days 7 --end 2026-01-22
  python -m ingest_ops report --end 2026-01-22 --stored        judge the stored days again, without Prometheus
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the report."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--days", type=kinds.whole(1, 31), default=WINDOW, help="how many UTC days (default: %(default)s)"
    )
    parser.add_argument("--end", type=_date, metavar="DATE", help="the last day (default: yesterday, UTC)")
    parser.add_argument("--prometheus", type=kinds.url, metavar="URL", help="instead of K2_REPORT_PROMETHEUS_URL")
    parser.add_argument("--json", action="store_true", help="verdict, reasons and paths as one JSON object")
    parser.add_argument(
        "--reports", type=kinds.path, metavar="DIR", help="the folder of all reports (default: reports)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stored", action="store_true", help="use the days that are kept, do not ask Prometheus")
    which.add_argument("--refresh", action="store_true", help="read every day again, kept or not")
    parser.add_argument("--audit", action="store_true", help="run K2_REPORT_AUDIT_COMMAND first")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is a day as YYYY-MM-DD") from error


def run(args: argparse.Namespace) -> int:
    """Make the report; returns the exit code."""
    given = {"K2_REPORT_PROMETHEUS_URL": args.prometheus} if args.prometheus else {}
    try:
        settings = ReportSettings.load({**os.environ, **given})
    except BadSettings as error:
        _say(str(error))
        return 2
    if args.reports:
        settings = replace(settings, reports=args.reports)
    now = _now()
    today = now.date()
    end: date = args.end or today - timedelta(days=1)
    if end >= today:
        _say(f"--end {end}: the day is not over yet in UTC; allowed is {today - timedelta(days=1)} or earlier")
        return 2
    if args.audit:
        _say("auditing the topic")
        audit(settings, end, stamp(now.timestamp()))
    absent = {} if args.stored else _read(settings, end, args.days, refresh=args.refresh)
    built = build(settings, end, count=args.days, generated_at=stamp(_now().timestamp()), absent=absent)
    _show(built, as_json=args.json)
    return EXIT_CODES[built.verdict]


def _read(settings: ReportSettings, end: date, count: int, *, refresh: bool) -> Mapping[date, str]:
    """Read what is missing; why a day could not be read goes into the report, the others are read nevertheless."""
    absent: dict[date, str] = {}
    _say(f"reading {count} days from {settings.prometheus_url}")
    source = PrometheusSource(settings)
    try:
        for when in days_until(end, count):
            if not refresh and day_store.is_kept(settings.days, when):
                _say(f"{when}: kept")
                continue
            began = time.monotonic()
            try:
                day, _, written = read_day(settings, when, source)
            except IngestError as error:
                absent[when] = str(error)
                _say(f"{when}: {error}")
                continue
            what = "" if written else "; the kept day has more and stays"
            _say(f"{when}: {day.samples:,} samples in {time.monotonic() - began:.1f} s{what}")
    finally:
        source.close()
    return absent


def _show(built: Built, *, as_json: bool) -> None:
    if as_json:
        paths = {name: str(path) for name, path in built.paths.items()}
        data = {"verdict": built.verdict, "reasons": list(built.reasons), "reports": paths}
        terminal.write(json.dumps(data, indent=2) + "\n")
        return
    tried = [one for one in built.trials if one.caught is not None]
    caught = sum(one.caught is True for one in tried)
    lines = [f"self-check: {caught} of {len(tried)} mutants caught, {len(built.trials) - len(tried)} not applicable"]
    lines += [f"  SURVIVED {one.mutant.id}: {one.mutant.what}" for one in tried if not one.caught]
    lines += [f"  {reason}" for reason in built.reasons]
    lines += [f"{built.verdict}: {built.paths['html']}"]
    terminal.write("\n".join(lines) + "\n")


def _say(text: str) -> None:
    terminal.write(text + "\n", sys.stderr)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC)
