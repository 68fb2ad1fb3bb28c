"""``archive verify``: recomputes certificates from the files, and finds what was changed: day, symbol, id."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest_ops.archive.certificate import Certificate, CertificateError, SymbolEntry
from ingest_ops.archive.columns import BATCH_ROWS, rows_of_table
from ingest_ops.archive.day import Archive
from ingest_ops.archive.errors import ArchiveError
from ingest_ops.archive.locator import SUMS, Hashes, differences
from ingest_ops.archive.rows import plain
from ingest_ops.archive.signing import signature_fault
from ingest_ops.archive.tally import Disorder, SymbolDay, Tally

MOST_FAULTS = 100
"""Reported of each symbol."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that contradicts a certificate. Ids are None where the fault has none."""

    day: str
    symbol: str
    first_id: int | None
    last_id: int | None
    text: str

    def __str__(self) -> str:
        ids = "" if self.first_id is None else f" id {self.first_id}"
        ids += f"..{self.last_id}" if self.last_id not in (None, self.first_id) else ""
        return f"{self.day}{' ' + self.symbol if self.symbol else ''}{ids}: {self.text}"


class _Symbol:
    """What the files have of one symbol."""

    def __init__(self, day: date) -> None:
        self.tally = Tally(day)
        self.others = 0
        """Rows whose exchange or assets are not those of the certificate, or with another day's time."""
        self.first_other: int | None = None
        self.ids: list[int] = []
        """The id at the beginning of each 1,024 rows."""
        self.rows = 0
        self.disorder: int | None = None


def verify_days(archive: Archive, days: list[date], *, trusted: str = "") -> Iterator[Fault]:
    """Every fault of these days and of the chain between them. Raises ``TryAgain``, ``ArchiveError``."""
    found: dict[date, Certificate] = {}
    for day in days:
        try:
            certificate = archive.current(day)
        except CertificateError as error:
            yield Fault(day.isoformat(), "", None, None, str(error))
            continue
        if certificate is None:
            yield Fault(day.isoformat(), "", None, None, "there is no certificate of this day")
            continue
        found[day] = certificate
        wrong = signature_fault(certificate, trusted or None)
        if wrong is not None:
            yield Fault(day.isoformat(), "", None, None, f"the certificate cannot be trusted: {wrong}")
        yield from _Day(archive, day, certificate).faults()
    yield from chain_faults(archive, found)


def chain_faults(archive: Archive, found: dict[date, Certificate]) -> Iterator[Fault]:
    """Whether each certificate names the root of the day before, and ids go on where they ended."""
    if found and (first := found[min(found)]).previous is not None:
        earlier = date.fromisoformat(first.previous.day)
        if not archive.certificates.names(earlier):
            yield Fault(first.day, "", None, None, f"the chain names {earlier}, of which there is no certificate")
    for before, after in pairwise(sorted(found)):
        day = after.isoformat()
        if after != before + timedelta(days=1):
            continue  # the days between are reported as missing, or were not asked for
        previous = found[after].previous
        roots = {one.root for one in archive.certificates.all(before)}
        if previous is None or previous.day != before.isoformat():
            text = (
                f"the chain leaves out {before}"
                if previous is None
                else f"the chain names {previous.day}, not {before}"
            )
            yield Fault(day, "", None, None, text)
        elif previous.root not in roots:
            yield Fault(day, "", None, None, f"the root that the chain names is that of no certificate of {before}")
        yield from _joins(found[before], found[after])


def _joins(before: Certificate, after: Certificate) -> Iterator[Fault]:
    for entry in after.symbols:
        earlier = before.entry(entry.symbol)
        if earlier is None or earlier.last_id is None or entry.first_id is None:
            continue
        if entry.previous_last_id is None:
            if entry.first_id != earlier.last_id + 1:
                text = f"it does not say what it continues; the day before ends with {earlier.last_id}"
                yield Fault(after.day, entry.symbol, entry.first_id, entry.first_id, text)
        elif earlier.last_id != entry.previous_last_id and not (entry.elsewhere or earlier.elsewhere):
            yield Fault(
                after.day, entry.symbol, entry.first_id, entry.first_id,
                f"it continues after id {entry.previous_last_id}, the day before ends with {earlier.last_id}",
            )  # fmt: skip


