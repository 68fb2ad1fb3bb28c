"""The exchange's public daily files: download, check, rows.

``<base>/data/spot/daily/trades/<SYMBOL>/<SYMBOL>-trades-<YYYY-MM-DD>.zip`` and ``.CHECKSUM`` beside it. The archive has
one CSV file without a header: id, price, quantity, quote quantity, time, is buyer maker, is best match. Times are in
milliseconds before 2025, then in microseconds.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

import httpx2
import numpy as np
import pyarrow as pa
from pyarrow import csv

from ingest.http.answers import ask, pieces
from ingest_ops.archive.columns import DECIMAL, rows_of
from ingest_ops.archive.errors import TryAgain
from ingest_ops.archive.exchange_client import exchange_client
from ingest_ops.archive.rows import Rows

COLUMNS: Final = ("id", "price", "quantity", "quote_quantity", "time", "is_buyer_maker", "is_best_match")
TYPES: Final = {
    "id": pa.int64(), "price": DECIMAL, "quantity": DECIMAL, "quote_quantity": pa.string(), "time": pa.int64(),
    "is_buyer_maker": pa.bool_(), "is_best_match": pa.bool_(),
}  # fmt: skip
MILLISECONDS_BELOW: Final = 10**14
"""Microseconds of this century are greater, milliseconds of the next two thousand years smaller."""
CHECKSUM_BYTES: Final = 64 * 1024
DOWNLOAD_BYTES: Final = 16 * 2**30
DOWNLOAD_SECONDS: Final = 4 * 3600.0
MOST_BYTES: Final = 64 * 2**30


class Absent(Exception):
    """The exchange does not serve the file, or not yet."""


class WrongChecksum(Exception):
    """The file is not the one that its checksum names."""


class Unusable(Exception):
    """The file is truncated, or not what its name says; the text says why."""


@dataclass(frozen=True, slots=True)
class DailyFile:
    """A file that was downloaded and agrees with its checksum."""

    path: Path
    sha256: str
    source: str


class DailyFiles:
    """Downloads daily files. Close it."""

    def __init__(self, base: str, folder: Path, *, timeout: float) -> None:
        self._base = base.rstrip("/")
        self._folder = folder
        self._client = exchange_client(self._base, timeout=timeout, follow_redirects=True)

    def address(self, symbol: str, day: date) -> str:
        """Address of a file."""
        return f"{self._base}/data/spot/daily/trades/{symbol}/{symbol}-trades-{day.isoformat()}.zip"

    def checksum(self, symbol: str, day: date) -> str:
        """SHA-256 that the exchange states. Raises ``Absent``, ``Unusable``, ``TryAgain``."""
        answer = self._get(self.address(symbol, day) + ".CHECKSUM")
        digest = answer.text.split()[:1]
        if not digest or len(digest[0]) != 64 or not set(digest[0].lower()) <= set("0123456789abcdef"):
            raise Unusable(f"its checksum file is none: {answer.text[:80]!r}")
        return digest[0].lower()

    def _get(self, url: str) -> httpx2.Response:
        try:
            answer = ask(self._client, "GET", url, most_bytes=CHECKSUM_BYTES)
        except httpx2.HTTPError as error:
            raise TryAgain(f"{url}: {str(error) or type(error).__name__}") from error
        _check(url, answer.status_code)
        return answer

    def download(self, symbol: str, day: date) -> DailyFile:
        """Fetch and check. Raises ``Absent``, ``WrongChecksum``, ``Unusable``, ``TryAgain``. Remove the file."""
        url = self.address(symbol, day)
        stated = self.checksum(symbol, day)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{symbol}-{day.isoformat()}.zip"
        hashed = hashlib.sha256()
        try:
            with self._client.stream("GET", url) as answer, path.open("wb") as file:
                _check(url, answer.status_code)
                for piece in pieces(answer.iter_bytes(), most_bytes=DOWNLOAD_BYTES, most_seconds=DOWNLOAD_SECONDS):
                    file.write(piece)
                    hashed.update(piece)
        except httpx2.RemoteProtocolError as error:
            path.unlink(missing_ok=True)
            raise Unusable(f"the download ended before the file did: {error}") from error
        except httpx2.HTTPError as error:
            path.unlink(missing_ok=True)
            raise TryAgain(f"{url}: {str(error) or type(error).__name__}") from error
        if hashed.hexdigest() != stated:
            path.unlink()
            raise WrongChecksum(f"the file has {hashed.hexdigest()}, the checksum says {stated}")
        return DailyFile(path, stated, url)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _check(url: str, status: int) -> None:
    if status in (403, 404):
        raise Absent(url)
    if status != 200:
        raise TryAgain(f"{url}: HTTP {status}")


@dataclass(slots=True)
class FileRows:
    """Rows of a daily file, and the unit of its times, known once the first row was read."""

    file: DailyFile
    unit_us: int = 1

    def __iter__(self) -> Iterator[Rows]:
        """Yield rows, times in microseconds. Raises ``Unusable``."""
        try:
            with _member(self.file.path) as member:
                yield from self._read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, pa.ArrowException, NotImplementedError, ValueError) as error:
            raise Unusable(f"the file cannot be read: {error}") from error

    def _read(self, member: IO[bytes]) -> Iterator[Rows]:
        try:
            reader = csv.open_csv(
                member,
                read_options=csv.ReadOptions(column_names=list(COLUMNS), block_size=1 << 22),
                convert_options=csv.ConvertOptions(column_types=TYPES, strings_can_be_null=False, null_values=[]),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        for batch in reader:
            yield self._rows(batch)

    def _rows(self, batch: Any) -> Rows:
        times = batch.column("time")
        stamps = times.to_numpy(zero_copy_only=False)
        if len(stamps) and stamps.min() < MILLISECONDS_BELOW:
            if stamps.max() >= MILLISECONDS_BELOW:
                raise Unusable("its times are partly in milliseconds and partly in microseconds")
            self.unit_us = 1000
        makers = batch.column("is_buyer_maker").to_numpy(zero_copy_only=False)
        sides = pa.array(np.where(makers, "SELL", "BUY"), pa.string())
        none = pa.nulls(len(batch), pa.int64())
        rows = rows_of(batch.column("id"), times, batch.column("price"), batch.column("quantity"), sides, none)
        return Rows(rows.ids, rows.times * self.unit_us, rows.prices, rows.quantities, rows.sides, rows.encoded)


@contextmanager
def _member(path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        names = [one for one in archive.infolist() if one.filename.endswith(".csv")]
        if len(names) != 1:
            raise Unusable(f"the archive has {len(names)} CSV files, not one")
        if names[0].file_size > MOST_BYTES:
            raise Unusable(f"the CSV file claims {names[0].file_size} bytes")
        with archive.open(names[0]) as member:
            yield member
