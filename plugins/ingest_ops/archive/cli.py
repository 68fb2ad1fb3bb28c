"""``ingest-ops archive``: its sub-commands, their options and exit codes."""

import argparse
import errno
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.core.errors import BadSettings
from ingest_ops.archive import report
from ingest_ops.archive.certificate import CertificateError, SymbolEntry
from ingest_ops.archive.day import Archive, Outcome, archive_day
from ingest_ops.archive.errors import ArchiveError, NotFinished, TryAgain
from ingest_ops.archive.importing import import_day
from ingest_ops.archive.report import row
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.verify import verify_days
from ingest_ops.common.verdict import Verdict

CODES = {
    Verdict.PASS: exit_codes.DONE,
    Verdict.FAIL: exit_codes.FAIL,
    Verdict.INCONCLUSIVE: exit_codes.INCONCLUSIVE,
}
_SYMBOL = re.compile(r"[A-Z0-9]{1,64}")
EPILOGS = {
    "": """\
exit codes: 0 PASS, or every file as certified; 1 FAIL, or files that contradict their certificates; 2 INCONCLUSIVE, bad
options or settings; 3 a person must change something (another version's table, a full disk); 75 no answer now, or
another run is at the same day: try again

examples:
  python -m ingest_ops archive day 2026-01-15
  python -m ingest_ops archive verify
  python -m ingest_ops archive list
""",
    "day": """\
exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE (missing data is never reported as PASS), a day that is not over, bad
options or settings; 3 a person must change something; 75 no answer now, or another run is at the same day

examples:
  python -m ingest_ops archive day 2026-01-15
  python -m ingest_ops archive day 2026-01-01 --to 2026-01-31 --json -
""",
    "verify": """\
exit codes: 0 every file as certified, 1 files or certificates that were changed, 2 an empty archive, bad options or
settings; 3 a person must change something; 75 no answer now

examples:
  python -m ingest_ops archive verify                      every day, and the chain between them
  python -m ingest_ops archive verify 2026-01-15 --json -
""",
    "import": """\
exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE: a file is absent, truncated or has a wrong checksum; a day that is not
over, bad options or settings; 3 a person must change something: the day was recorded; 75 no answer now

examples:
  python -m ingest_ops archive import 2025-12-31 --symbols BTCUSDT,ETHUSDT
  python -m ingest_ops archive import 2024-01-01 --to 2024-12-31 --symbols BTCUSDT --assets BTCUSDT=BTC/USDT
""",
    "report": """\
exit codes: 0 every day PASS, 1 a day FAIL, 2 INCONCLUSIVE, an empty archive, bad options or settings; 3 a person must
change something; 75 no answer now

examples:
  python -m ingest_ops archive report
  python -m ingest_ops archive report --days 7 --reports /data/reports --json
""",
    "list": """\
exit codes: 0 listed, 2 bad options or settings, 3 a person must change something, 75 no answer now

examples:
  python -m ingest_ops archive list
  python -m ingest_ops archive list --json -
""",
}
HELP = {
    "day": "archive finished days from the topic",
    "import": "archive days from before the first recording from the exchange's daily files",
    "verify": "recompute certificates from the files, locate what was changed",
    "report": "write a page: a calendar of days and symbols, and the last certificate",
    "list": "days with their verdicts",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add sub-commands and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOGS[""]
    commands = parser.add_subparsers(dest="archive_command", required=True, metavar="what")
    subs = {
        name: commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOGS[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, text in HELP.items()
    }  # fmt: skip
    for name in ("day", "import"):
        subs[name].add_argument("day", type=_day, metavar="YYYY-MM-DD", help="the UTC day")
        subs[name].add_argument("--to", type=_day, metavar="YYYY-MM-DD", help="the last day (default: only the one)")
    subs["import"].add_argument("--symbols", type=_names, required=True, metavar="A,B")
    subs["import"].add_argument(
        "--assets", type=_assets, action="append", default=[], metavar="SYMBOL=BASE/QUOTE",
        help="assets of a symbol that the exchange no longer lists; repeatable",
    )  # fmt: skip
    days = "default: all, and the chain of them"
    subs["verify"].add_argument("days", type=_day, nargs="*", metavar="YYYY-MM-DD", help=days)
    _add_report(subs["report"])
    for name, run_it in (("day", _archive), ("import", _import), ("verify", _verify), ("list", _list)):
        subs[name].add_argument(
            "--json", type=kinds.path, metavar="PATH", help="write the result as JSON to this file; -: print it"
        )
        subs[name].set_defaults(archive=run_it)
        _add_settings(subs[name])


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("settings", "each overrides K2_ARCHIVE_<NAME> of the environment").add_argument
    add("--warehouse", metavar="PLACE", help="folder or s3://bucket/prefix of the tables")
    add("--catalog-uri", metavar="URL", help="SQLAlchemy URL of the catalog (default: SQLite in the warehouse)")
    add("--bootstrap-servers", metavar="HOST:PORT,...")
    add("--topic", type=kinds.topic)
    add("--schema-registry-url", type=kinds.url, metavar="URL")
    add("--rest-url", metavar="URL", help="REST API of the exchange; empty: not asked")
    add("--files-url", metavar="URL", help="base address of the exchange's daily files; empty: no comparison")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed is a day as YYYY-MM-DD") from error


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=kinds.whole(1, 366), default=31, metavar="N",
        help="the last so many days (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--reports", type=kinds.path, default=Path("reports"), metavar="FOLDER",
                        help="folder of all reports (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(archive=_report)
    _add_settings(parser)


def _names(text: str) -> list[str]:
    found = sorted({one.strip().upper() for one in text.split(",") if one.strip()})
    wrong = [one for one in found if not _SYMBOL.fullmatch(one)]
    if wrong or not found:
        raise argparse.ArgumentTypeError(f"{(wrong or [text])[0][:40]!a}: allowed are names such as BTCUSDT")
    return found


def _assets(text: str) -> tuple[str, tuple[str, str]]:
    found = re.fullmatch(r"([A-Z0-9]{1,64})=([A-Z0-9]{1,32})/([A-Z0-9]{1,32})", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!a}: allowed is SYMBOL=BASE/QUOTE")
    return found[1], (found[2], found[3])


def run(namespace: argparse.Namespace) -> int:
    """Run a sub-command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        command: Callable[[argparse.Namespace, ArchiveSettings], int] = namespace.archive
        return command(namespace, _settings(namespace))
    except BadSettings as error:
        terminal.complain("archive", "\n".join(error.problems))
        return exit_codes.UNUSABLE
    except TryAgain as error:
        terminal.complain("archive", str(error))
        return exit_codes.TRY_AGAIN
    except NotFinished as error:
        terminal.complain("archive", str(error))
        return exit_codes.INCONCLUSIVE
    except (ArchiveError, CertificateError) as error:
        terminal.complain("archive", str(error))
        return exit_codes.CANNOT_WORK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        terminal.complain("archive", f"{error.filename or 'a file'} cannot be written: {error.strerror}")
        return exit_codes.CANNOT_WORK


def _settings(namespace: argparse.Namespace) -> ArchiveSettings:
    settings = ArchiveSettings.load(os.environ)
    names = ("warehouse", "catalog_uri", "bootstrap_servers", "topic", "schema_registry_url", "rest_url", "files_url")
    given = {name: getattr(namespace, name) for name in names if getattr(namespace, name) is not None}
    settings = replace(settings, **given)
    problems = settings.problems()
    if problems:
        raise BadSettings(problems)
    return settings


def _archive(namespace: argparse.Namespace, settings: ArchiveSettings) -> int:
    return _each_day(namespace, lambda day: archive_day(settings, day, time.time_ns() // 1000))


def _import(namespace: argparse.Namespace, settings: ArchiveSettings) -> int:
    symbols, assets = namespace.symbols, dict(namespace.assets)
    return _each_day(namespace, lambda day: import_day(settings, day, symbols, assets, time.time_ns() // 1000))


def _each_day(namespace: argparse.Namespace, run_it: Callable[[date], Outcome]) -> int:
    code, rows = exit_codes.DONE, []
    for day in _days(namespace.day, namespace.to or namespace.day):
        outcome = run_it(day)
        one = CODES[outcome.certificate.verdict]
        code = one if code == exit_codes.DONE or one == exit_codes.FAIL else code
        shown = row(outcome.certificate) | {"table_changed": outcome.changed, "new_certificate": outcome.certified}
        rows.append(shown)
        if str(namespace.json) != "-":
            terminal.write("".join(f"{line}\n" for line in _described(outcome)))
    _write_json(namespace, rows)
    return code


def _write_json(namespace: argparse.Namespace, data: object) -> None:
    if namespace.json is None:
        return
    text = json.dumps(data, indent=2) + "\n"
    if str(namespace.json) == "-":
        terminal.write(text, sys.stdout)
    else:
        namespace.json.write_text(text)


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


def _described(outcome: Outcome) -> Iterator[str]:
    certificate = outcome.certificate
    symbols = len(certificate.symbols)
    yield f"{certificate.day} {certificate.verdict}: {certificate.trades:,} trades, {symbols} symbols"
    yield f"  root {certificate.root}"
    for entry in certificate.symbols:
        yield from _findings(entry)
    table, new = "replaced" if outcome.changed else "unchanged", "new" if outcome.certified else "unchanged"
    yield f"  table {table}, certificate {new}"


def _findings(entry: SymbolEntry) -> Iterator[str]:
    for one in entry.findings:
        ids = "" if one.first_id is None else f" {one.first_id}..{one.last_id}"
        yield f"  {entry.symbol} {one.code}{ids}{f' ({one.count})' if one.count else ''} {one.detail}".rstrip()


def _verify(namespace: argparse.Namespace, settings: ArchiveSettings) -> int:
    archive = Archive(settings, create=False)
    days = namespace.days
    if not days:
        known = sorted({*archive.certificates.days(), *archive.table.days()})
        days = list(_days(known[0], known[-1])) if known else []
    if not days:
        terminal.complain("archive", "the archive has no day")
        return exit_codes.INCONCLUSIVE
    rows = []
    for fault in verify_days(archive, sorted(days), trusted=settings.trusted_key):
        rows.append(asdict(fault))
        if str(namespace.json) != "-":
            terminal.write(f"{fault}\n")
    if str(namespace.json) != "-":
        terminal.write(f"{len(days)} days, {len(rows)} faults\n" if rows else f"{len(days)} days as certified\n")
    _write_json(namespace, {"days": [one.isoformat() for one in days], "faults": rows})
    return exit_codes.FAIL if rows else exit_codes.DONE


def _list(namespace: argparse.Namespace, settings: ArchiveSettings) -> int:
    archive = Archive(settings, create=False)
    found = []
    for day in archive.certificates.days():
        current = archive.current(day)
        if current is not None:
            found.append(row(current) | {"certificates": len(archive.certificates.names(day))})
    if str(namespace.json) != "-":
        for one in found:
            terminal.write(
                f"{one['day']} {one['verdict']:<13}{one['trades']:>14,} trades {one['symbols']:>5} symbols\n"
            )
    _write_json(namespace, found)
    return exit_codes.DONE


def _report(namespace: argparse.Namespace, settings: ArchiveSettings) -> int:
    archive = Archive(settings, create=False)
    written = report.write(archive, namespace.reports, time.time_ns() // 1000, most=namespace.days)
    if written is None:
        terminal.complain("archive", "the archive has no day")
        return exit_codes.INCONCLUSIVE
    verdict, paths = written
    shown = {"verdict": str(verdict), "files": {suffix: str(path) for suffix, path in paths.items()}}
    terminal.write(json.dumps(shown, indent=2) + "\n" if namespace.json else f"{verdict}: {paths['html']}\n")
    return CODES[verdict]
