"""The Iceberg table: opens it, replaces a day in one commit, says which files a day has."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import sqlalchemy.exc
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import DecimalType, LongType, NestedField, StringType, TimestamptzType

from ingest_ops.archive.errors import ArchiveError, TryAgain
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.storage import FULL
from ingest_ops.archive.tally import day_bounds

log = logging.getLogger(__name__)

FORMAT: Final = "1"
PROPERTY: Final = "k2.archive-format"
COMMITS: Final = 5
"""Attempts against commits of other days that come between."""

SCHEMA: Final = Schema(
    NestedField(1, "exchange", StringType(), required=True),
    NestedField(2, "symbol", StringType(), required=True),
    NestedField(3, "trade_id", LongType(), required=True, doc="contiguous within the symbol"),
    NestedField(4, "timestamp", TimestamptzType(), required=True, doc="the exchange's time of the trade"),
    NestedField(5, "price", DecimalType(38, 8), required=True),
    NestedField(6, "quantity", DecimalType(38, 8), required=True),
    NestedField(7, "side", StringType(), required=True, doc="the aggressor's side"),
    NestedField(8, "base_asset", StringType(), required=True),
    NestedField(9, "quote_asset", StringType(), required=True),
    NestedField(10, "ingestion_timestamp", TimestamptzType(), required=False, doc="null for imported trades"),
)
PARTITIONS: Final = PartitionSpec(PartitionField(4, 1000, DayTransform(), "day"))
ORDER: Final = SortOrder(SortField(2, IdentityTransform()), SortField(3, IdentityTransform()))


class Conflict(TryAgain):
    """Another run changed the same day meanwhile: this one gives way."""


@contextmanager
def _catalog_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError, RESTError, ConnectionError) as error:
        if "disk is full" in str(error):  # SQLite's
            raise ArchiveError(f"{what}: the catalog's disk is full; free some space and run it again") from error
        raise TryAgain(f"{what}: the catalog does not answer or is locked: {error}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ArchiveError(f"{what}: the catalog is not usable: {error}") from error
    except FileNotFoundError as error:
        raise ArchiveError(f"{what}: a file of the table is gone: {error}") from error
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise ArchiveError(f"{what}: the disk is full; free some space and run it again: {error}") from error
        raise TryAgain(f"{what}: the table's files cannot be read or written: {error}") from error


def _use_folder(folder: Path, *, create: bool) -> None:
    """Raises ``ArchiveError`` where it cannot be used."""
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        found = folder.is_dir()
    except OSError as error:  # a file in its place, a name that is too long, a folder that may not be searched
        raise ArchiveError(f"the archive's folder {str(folder)[:200]} cannot be used: {error.strerror}") from error
    if not found:
        raise ArchiveError(f"there is no archive in {folder}")


class DayTable:
    """One table, partitioned by day."""

    def __init__(self, settings: ArchiveSettings, *, create: bool = True) -> None:
        """Raises ``ArchiveError`` and ``TryAgain``."""
        if settings.is_folder:
            _use_folder(Path(settings.warehouse), create=create)
        self._name = (settings.namespace, settings.table)
        with _catalog_errors("open the table"):
            self._catalog = load_catalog("k2", **settings.catalog)
            if create:
                self._catalog.create_namespace_if_not_exists(settings.namespace)
            self.table = self._opened(create=create)
        self._check()

    def _opened(self, *, create: bool) -> Table:
        try:
            return self._catalog.load_table(self._name)
        except NoSuchTableError as error:
            if not create:
                raise ArchiveError(f"there is no table {'.'.join(self._name)} in the catalog") from error
        properties = {
            PROPERTY: FORMAT,
            "write.parquet.compression-codec": "zstd",
            "write.metadata.delete-after-commit.enabled": "true",
            "write.metadata.previous-versions-max": "100",
        }
        try:
            return self._catalog.create_table(
                self._name, SCHEMA, partition_spec=PARTITIONS, sort_order=ORDER, properties=properties
            )
        except TableAlreadyExistsError:
            return self._catalog.load_table(self._name)

    def _check(self) -> None:
        name = ".".join(self._name)
        found = self.table.properties.get(PROPERTY)
        if found != FORMAT:
            raise ArchiveError(
                f"table {name} has archive format {found}, this version writes {FORMAT}: use another table"
            )
        wanted = {(one.name, str(one.field_type)) for one in SCHEMA.fields}
        present = {(one.name, str(one.field_type)) for one in self.table.schema().fields}
        if not wanted <= present:
            missing = ", ".join(sorted(name for name, _ in wanted - present))
            raise ArchiveError(
                f"table {name} has other columns than this version writes ({missing}): use another table"
            )

    @property
    def properties(self) -> Mapping[str, str]:
        """Properties of the file system."""
        return {**self._catalog.properties, **self.table.properties}

    @property
    def location(self) -> str:
        """Where the table's files are."""
        return str(self.table.location()).rstrip("/")

    def folder(self, day: date) -> str:
        """Where the data files of a day are."""
        return f"{self.location}/data/day={day.isoformat()}"

    def refresh(self) -> None:
        """Read the table's state again."""
        with _catalog_errors("read the table"):
            self.table = self._catalog.load_table(self._name)

    def files(self, day: date) -> list[str]:
        """Locations of the data files that hold the day now."""
        with _catalog_errors("read the table"):
            return sorted(one.file.file_path for one in self.table.scan(row_filter=_within(day)).plan_files())

    def days(self) -> dict[date, int]:
        """Days that have rows, and how many."""
        found: dict[date, int] = {}
        with _catalog_errors("read the table"):
            files = list(self.table.scan().plan_files())
        for one in files:
            day = one.file.partition[0]
            if isinstance(day, int):
                day = date.fromordinal(date(1970, 1, 1).toordinal() + day)
            found[day] = found.get(day, 0) + one.file.record_count
        return found

    def named(self, day: date) -> set[str]:
        """Locations below the day's folder that any snapshot names."""
        if self.table.current_snapshot() is None:
            return set()
        folder = self.folder(day)
        with _catalog_errors("read the table"):
            paths: Any = self.table.inspect.all_files().column("file_path").to_pylist()
        return {path for path in paths if path.startswith(folder)}

    def replace(self, day: date, before: Sequence[str], files: Sequence[str], summary: Mapping[str, str]) -> int:
        """Put files in the place of the day's present ones, in one commit; returns the snapshot's id.

        ``before``: what the day has now. Raises ``Conflict`` if another run has changed it.
        """
        last: Exception | None = None
        for attempt in range(COMMITS):
            if self.files(day) != sorted(before):
                raise Conflict(f"{day}: another run has replaced this day meanwhile")
            try:
                with _catalog_errors("commit"):
                    self._commit(day, before, files, summary)
            except CommitFailedException as error:
                log.info("archive: commit lost a race", extra={"day": str(day), "attempt": attempt})
                last = error
                self.refresh()
            else:
                snapshot = self.table.current_snapshot()
                return snapshot.snapshot_id if snapshot else 0
        raise Conflict(f"{day}: {COMMITS} commits of other runs came between: {last}")

    def _commit(self, day: date, before: Sequence[str], files: Sequence[str], summary: Mapping[str, str]) -> None:
        # PyIceberg would do a lost commit again on top of the other one: both runs' rows would be in the table.
        self.table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
        with self.table.transaction() as transaction:
            if before:
                transaction.delete(_within(day), snapshot_properties=dict(summary))
            if files:
                transaction.add_files(list(files), snapshot_properties=dict(summary))


def _within(day: date) -> Any:
    start, end = (datetime.fromtimestamp(one / 1e6, UTC).isoformat() for one in day_bounds(day))
    return And(GreaterThanOrEqual("timestamp", start), LessThan("timestamp", end))
