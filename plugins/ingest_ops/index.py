"""Which reports there are, and how one of them is opened without trusting its name.

Reports lie in ``<root>/<folder>/<run_id>.json`` with ``.html`` and ``.md`` of the same name beside it. Examples that
are part of the repository lie one level deeper, in ``<root>/examples/<folder>/``, and are listed only where asked for.
An id is ``<folder>/<run_id>``. Whatever is no plain file in a plain folder (a link above all) does not exist here: the
reports share their origin with Airflow's own pages, and a name comes from a URL.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.decoding import decode_with
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.files import RUN_ID

FOLDERS = ("validation", "archive", "deployments", "soak", "chaos", "faults", "bench", "audit")
"""The folders of reports, in the order in which a page shows them."""

SUFFIXES = {"html": "text/html; charset=utf-8", "json": "application/json", "md": "text/plain; charset=utf-8"}
"""What may be opened, and as what."""

MOST_BYTES = 64 * 2**20
"""A greater file is no report."""

EXAMPLES = "examples"
_ID = re.compile(rf"(?:(?P<examples>{EXAMPLES})/)?(?P<folder>[a-z]+)/(?P<run>{RUN_ID.pattern})")


class NoSuchReport(LookupError):
    """There is no report of that id, or it may not be opened."""


class TooLarge(NoSuchReport):
    """It is larger than asked for: ``size`` in bytes; ``modified``: seconds since 1970."""

    def __init__(self, report: str, size: int, modified: float) -> None:
        super().__init__(report)
        self.size = size
        self.modified = modified


@dataclass(frozen=True)
class Entry:
    """A report as the list shows it. ``problem`` says why its JSON cannot be read; it is listed nevertheless."""

    id: str
    folder: str
    run_id: str
    title: str
    verdict: Verdict | None
    summary: str
    generated_at: str
    suffixes: tuple[str, ...]
    modified: float
    problem: str = ""


class _Head(msgspec.Struct):
    """The keys that every report has; msgspec skips the rest without building it."""

    run_id: str = ""
    title: str = ""
    verdict: str | None = None
    summary: str = ""
    reason: str = ""
    generated_at: str = ""


_HEAD = msgspec.json.Decoder(_Head)


def list_reports(root: Path, *, examples: bool = False, most_bytes: int = MOST_BYTES) -> list[Entry]:
    """Every report, the folders in their order, the newest first. A folder that is missing is empty.

    ``examples``: list those of the repository instead. One beyond ``most_bytes`` is INCONCLUSIVE, as one that cannot be
    read; beyond ``MOST_BYTES`` it is none.
    """
    base = root / EXAMPLES if examples else root
    prefix = f"{EXAMPLES}/" if examples else ""
    found: list[Entry] = []
    if examples and _is_linked(root, Path(EXAMPLES)):
        return found
    for folder in FOLDERS:
        entries = (_entry(root, f"{prefix}{folder}/{name}", most_bytes) for name in _names(base / folder))
        known = [entry for entry in entries if entry is not None]
        found += sorted(known, key=lambda entry: (entry.generated_at, entry.modified, entry.run_id), reverse=True)
    return found


def _names(folder: Path) -> Iterator[str]:
    try:
        if folder.is_symlink():
            return
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if dot and suffix == "json" and RUN_ID.fullmatch(stem):
            yield stem


def _entry(root: Path, report: str, most_bytes: int) -> Entry | None:
    *_, folder, run_id = report.split("/")
    problem = ""
    try:
        raw, modified = _read(root, report, "json", most_bytes)
    except TooLarge as error:
        if error.size > MOST_BYTES:
            return None
        # Its file's age stands for what it says of its own: else an older report would be taken for the newest.
        made = datetime.fromtimestamp(error.modified, UTC).isoformat()
        problem = f"no report: more than {most_bytes} bytes"
        return Entry(report, folder, run_id, run_id, Verdict.INCONCLUSIVE, "", made, ("json",), error.modified, problem)
    except NoSuchReport:
        return None
    try:
        head = decode_with(_HEAD, raw)
        verdict = None if head.verdict is None else Verdict(head.verdict)
    except ValueError as error:
        head, verdict, problem = _Head(), Verdict.INCONCLUSIVE, f"no report: {error}"
    return Entry(
        id=report,
        folder=folder,
        run_id=run_id,
        title=head.title or run_id,
        verdict=verdict,
        summary=head.summary or head.reason,
        generated_at=head.generated_at,
        suffixes=tuple(suffix for suffix in SUFFIXES if suffix == "json" or _exists(root, report, suffix)),
        modified=modified,
        problem=problem,
    )


def _exists(root: Path, report: str, suffix: str) -> bool:
    try:
        _path(root, report, suffix)
    except NoSuchReport:
        return False
    return True


def read_report(root: Path, report: str, suffix: str, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a report. Raises ``NoSuchReport`` for every id and suffix that the list could not have shown."""
    return _read(root, report, suffix, most_bytes)[0]


def _read(root: Path, report: str, suffix: str, most_bytes: int) -> tuple[bytes, float]:
    path = _path(root, report, suffix)
    try:
        # The last component is opened without following a link that was put there since it was looked at.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoSuchReport(report) from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise NoSuchReport(report)
        if status.st_size > most_bytes:
            raise TooLarge(report, status.st_size, status.st_mtime)
        return file.read(), status.st_mtime


def _path(root: Path, report: str, suffix: str) -> Path:
    match = _ID.fullmatch(report)
    if match is None or match["folder"] not in FOLDERS or suffix not in SUFFIXES:
        raise NoSuchReport(report)
    relative = Path(f"{report}.{suffix}")
    path = root / relative
    if _is_linked(root, relative) or not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise NoSuchReport(report)
    return path


def _is_linked(root: Path, relative: Path) -> bool:
    """Whether any component below the root is a link, wherever it leads."""
    at = root
    for part in relative.parts:
        at = at / part
        if at.is_symlink():
            return True
    return False


def as_json(entry: Entry) -> dict[str, Any]:
    """Plain data of an entry."""
    data = {**entry.__dict__, "verdict": None if entry.verdict is None else str(entry.verdict)}
    return data | {"suffixes": list(entry.suffixes)}
