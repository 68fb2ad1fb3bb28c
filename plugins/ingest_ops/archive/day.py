"""``archive day``: a finished UTC day of the topic becomes a partition of the table, with a certificate."""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pyarrow
import pyiceberg

from ingest import __version__
from ingest_ops.archive.build import BucketResult, SymbolResult, buckets, build
from ingest_ops.archive.certificate import (
    Certificate,
    DataFile,
    LocatorFile,
    Origin,
    Previous,
    SymbolEntry,
    day_root,
    worst,
)  # fmt: skip
from ingest_ops.archive.ends import EarlierRecords, Exchange, end_of, entries, last_known, start_of
from ingest_ops.archive.errors import NotFinished
from ingest_ops.archive.judge import Context, Identity, judge
from ingest_ops.archive.lock import locked
from ingest_ops.archive.positions import Position, Recorded
from ingest_ops.archive.reading import symbol_rows
from ingest_ops.archive.rows import Rows
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.signing import load_key, sign
from ingest_ops.archive.source import DayReader, Schemas, first_offsets, read_positions
from ingest_ops.archive.spool import Spool
from ingest_ops.archive.storage import Storage
from ingest_ops.archive.store import CertificateStore
from ingest_ops.archive.table import DayTable
from ingest_ops.archive.tally import SymbolDay, day_bounds
from ingest_ops.archive.witness import Witness
from ingest_ops.common.verdict import Verdict

log = logging.getLogger(__name__)

ORPHAN_SECONDS: Final = 86_400.0
"""Age of a file in an object store that no snapshot names, until it may be removed: no run takes so long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``changed``: the table has a new snapshot; ``certified``: there is a new certificate."""

    certificate: Certificate
    changed: bool
    certified: bool


class Archive:
    """The table with its certificates, opened for writing."""

    def __init__(self, settings: ArchiveSettings, *, create: bool = True) -> None:
        self.settings = settings
        self.table = DayTable(settings, create=create)
        self.storage = Storage(self.table.properties)
        location = f"{settings.certificates_location}/{settings.table}"
        self.certificates = CertificateStore(self.storage, location)

    def current(self, day: date) -> Certificate | None:
        """The certificate of what the table has of a day."""
        return self.certificates.current(day, self.table.files(day), self.table.location)

    def tidy(self, day: date) -> Certificate | None:
        """Remove what an interrupted run left, files that no snapshot names; returns the current certificate."""
        current = self.current(day)
        # A folder has a lock. Elsewhere a run on another machine may be about to commit what it has uploaded.
        before = None if self.settings.is_folder else time.time_ns() / 1e9 - ORPHAN_SECONDS
        gone = self.certificates.remove_after(day, current.sequence if current else 0, before)
        named = self.table.named(day)
        folder = self.table.folder(day)
        for name in self.storage.names(folder, before):
            if f"{folder}/{name}" not in named:
                self.storage.remove(f"{folder}/{name}")
                gone.append(name)
        if gone:
            log.info("archive: removed files of an interrupted run", extra={"day": str(day), "files": len(gone)})
        return current

    def put(self, made: Certificate, locator: bytes, uploads: Sequence[tuple[Path, str]]) -> Certificate:
        """Upload, write the certificate, commit: ``tidy`` repairs what a kill leaves at any point between."""
        day = date.fromisoformat(made.day)
        before = self.table.files(day)
        for source, location in uploads:
            self.storage.upload(source, location)
        certificate = sign(made, load_key(self.settings.signing_key)) if self.settings.signing_key else made
        self.certificates.write(certificate, locator)
        files = [f"{self.table.location}/{one.path}" for one in certificate.files]
        if sorted(files) != sorted(before):
            summary = {
                "k2.day": certificate.day,
                "k2.root": certificate.root,
                "k2.certificate": certificate.digest(),
                "k2.offsets": msgspec.json.encode(certificate.offsets).decode(),
            }
            self.table.replace(day, before, files, summary)
        return certificate


def archive_day(settings: ArchiveSettings, day: date, now_us: int) -> Outcome:
    """Archive a day. Raises ``NotFinished``, ``TryAgain``, ``ArchiveError``."""
    _, end = day_bounds(day)
    if now_us < end:
        raise NotFinished(f"{day} is not over: it ends at {day + timedelta(days=1)}T00:00:00Z")
    with ExitStack() as stack:
        work = day_locks(settings, day, stack)
        return _Run(settings, day, now_us, work).run()


def day_locks(settings: ArchiveSettings, day: date, stack: ExitStack) -> Path:
    """Hold the locks of a day; returns the folder for its work. Raises ``TryAgain`` if another run is at it."""
    name = f"{settings.namespace}.{settings.table}-{day.isoformat()}"
    stack.enter_context(locked(settings.work / f"{name}.lock", str(day)))
    if settings.is_folder:
        stack.enter_context(locked(Path(settings.warehouse) / "locks" / f"{name}.lock", str(day)))
    return settings.work / name


