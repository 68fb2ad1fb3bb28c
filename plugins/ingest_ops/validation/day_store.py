"""Days on disk: ``<reports>/validation/days/<date>.json.gz``, so that seven days survive a shorter retention."""

from datetime import date
from pathlib import Path

from ingest_ops.common.files import NoFile, read_file
from ingest_ops.render import write_atomically
from ingest_ops.validation.day import MOST_BYTES, BadDay, Day, pack, sha256, unpack
from ingest_ops.validation.exchange_counts import kept_counts


def path_of(folder: Path, when: date) -> Path:
    """Where the day is kept."""
    return folder / f"{when.isoformat()}.json.gz"


def save(folder: Path, day: Day) -> tuple[Path, bool]:
    """Keep a day; returns its path and whether it was written.

    A day that is kept already is replaced only by one with as many samples or more: Prometheus forgets, and a later
    reading must not thin out an earlier one.
    """
    path = path_of(folder, day.date)
    if path.exists():
        try:
            kept = load(folder, day.date)
        except BadDay:
            kept = None
        if kept is not None and kept.samples > day.samples:
            return path, False
        if kept is not None:
            day = kept_counts(day, kept)
    write_atomically(path, pack(day))
    return path, True


def load(folder: Path, when: date) -> Day | None:
    """The day, or ``None`` where none is kept. Raises ``BadDay`` for a file that is damaged or another day's."""
    try:
        raw = read_file(path_of(folder, when), MOST_BYTES)
    except FileNotFoundError:
        return None
    except NoFile as error:
        raise BadDay(str(error)) from error
    day = unpack(raw)
    if day.date != when:
        raise BadDay(f"{path_of(folder, when).name} holds {day.date}")
    return day


def is_kept(folder: Path, when: date) -> bool:
    """Whether the day need not be read again: its file is whole and has samples.

    A day that was read in vain is read again: Prometheus may have been the wrong one, or asked for the wrong job.
    """
    try:
        day = load(folder, when)
    except BadDay:
        return False
    return day is not None and day.samples > 0


def digest(folder: Path, when: date) -> str:
    """The file's SHA-256."""
    return sha256(read_file(path_of(folder, when), MOST_BYTES))