class _Day:
    def __init__(self, archive: Archive, day: date, certificate: Certificate) -> None:
        self._archive = archive
        self._date = day
        self._day = day.isoformat()
        self._certificate = certificate
        self._symbols: dict[str, _Symbol] = {}
        self._entries = {one.symbol: one for one in certificate.symbols}

    def faults(self) -> Iterator[Fault]:
        """Files, then rows."""
        location = self._archive.table.location
        live = self._archive.table.files(self._date)
        named = {f"{location}/{one.path}" for one in self._certificate.files}
        broken: set[str] = set()
        for path in sorted({*live, *named}):
            yield from self._file(path, live, broken)
        for path in live:
            if path not in broken:
                yield from self._read(path)
        yield from self._compared()

    def _file(self, path: str, live: list[str], broken: set[str]) -> Iterator[Fault]:
        stated = next((one for one in self._certificate.files if path.endswith("/" + one.path)), None)
        name = path.rpartition("/")[2]
        if stated is None:
            yield self._fault("", f"the table has {name}, which the certificate does not name")
            return
        if path not in live:
            yield self._fault(_names(stated.symbols), f"the table no longer has {name}")
            return
        try:
            size, digest = self._archive.storage.digest(path)
        except FileNotFoundError:
            broken.add(path)
            yield self._fault(_names(stated.symbols), f"{name} is gone")
            return
        if (size, digest) != (stated.bytes, stated.sha256):
            text = f"{name} was changed: SHA-256 and size are not those of the certificate"
            yield self._fault(_names(stated.symbols), text)

    def _read(self, path: str) -> Iterator[Fault]:
        """Account for the rows of a file, row group by row group."""
        system, place = self._archive.storage.place(path)
        name = path.rpartition("/")[2]
        try:
            with system.open_input_file(place) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                rows = 0
                for number in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(number).num_rows
                    try:
                        self._take_group(file, number)
                    except (OSError, pa.ArrowException, ValueError, ArchiveError) as error:
                        yield from self._unreadable(path, rows, count, str(error))
                    rows += count
        except (OSError, pa.ArrowException) as error:
            yield self._fault(_names(self._of_file(path)), f"{name} cannot be read: {error}")

    def _take_group(self, file: pq.ParquetFile, number: int) -> None:
        # The whole group first: a page that cannot be read must not leave half of the group accounted for.
        for batch in list(file.iter_batches(BATCH_ROWS, row_groups=[number])):
            self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> None:
        for symbol in pc.unique(batch.column("symbol")).to_pylist():
            part = batch.filter(pc.equal(batch.column("symbol"), symbol))
            held = self._symbols.setdefault(symbol, _Symbol(self._date))
            rows = rows_of_table(part)
            at = -held.rows % 1024
            held.ids += rows.ids[at::1024].tolist()
            held.rows += len(rows)
            self._check_others(held, part, symbol)
            try:
                kept = held.tally.take(rows)
            except Disorder:
                held.disorder = int(rows.ids[0])
                continue
            if len(kept) < len(rows):
                held.others += len(rows) - len(kept)

    def _check_others(self, held: _Symbol, part: pa.RecordBatch, symbol: str) -> None:
        entry = self._entries.get(symbol)
        if entry is None:
            return
        wrong = np.zeros(len(part), dtype=bool)
        for name in ("exchange", "base_asset", "quote_asset"):
            wrong |= pc.not_equal(part.column(name), getattr(entry, name)).to_numpy(zero_copy_only=False)
        if wrong.any():
            held.others += int(wrong.sum())
            held.first_other = held.first_other or int(part.column("trade_id").to_numpy()[wrong][0])

    def _unreadable(self, path: str, first_row: int, rows: int, error: str) -> Iterator[Fault]:
        """A row group that cannot be decoded: which ids it had, by the certificate."""
        before = 0
        for symbol in self._of_file(path):
            entry = self._entries[symbol]
            low, high = max(first_row, before), min(first_row + rows, before + entry.trades)
            if low < high and entry.first_id is not None:
                first, last = _id_at(entry, low - before), _id_at(entry, high - before - 1)
                text = f"these rows cannot be read: {error}"
                yield Fault(self._day, symbol, first, last, text)
            before += entry.trades

    def _of_file(self, path: str) -> list[str]:
        return next((one.symbols for one in self._certificate.files if path.endswith("/" + one.path)), [])

    def _compared(self) -> Iterator[Fault]:
        sums = self._sums()
        if isinstance(sums, Fault):
            yield sums
        at = 0
        for symbol in sorted({*self._entries, *self._symbols}):
            entry, held = self._entries.get(symbol), self._symbols.get(symbol)
            blocks = -(-entry.trades // 1024) if entry else 0
            expected = None if isinstance(sums, Fault) else sums[at : at + blocks]
            at += blocks
            if entry is None:
                yield self._fault(
                    symbol, f"{held.rows if held else 0} rows of a symbol that the certificate does not have"
                )
            elif held is not None or entry.trades:
                yield from self._symbol(entry, held or _Symbol(self._date), expected)

    def _sums(self) -> "Hashes | Fault":
        try:
            data = self._archive.certificates.locator(self._certificate)
        except FileNotFoundError:
            return self._fault("", "the certificate's locator is gone: changed rows are not located")
        if hashlib.sha256(data).hexdigest() != self._certificate.locator.sha256:
            return self._fault("", "the certificate's locator was changed: changed rows are not located")
        blocks = sum(-(-one.trades // 1024) for one in self._certificate.symbols)
        found = np.frombuffer(data[: len(data) // (8 * SUMS) * 8 * SUMS], dtype="<u8").reshape(-1, SUMS)
        if len(found) != blocks:
            return self._fault("", "the certificate's locator was changed: changed rows are not located")
        return found

    def _symbol(self, entry: SymbolEntry, held: _Symbol, expected: Hashes | None) -> Iterator[Fault]:
        facts = held.tally.result()
        if held.disorder is not None:
            yield Fault(
                self._day, entry.symbol, held.disorder, None, "rows are not in the order of their ids, or there twice"
            )
        if held.others:
            text = f"{held.others} rows with other assets, another exchange or another day than the certificate has"
            yield Fault(self._day, entry.symbol, held.first_other, None, text)
        wrong = list(_contradictions(entry, facts))
        located = list(self._located(entry, held, facts, expected))
        yield from located[:MOST_FAULTS]
        if wrong and not located:
            yield Fault(self._day, entry.symbol, None, None, "; ".join(wrong))

    def _located(self, entry: SymbolEntry, held: _Symbol, facts: SymbolDay, expected: Hashes | None) -> Iterator[Fault]:
        stated = _stated_gaps(entry)
        for first, last in facts.gaps:
            if (first, last) not in stated:
                yield Fault(self._day, entry.symbol, first, last, "rows are missing")
        yield from self._edges(entry, facts)
        if facts.trades != entry.trades:
            yield Fault(
                self._day, entry.symbol,
                entry.first_id if facts.first_id is None else facts.first_id,
                entry.last_id if facts.last_id is None else facts.last_id,
                f"{facts.trades} rows, the certificate has {entry.trades} ({entry.first_id}..{entry.last_id})",
            )  # fmt: skip
            return
        found = held.tally.locator()
        if expected is None or len(found) != len(expected):
            return
        for first, last in differences(expected, found):
            a, b = _id_at(entry, first), _id_at(entry, min(last, entry.trades - 1))
            yield Fault(self._day, entry.symbol, a, b, "the row was changed" if first == last else "rows were changed")

    def _edges(self, entry: SymbolEntry, facts: SymbolDay) -> Iterator[Fault]:
        if entry.first_id is None or entry.last_id is None or facts.first_id is None or facts.last_id is None:
            return
        if facts.first_id > entry.first_id:
            yield Fault(self._day, entry.symbol, entry.first_id, facts.first_id - 1, "rows are missing")
        if facts.last_id < entry.last_id:
            yield Fault(self._day, entry.symbol, facts.last_id + 1, entry.last_id, "rows are missing")

    def _fault(self, symbol: str, text: str) -> Fault:
        return Fault(self._day, symbol, None, None, text)


def _contradictions(entry: SymbolEntry, facts: SymbolDay) -> Iterator[str]:
    pairs = {
        "trades": (entry.trades, facts.trades),
        "first id": (entry.first_id, facts.first_id),
        "last id": (entry.last_id, facts.last_id),
        "quantity": (entry.quantity, plain(facts.quantity)),
        "quote quantity": (entry.quote_quantity, plain(facts.quote_quantity, 16)),
        "Merkle root": (entry.root, facts.root.hex()),
    }
    for name, (stated, found) in pairs.items():
        if stated != found:
            yield f"{name} is {found}, the certificate has {stated}"


def _stated_gaps(entry: SymbolEntry) -> set[tuple[int, int]]:
    """Gaps that the certificate knows of: voids, ids of other days, ids that were missing from the start."""
    return {*((one.first_id, one.last_id) for one in entry.voids), *entry.elsewhere} | {
        (one.first_id, one.last_id)
        for one in entry.findings
        if one.code == "missing" and one.first_id is not None and one.last_id is not None
    }


def _id_at(entry: SymbolEntry, place: int) -> int:
    """The id of a row by its place within the symbol, from the certificate alone."""
    assert entry.first_id is not None  # noqa: S101 - it has rows
    found = entry.first_id + place
    for first, last in sorted(_stated_gaps(entry)):
        if entry.first_id <= first <= found:
            found += last - first + 1
    return found


def _names(symbols: list[str]) -> str:
    return symbols[0] if len(symbols) == 1 else f"{symbols[0]}..{symbols[-1]}" if symbols else ""
