"""Writes the page of an archive's last days into the folder of reports."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ingest_ops.archive.certificate import Certificate
from ingest_ops.archive.day import Archive
from ingest_ops.archive.page import page
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.files import envelope, write_report

FOLDER: Final = "archive"
DAYS: Final = 31


def report_days(known: list[date], most: int) -> list[date]:
    """The last days of an archive that has some, without a gap: at most so many."""
    first = max(known[0], known[-1] - timedelta(days=most - 1))
    return [first + timedelta(days=number) for number in range((known[-1] - first).days + 1)]


def run_id(days: list[date]) -> str:
    """Name of a report's files."""
    return f"{days[-1].isoformat()}-{len(days)}d"


def write(archive: Archive, reports: Path, now_us: int, *, most: int = DAYS) -> tuple[Verdict, dict[str, Path]] | None:
    """Write it; returns its verdict and its files by suffix. None if the archive has no day. Raises ``OSError``."""
    known = archive.certificates.days()
    if not known:
        return None
    days = report_days(known, most)
    found = [one for one in (archive.current(day) for day in days if day in known) if one is not None]
    missing = [day.isoformat() for day in days if day not in known]
    made = page(found, missing, generated_at=datetime.fromtimestamp(now_us // 1_000_000, UTC).isoformat())
    data = envelope(made, run_id=run_id(days), schema_version=1)
    data |= {"missing": missing, "days": [row(one) for one in found], "certificate": msgspec.to_builtins(found[-1])}
    return made.verdict or Verdict.INCONCLUSIVE, write_report(reports / FOLDER, run_id(days), data, made)


def row(one: Certificate) -> dict[str, object]:
    """A day as lists show it."""
    made = datetime.fromtimestamp(one.created_at_us // 1_000_000, UTC).isoformat()
    return {
        "day": one.day, "verdict": str(one.verdict), "trades": one.trades, "symbols": len(one.symbols),
        "root": one.root, "origin": one.origin, "created_at": made,
        "not_passed": {each.symbol: str(each.verdict) for each in one.symbols if each.verdict != Verdict.PASS},
    }  # fmt: skip
