"""Compares symbols with the exchange's daily files and says the result for the certificate."""

import logging
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from ingest_ops.archive.certificate import Comparison
from ingest_ops.archive.compare import Difference, NotInOrder, compare
from ingest_ops.archive.daily_files import Absent, DailyFiles, FileRows, Unusable, WrongChecksum
from ingest_ops.archive.errors import TryAgain
from ingest_ops.archive.rows import Rows
from ingest_ops.archive.settings import ArchiveSettings

log = logging.getLogger(__name__)


class Witness:
    """The exchange's daily files as second witness. Close it."""

    def __init__(self, settings: ArchiveSettings, folder: Path) -> None:
        self._files = (
            DailyFiles(settings.files_url, folder, timeout=settings.timeout_seconds) if settings.files_url else None
        )

    def compare(
        self, symbol: str, day: date, rows: Callable[[], Iterator[Rows]], *, trades: int, from_id: int
    ) -> Comparison:
        """The result for a symbol. ``rows`` starts again with each call; ``from_id``: lower ids were not recorded."""
        if self._files is None:
            return Comparison("none", "not_compared")
        source = self._files.address(symbol, day)
        try:
            file = self._files.download(symbol, day)
        except Absent:
            if trades == 0:  # the exchange publishes no file for a day without a trade
                return Comparison(source, "equal")
            return Comparison(source, "absent")
        except WrongChecksum as error:
            return Comparison(f"{source}: {error}", "checksum")
        except (Unusable, TryAgain) as error:
            return Comparison(f"{source}: {error}", "unusable")
        try:
            theirs = FileRows(file)
            found = self._compared(theirs, rows, from_id)
        except (Unusable, NotInOrder) as error:
            text = str(error) or "its ids are not in order, or there twice"
            return Comparison(f"{source}: {text}", "unusable", file.sha256)
        finally:
            file.path.unlink(missing_ok=True)
        return _result(source, file.sha256, found)

    def _compared(self, theirs: FileRows, rows: Callable[[], Iterator[Rows]], from_id: int) -> Difference:
        stream = iter(theirs)
        first = next(stream, None)  # the unit of its times is known from here on

        def chained() -> Iterator[Rows]:
            if first is not None:
                yield first
            yield from stream

        return compare(rows(), chained(), unit_us=theirs.unit_us, from_id=from_id)

    def close(self) -> None:
        """Close the connection."""
        if self._files is not None:
            self._files.close()


def _result(source: str, sha256: str, found: Difference) -> Comparison:
    wrong = found.only_theirs or found.differing
    return Comparison(
        source=source,
        result="differs" if wrong else "their_hole" if found.only_ours else "equal",
        sha256=sha256,
        rows=found.rows,
        equal=found.equal,
        only_theirs=found.only_theirs,
        only_ours=found.only_ours,
        differing=found.differing,
        examples=found.examples,
    )