class _Run:
    def __init__(self, settings: ArchiveSettings, day: date, now_us: int, work: Path) -> None:
        self._settings = settings
        self._day = day
        self._now_us = now_us
        self._work = work
        self._archive = Archive(settings)

    def run(self) -> Outcome:
        current = self._archive.tidy(self._day)
        recorded = read_positions(self._settings)
        schemas = Schemas(self._settings)
        try:
            built, offsets, resumed = self._built(recorded, schemas)
            symbols = self._entries(built, recorded, EarlierRecords(self._settings, schemas.sample))
            if resumed and worst([one.verdict for one in symbols]) is Verdict.FAIL:
                log.info("archive: reading again, the topic may have changed since an interrupted run read it")
                shutil.rmtree(self._work)
                built, offsets, _ = self._built(recorded, schemas)
                symbols = self._entries(built, recorded, EarlierRecords(self._settings, schemas.sample))
        finally:
            schemas.close()
        outcome = self._settle(current, built, symbols, offsets)
        shutil.rmtree(self._work)
        return outcome

    def _built(
        self, recorded: Recorded, schemas: Schemas
    ) -> tuple[list[BucketResult], dict[int, tuple[int, int]], bool]:
        """The buckets, the offsets read, and whether an interrupted run has read them."""
        spool = Spool(self._work / "spool", f"{self._settings.topic} {self._day}")
        ranges = first_offsets(self._settings, self._day)
        offsets = DayReader(self._settings, self._day, recorded, schemas).fill(spool, ranges)
        workers = self._settings.workers
        planned = buckets(spool.files(), self._settings.bucket_rows, workers=workers)
        return build(self._day, self._work, planned, workers=workers), offsets, spool.complete

    def _entries(self, built: list[BucketResult], recorded: Recorded, earlier: EarlierRecords) -> list[SymbolEntry]:
        before = self._day_before()
        known = entries(before.symbols if before else [])
        found = {one.symbol: (one, bucket) for bucket in built for one in bucket.symbols}
        exchange, witness = Exchange(self._settings, self._day), Witness(self._settings, self._work / "files")
        made = []
        try:
            for symbol in sorted({*found, *recorded.positions}):
                result, bucket = found.get(symbol, (None, None))
                if result is None:
                    result = SymbolResult(symbol, _identity(symbol, known), SymbolDay(), 0, b"")
                entry = self._entry(result, bucket, recorded, known.get(symbol), earlier, exchange, witness)
                if entry is not None:
                    made.append(entry)
        finally:
            exchange.close()
            witness.close()
        return made

    def _entry(
        self, result: SymbolResult, bucket: BucketResult | None, recorded: Recorded, before: SymbolEntry | None,
        earlier: EarlierRecords, exchange: Exchange, witness: Witness,
    ) -> SymbolEntry | None:  # fmt: skip
        symbol, facts = result.symbol, result.facts
        position, voids = recorded.positions.get(symbol), recorded.voids_of(symbol)
        if _begins_later(facts, position, before):
            return None
        if _quiet_since_before(facts, position, self._day):
            facts.before_id = position.last_id if position else None
        start, start_detail = start_of(self._day, facts, position, before, lambda first: earlier.before(symbol, first))
        end, end_detail = end_of(
            self._day, facts, position, recorded.committed_at(symbol), round(self._settings.grace_seconds * 1e6),
            max((one.last_id for one in voids), default=-1), lambda last: exchange.follows(symbol, last),
        )  # fmt: skip
        # What the topic no longer has, or never had, is not compared: the finding start_not_shown says it.
        began = position is not None and position.first_id == facts.first_id
        from_id = facts.first_id if began or not start else 0
        comparison = witness.compare(
            symbol, self._day, self._rows(bucket, symbol), trades=facts.trades, from_id=from_id or 0
        )
        context = Context(
            voids=voids, previous_last_id=last_known(before) if before else None, start=start, end=end,
            start_detail=start_detail, end_detail=end_detail, comparison=comparison, malformed=result.malformed,
        )  # fmt: skip
        return judge(result.identity, facts, context)

    def _rows(self, bucket: BucketResult | None, symbol: str) -> Callable[[], Iterator[Rows]]:
        if bucket is None or not bucket.name:
            return lambda: iter(())
        local = Storage({})
        location = f"file://{(self._work / bucket.name).absolute()}"
        return lambda: symbol_rows(local, location, symbol)

    def _day_before(self) -> Certificate | None:
        return self._archive.current(self._day - timedelta(days=1))

    def _settle(
        self, current: Certificate | None, built: list[BucketResult], symbols: list[SymbolEntry],
        offsets: dict[int, tuple[int, int]],
    ) -> Outcome:  # fmt: skip
        locator = b"".join(one.locator for bucket in built for one in bucket.symbols)
        made = compose(
            self._settings, self._day, symbols, locator, sequence=current.sequence + 1 if current else 1,
            before=self._day_before(), origin="topic", now_us=self._now_us,
        )  # fmt: skip
        made = msgspec.structs.replace(
            made, topic=self._settings.topic, offsets={str(one): span for one, span in sorted(offsets.items())}
        )
        if current is not None and made.verdict is not Verdict.PASS and (lost := lost_rows(current, made)):
            log.warning(
                "archive: the day is left as it is, the topic no longer has all of its rows",
                extra={"day": made.day, "symbols": lost[:20], "count": len(lost)},
            )
            return Outcome(made, changed=False, certified=False)
        return settle(self._archive, current, made, built, self._work, locator)


