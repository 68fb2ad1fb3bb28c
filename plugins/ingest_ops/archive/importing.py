"""``archive import``: a day from before the first recording, from the exchange's daily files, into the same table."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import httpx2
import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest.http.answers import MiB, ask
from ingest_ops.archive.build import BucketResult, SymbolResult, TableWriter, file_digest
from ingest_ops.archive.certificate import Certificate, Comparison, SymbolEntry
from ingest_ops.archive.daily_files import Absent, DailyFile, DailyFiles, FileRows, Unusable, WrongChecksum
from ingest_ops.archive.day import Archive, Outcome, compose, day_locks, settle
from ingest_ops.archive.ends import entries, last_known
from ingest_ops.archive.errors import ArchiveError, NotFinished, TryAgain
from ingest_ops.archive.exchange_client import exchange_client
from ingest_ops.archive.judge import Context, Identity, judge
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.tally import Disorder, SymbolDay, Tally, day_bounds

EXCHANGE = "BINANCE"
MOST_BYTES = 4 * MiB
"""Of the exchange's answer about one symbol."""
FILE = "the exchange's file"
"""How both ends of an imported day are known."""
Assets = Mapping[str, tuple[str, str]]
"""Symbol -> base and quote asset."""


class _Symbol(msgspec.Struct, rename="camel"):
    base_asset: str
    quote_asset: str


class _Info(msgspec.Struct):
    symbols: list[_Symbol]


@dataclass
class _Bucket:
    """A data file that is being written."""

    path: Path
    writer: TableWriter
    symbols: list[SymbolResult] = field(default_factory=list)
    rows: int = 0

    def result(self) -> BucketResult:
        """Close the file."""
        self.writer.close()
        if not self.rows:
            return BucketResult("", "", 0, "", 0, self.symbols)
        size, digest = self.path.stat().st_size, file_digest(self.path)
        return BucketResult("", self.path.name, size, digest, self.rows, self.symbols)


def import_day(settings: ArchiveSettings, day: date, symbols: Sequence[str], assets: Assets, now_us: int) -> Outcome:
    """Import a day. Raises ``NotFinished``, ``TryAgain``, ``ArchiveError``."""
    if now_us < day_bounds(day)[1]:
        raise NotFinished(f"{day} is not over: it ends at {day + timedelta(days=1)}T00:00:00Z")
    if not settings.files_url:
        raise ArchiveError("no address of the exchange's daily files is set (K2_ARCHIVE_FILES_URL)")
    with ExitStack() as stack:
        work = day_locks(settings, day, stack)
        return _Import(settings, day, sorted(set(symbols)), assets, work).run(now_us)


class _Import:
    def __init__(
        self, settings: ArchiveSettings, day: date, symbols: Sequence[str], assets: Assets, work: Path
    ) -> None:
        self._settings = settings
        self._day = day
        self._symbols = symbols
        self._assets = assets
        self._work = work
        self._archive = Archive(settings)
        self._buckets: list[_Bucket] = []

    def run(self, now_us: int) -> Outcome:
        current = self._archive.tidy(self._day)
        if current is not None and current.origin == "topic":
            raise ArchiveError(f"{self._day} was recorded: it is archived from the topic, not imported")
        before = self._archive.current(self._day - timedelta(days=1))
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        symbols = list(self._entries(before))
        built = [one.result() for one in self._buckets]
        locator = b"".join(one.locator for bucket in built for one in bucket.symbols)
        made = compose(
            self._settings, self._day, symbols, locator, sequence=current.sequence + 1 if current else 1,
            before=before, origin="exchange-files", now_us=now_us,
        )  # fmt: skip
        outcome = settle(self._archive, current, made, built, self._work, locator)
        shutil.rmtree(self._work)
        return outcome

    def _entries(self, before: Certificate | None) -> Iterator[SymbolEntry]:
        known = entries(before.symbols if before else [])
        files = DailyFiles(self._settings.files_url, self._work / "files", timeout=self._settings.timeout_seconds)
        try:
            for symbol in self._symbols:
                identity = self._identity(symbol, known.get(symbol))
                try:
                    file = files.download(symbol, self._day)
                    result = self._taken(symbol, identity, file)
                except (Absent, WrongChecksum, Unusable) as error:
                    yield _without_file(identity, files.address(symbol, self._day), error)
                    continue
                comparison = Comparison(
                    file.source, "equal", file.sha256, rows=result.facts.trades, equal=result.facts.trades
                )
                previous = last_known(known[symbol]) if symbol in known else None
                context = Context(previous_last_id=previous, start=FILE, end=FILE, comparison=comparison)
                yield judge(identity, result.facts, context)
        finally:
            files.close()

    def _identity(self, symbol: str, before: SymbolEntry | None) -> Identity:
        if symbol in self._assets:
            return Identity(symbol, EXCHANGE, *self._assets[symbol])
        if before is not None and before.base_asset:
            return Identity(symbol, before.exchange, before.base_asset, before.quote_asset)
        url = f"{self._settings.rest_url.rstrip('/')}/api/v3/exchangeInfo"
        try:
            with exchange_client(url, timeout=self._settings.timeout_seconds) as client:
                answer = ask(client, "GET", url, params={"symbol": symbol}, most_bytes=MOST_BYTES)
            found = decode_typed(answer.content, _Info).symbols[0]
        except httpx2.HTTPError as error:
            raise TryAgain(f"{url}: {str(error) or type(error).__name__}") from error
        except (Undecodable, IndexError) as error:
            text = f"the exchange does not say the assets of {symbol}: add --assets {symbol}=BASE/QUOTE"
            raise ArchiveError(text) from error
        return Identity(symbol, EXCHANGE, found.base_asset, found.quote_asset)

    def _taken(self, symbol: str, identity: Identity, file: DailyFile) -> SymbolResult:
        """Write the rows of a file. Raises ``Unusable``, before anything of it is written."""
        try:
            for _ in _accounted(self._day, file):
                pass
            bucket = self._bucket()
            tally = Tally(self._day)
            for batch in FileRows(file):
                rows = tally.take(batch)
                if len(rows):
                    bucket.writer.write(rows, identity)
                    bucket.rows += len(rows)
            result = SymbolResult(symbol, identity, tally.result(), 0, tally.locator().tobytes())
            bucket.symbols.append(result)
        except Disorder as error:
            raise Unusable("its ids are not in order, or there twice") from error
        else:
            return result
        finally:
            file.path.unlink()

    def _bucket(self) -> _Bucket:
        if not self._buckets or self._buckets[-1].rows >= self._settings.bucket_rows:
            path = self._work / f"{len(self._buckets):04d}.parquet"
            self._buckets.append(_Bucket(path, TableWriter(path)))
        return self._buckets[-1]


def _accounted(day: date, file: DailyFile) -> Iterator[int]:
    """Read a file once for its faults alone. Raises ``Unusable`` and ``Disorder``."""
    tally = Tally(day)
    for batch in FileRows(file):
        kept = tally.take(batch)
        if len(kept) != len(batch):
            raise Unusable("it has trades of another day")
        yield len(kept)


def _without_file(identity: Identity, source: str, error: Exception) -> SymbolEntry:
    match error:
        case Absent():
            comparison = Comparison(source, "absent")
        case WrongChecksum():
            comparison = Comparison(f"{source}: {error}", "checksum")
        case _:
            comparison = Comparison(f"{source}: {error}", "unusable")
    return judge(identity, SymbolDay(), Context(start=FILE, end=FILE, comparison=comparison))
