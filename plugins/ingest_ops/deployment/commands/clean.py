"""``python -m ingest_ops clean``: remove reports, trails, records, kept days and journal entries that are old."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from ingest.command import arguments as kinds
from ingest.command import terminal
from ingest_ops.deployment.commands.common import explain, guarded
from ingest_ops.deployment.settings import DeployerContext, now
from ingest_ops.index import FOLDERS

DAY = 86_400.0
LEAST_DAYS = 35
"""A report of the seven-day validation may cover 31 days."""
BELOW = ("", "records", "days", "audits")
"""Folders inside of one of the reports' folders whose files are removed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(parser, "0 done, 2 bad settings", "clean --keep-days 365", "clean --keep-days 90 --dry-run")
    parser.add_argument(
        "--keep-days", type=kinds.whole(LEAST_DAYS), default=365, metavar="N", help="default: %(default)s; at least 35"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--json", action="store_true", help="what was removed as one JSON object")


def run(namespace: argparse.Namespace) -> int:
    """Remove what is old; returns the exit code."""

    def clean(parts: DeployerContext) -> int:
        before = now() - namespace.keep_days * DAY
        open_one = parts.journal.open_one()
        files = list(old_files(parts.reports, before, without=open_one.id if open_one is not None else ""))
        removed: list[str] = []
        if not namespace.dry_run:
            for path in files:
                path.unlink(missing_ok=True)
            removed = parts.journal.forget(before)
        data = {"files": len(files), "deployments": removed, "before": time.strftime("%F", time.gmtime(before))}
        word = "would be removed" if namespace.dry_run else "removed"
        text = f"{len(files)} files and {len(removed)} entries of the journal older than {data['before']} {word}"
        terminal.write((json.dumps(data, indent=2) if namespace.json else text) + "\n")
        return 0

    return guarded(clean)


def old_files(reports: Path, before: float, *, without: str = "") -> Iterator[Path]:
    """Plain files of reports that were written last before then; nothing of the deployment ``without``, no links."""
    for folder in FOLDERS:
        for below in BELOW:
            at = reports / folder / below
            if not at.is_dir() or at.is_symlink():
                continue
            for path in sorted(at.iterdir()):
                plain = path.is_file() and not path.is_symlink() and path.suffix != ".db"
                if plain and path.stat().st_mtime < before and not (without and path.name.startswith(f"{without}.")):
                    yield path
