"""Turns the spool into data files, bucket by bucket: decode, account, write Parquet. A finished bucket is kept."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.archive.columns import TRADES, RecordReader, as_table, decoded
from ingest_ops.archive.judge import Identity
from ingest_ops.archive.rows import Rows
from ingest_ops.archive.spool import write_whole
from ingest_ops.archive.tally import Disorder, SymbolDay, Tally
from ingest_ops.common.files import read_file

log = logging.getLogger(__name__)

ROW_GROUP: Final = 262_144
PLAIN: Final = ["trade_id", "timestamp", "ingestion_timestamp"]
"""Columns of growing numbers."""
SHARE_ROWS: Final = 500_000
"""A bucket is not made smaller than this so that every worker has one."""
RECORD_BYTES: Final = 190
"""Of the spool, about."""


class SymbolResult(msgspec.Struct):
    """What was found of one symbol."""

    symbol: str
    identity: Identity
    facts: SymbolDay
    malformed: int
    locator: bytes


class BucketResult(msgspec.Struct):
    """A bucket: its file, and its symbols in the order of the rows."""

    fingerprint: str
    name: str
    bytes: int
    sha256: str
    trades: int
    symbols: list[SymbolResult]


Bucket = list[tuple[str, list[Path]]]


def buckets(files: Iterator[tuple[str, list[Path]]], rows: int, *, workers: int = 1) -> list[Bucket]:
    """Consecutive symbols with about so many rows together, or fewer, so that every worker has some.

    Never a part of a symbol.
    """
    sized = [(symbol, paths, sum(path.stat().st_size for path in paths)) for symbol, paths in files]
    share = max(sum(size for *_, size in sized) // workers, SHARE_ROWS * RECORD_BYTES)
    most = min(rows * RECORD_BYTES, share)
    made: list[Bucket] = []
    held = 0
    for symbol, paths, size in sized:
        if not made or held + size > most:
            made.append([])
            held = 0
        made[-1].append((symbol, paths))
        held += size
    return made


def build(day: date, work: Path, planned: Sequence[Bucket], *, workers: int) -> list[BucketResult]:
    """Write the data files of a day to the work folder; buckets that an earlier run finished are taken as they are."""
    numbered = list(enumerate(planned))
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="archive") as pool:
        return list(pool.map(lambda one: _bucket(day, work, one[0], one[1]), numbered))


def _bucket(day: date, work: Path, number: int, bucket: Bucket) -> BucketResult:
    spooled = [(symbol, [(path.name, path.stat().st_size) for path in paths]) for symbol, paths in bucket]
    fingerprint = hashlib.sha256(repr((str(day), spooled)).encode()).hexdigest()
    path, note = work / f"{number:04d}.parquet", work / f"{number:04d}.json"
    done = _kept(note, path, fingerprint)
    if done is not None:
        return done
    symbols = _write(day, bucket, path.with_suffix(".part"))
    draft = path.with_suffix(".part")
    trades = sum(one.facts.trades for one in symbols)
    size, digest = 0, ""
    if trades:
        size, digest = draft.stat().st_size, file_digest(draft)
        draft.replace(path)
    result = BucketResult(fingerprint, path.name if trades else "", size, digest, trades, symbols)
    write_whole(note, msgspec.json.encode(result))
    log.info("archive: bucket written", extra={"bucket": number, "trades": trades})
    return result


def writer_options() -> dict[str, object]:
    """How Parquet is written."""
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": [one.name for one in TRADES if one.name not in PLAIN],
        "column_encoding": dict.fromkeys(PLAIN, "DELTA_BINARY_PACKED"),
        "write_page_checksum": True,
        "sorting_columns": [pq.SortingColumn(1), pq.SortingColumn(2)],
    }


def _kept(note: Path, path: Path, fingerprint: str) -> BucketResult | None:
    try:
        done = decode_typed(read_file(note), BucketResult)
    except (OSError, Undecodable):
        return None
    if done.fingerprint != fingerprint:
        return None
    whole = not done.name or (path.exists() and path.stat().st_size == done.bytes and file_digest(path) == done.sha256)
    return done if whole else None


class TableWriter:
    """Writes row groups of ``ROW_GROUP`` rows, whatever the pieces that it gets."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, TRADES, **writer_options())
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: Rows, identity: Identity) -> None:
        """Append rows of a symbol."""
        self._waiting.append(as_table(rows, identity))
        self._rows += len(rows)
        while self._rows >= ROW_GROUP:
            self._flush(ROW_GROUP)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        self._writer.write_table(table.slice(0, rows), row_group_size=rows)
        self._waiting = [table.slice(rows)]
        self._rows -= rows

    def close(self) -> None:
        """Write what waits, and the file's end."""
        if self._rows:
            self._flush(self._rows)
        self._writer.close()


class _NotInOrder(Exception):
    """A symbol's records are not in the order of their ids."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol


def _write(day: date, bucket: Bucket, path: Path) -> list[SymbolResult]:
    """Write a bucket. A symbol whose records are not in order is sorted, and the bucket started again."""
    by_id: set[str] = set()
    while True:
        writer = TableWriter(path)
        try:
            return [_account(day, symbol, paths, writer, by_id=symbol in by_id) for symbol, paths in bucket]
        except _NotInOrder as found:
            by_id.add(found.symbol)
        finally:
            writer.close()


def _account(day: date, symbol: str, paths: Sequence[Path], writer: TableWriter, *, by_id: bool) -> SymbolResult:
    tally, reader = Tally(day, sorted_input=by_id), RecordReader(symbol)
    for batch in decoded(paths, by_id=by_id):
        try:
            rows = tally.take(reader.rows(batch))
        except Disorder as error:
            raise _NotInOrder(symbol) from error
        if len(rows) and reader.identity is not None:
            writer.write(rows, reader.identity)
    identity = reader.identity or Identity(symbol, "", "", "")
    return SymbolResult(symbol, identity, tally.result(), reader.malformed, tally.locator().tobytes())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