def lost_rows(current: Certificate, made: Certificate) -> list[str]:
    """Symbols of which the archive has rows that a new reading lacks."""
    lost = []
    for old in current.symbols:
        new = made.entry(old.symbol)
        if old.first_id is None or old.last_id is None:
            continue
        if (
            new is None
            or new.first_id is None
            or new.last_id is None
            or new.first_id > old.first_id
            or new.last_id < old.last_id
            or new.trades < old.trades
        ):
            lost.append(old.symbol)
    return lost


def compose(
    settings: ArchiveSettings, day: date, symbols: list[SymbolEntry], locator: bytes, *, sequence: int,
    before: Certificate | None, origin: Origin, now_us: int,
) -> Certificate:  # fmt: skip
    """A certificate without its files."""
    digest = hashlib.sha256(locator).hexdigest()
    return Certificate(
        table=f"{settings.namespace}.{settings.table}",
        day=day.isoformat(),
        sequence=sequence,
        origin=origin,
        verdict=worst([one.verdict for one in symbols]),
        root=day_root(symbols),
        previous=Previous(before.day, before.root) if before else None,
        trades=sum(one.trades for one in symbols),
        symbols=symbols,
        files=[],
        locator=LocatorFile(f"{sequence:04d}-{digest[:16]}.locator", digest),
        versions={"k2-ingest": __version__, "pyiceberg": pyiceberg.__version__, "pyarrow": pyarrow.__version__},
        created_at_us=now_us,
    )


def settle(
    archive: Archive, current: Certificate | None, made: Certificate, built: list[BucketResult], work: Path,
    locator: bytes,
) -> Outcome:  # fmt: skip
    """Commit what differs from the current certificate, and nothing if nothing does."""
    day = date.fromisoformat(made.day)
    live = archive.table.files(day)
    if current is not None and current.root == made.root and _is_live(archive, current, live):
        made = msgspec.structs.replace(made, files=current.files)
        if _same(current, made):
            return Outcome(current, changed=False, certified=False)
        return Outcome(archive.put(made, locator, []), changed=False, certified=True)
    files, uploads = [], []
    for bucket in built:
        if bucket.name:
            symbols = [one.symbol for one in bucket.symbols if one.facts.trades]
            name = f"{made.sequence:04d}-{bucket.name.partition('.')[0]}-{bucket.sha256[:16]}.parquet"
            location = f"{archive.table.folder(day)}/{name}"
            path = location.removeprefix(archive.table.location + "/")
            files.append(DataFile(path, bucket.bytes, bucket.sha256, bucket.trades, symbols))
            uploads.append((work / bucket.name, location))
    made = msgspec.structs.replace(made, files=files)
    return Outcome(archive.put(made, locator, uploads), changed=True, certified=True)


def _is_live(archive: Archive, current: Certificate, live: list[str]) -> bool:
    return sorted(f"{archive.table.location}/{one.path}" for one in current.files) == live


def _same(one: Certificate, other: Certificate) -> bool:
    """Whether two certificates say the same, times and places of reading aside."""
    parts = [
        msgspec.structs.replace(
            each, sequence=0, created_at_us=0, offsets={}, versions={}, signature=None,
            locator=LocatorFile("", each.locator.sha256),
        )
        for each in (one, other)
    ]  # fmt: skip
    return parts[0] == parts[1]


def _identity(symbol: str, known: Mapping[str, SymbolEntry]) -> Identity:
    entry = known.get(symbol)
    if entry is None:
        return Identity(symbol, "", "", "")
    return Identity(symbol, entry.exchange, entry.base_asset, entry.quote_asset)


def _begins_later(facts: SymbolDay, position: Position | None, before: SymbolEntry | None) -> bool:
    """Whether the symbol was not recorded yet."""
    nothing = facts.trades == 0 and facts.before_id is None and before is None
    return nothing and position is not None and facts.after_id == position.first_id


def _quiet_since_before(facts: SymbolDay, position: Position | None, day: date) -> bool:
    """Whether the symbol's position says that its last trade was before the day."""
    if position is None or position.last_time_us is None or facts.trades or facts.before_id is not None:
        return False
    return position.last_time_us < day_bounds(day)[0] and position.last_id >= position.first_id
