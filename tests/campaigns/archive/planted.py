"""Faults of the sink, planted into its own code while it archives a day. Each must be found."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ingest_ops.archive import build, day, source, tally
from ingest_ops.archive.certificate import Certificate, Previous, VoidEntry
from ingest_ops.archive.columns import RecordReader
from ingest_ops.archive.judge import Identity
from ingest_ops.archive.positions import Recorded
from ingest_ops.archive.rows import Rows, decimals
from ingest_ops.archive.spool import Spool
from ingest_ops.archive.storage import Storage
from ingest_ops.archive.store import CertificateStore
from ingest_ops.archive.table import DayTable
from tests.harness.archive_world import DAY

Plant = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault and what it stands for."""

    name: str
    what: str
    plant: Plant
    compared: bool = True
    """Whether the day is compared with the exchange's files; without that ``archive verify`` alone must find it."""


@contextlib.contextmanager
def swapped(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace an attribute by what ``make`` returns for the present one."""
    before = getattr(owner, name)
    setattr(owner, name, make(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def _changed(rows: Rows, **others: Any) -> Rows:
    return replace(rows, **others)


def _shifted(values: Any, place: int, by: int) -> Any:
    made = values.copy()
    made[place] += by
    return made


def _with_price(rows: Rows, place: int, by: int, field: str = "prices") -> Rows:
    made = getattr(rows, field).copy()
    made[place, 0] ^= by
    return _changed(rows, **{field: made})


Change = Callable[[Rows], Rows]

ROW_CHANGES: dict[str, tuple[str, Change]] = {
    "row_dropped": ("a row is left out", lambda rows: rows.part(np.arange(len(rows)) != len(rows) // 2)),
    "first_row_dropped": ("the first row of a batch is left out", lambda rows: rows.part(slice(1, None))),
    "last_row_dropped": ("the last row of a batch is left out", lambda rows: rows.part(slice(0, -1))),
    "row_doubled": ("a row is there twice", lambda rows: rows.part(np.sort(np.r_[np.arange(len(rows)), 5]))),
    "price_altered": ("a price differs by a unit", lambda rows: _with_price(rows, len(rows) // 3, 1)),
    "quantity_altered": ("a quantity differs", lambda rows: _with_price(rows, 7, 4, "quantities")),
    "time_shifted": ("a time differs by 1 µs", lambda rows: _changed(rows, times=_shifted(rows.times, 9, 1))),
    "id_altered": ("an id differs", lambda rows: _changed(rows, ids=_shifted(rows.ids, len(rows) - 1, 1_000_000))),
    "side_flipped": ("a side differs", lambda rows: _changed(rows, sides=np.r_[1 - rows.sides[:1], rows.sides[1:]])),
    "prices_swapped": (
        "two rows have each other's price",
        lambda rows: _changed(rows, prices=np.concatenate([rows.prices[1:2], rows.prices[:1], rows.prices[2:]])),
    ),
    "order_reversed": ("the rows of a batch are reversed", lambda rows: rows.part(slice(None, None, -1))),
    "milliseconds": ("times lose their microseconds", lambda rows: _changed(rows, times=rows.times // 1000 * 1000)),
    "float": (
        "a price goes through a float",
        lambda rows: _changed(rows, prices=decimals([round(float(one)) for one in _integers(rows.prices)])),
    ),
    "six_decimals": (
        "quantities lose two decimals",
        lambda rows: _changed(rows, quantities=decimals([one // 100 * 100 for one in _integers(rows.quantities)])),
    ),
    "encoding_time": ("a time of encoding differs", lambda rows: _changed(rows, encoded=_shifted(rows.encoded, 3, 1))),
    "batch_dropped": ("a whole batch is left out", lambda rows: rows.part(slice(0, 0))),
}


def _integers(data: Any) -> list[int]:
    raw = data.tobytes()
    return [int.from_bytes(raw[at : at + 16], "little", signed=True) for at in range(0, len(raw), 16)]


def _once(change: Change) -> Change:
    """Only the first batch is changed."""
    done: list[bool] = []

    def apply(rows: Rows) -> Rows:
        if done or len(rows) < 20:
            return rows
        done.append(True)
        return change(rows)

    return apply


def _within_the_day(rows: Rows, change: Change) -> Rows:
    """Change rows of the day alone: what is read of other days does not count."""
    start, end = tally.day_bounds(DAY)
    inside = np.flatnonzero((rows.times >= start) & (rows.times < end))[10:-10]
    parts = [rows.part(slice(0, inside[0])), change(rows.part(inside)), rows.part(slice(inside[-1] + 1, None))]
    names = rows.__dataclass_fields__
    return Rows(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in names})


def _while_writing(change: Change) -> Plant:
    """After the rows were accounted for: the certificate is right and the file is not."""

    def plant() -> contextlib.AbstractContextManager[None]:
        apply = _once(change)
        return swapped(build, "as_table", lambda before: lambda rows, identity: before(apply(rows), identity))

    return plant


def _before_accounting(change: Change) -> Plant:
    """Before the rows are accounted for: file and certificate agree, and both are wrong."""

    def plant() -> contextlib.AbstractContextManager[None]:
        apply = _once(lambda rows: _within_the_day(rows, change))
        return swapped(RecordReader, "rows", lambda before: lambda self, batch: apply(before(self, batch)))

    return plant


def _identity(**others: str) -> Plant:
    def make(before: Any) -> Any:
        return lambda rows, identity: before(rows, Identity(**{**{
            name: getattr(identity, name) for name in ("symbol", "exchange", "base_asset", "quote_asset")
        }, **others}))  # fmt: skip

    return lambda: swapped(build, "as_table", make)


def _bounds(first: int, last: int) -> Plant:
    def make(before: Any) -> Any:
        def bounds(one: date) -> tuple[int, int]:
            start, end = before(one)
            return start + first, end + last

        return bounds

    return lambda: swapped(tally, "day_bounds", make)


def _spool(change: Callable[[list[bytes]], list[bytes]]) -> Plant:
    def make(before: Any) -> Any:
        def add(self: Spool, groups: Any, schemas: Any) -> None:
            before(self, {key: change(values) for key, values in groups.items()}, schemas)

        return add

    return lambda: swapped(Spool, "add", make)


def _without_the_middle(values: list[bytes]) -> list[bytes]:
    return [*values[: len(values) // 2], *values[len(values) // 2 + 1 :]]


def _void_as_trade(before: Any) -> Any:
    """A void is taken for a trade: its ids get rows like the one before."""

    def rows(self: RecordReader, batch: Any) -> Rows:
        found: Rows = before(self, batch)
        holes = np.flatnonzero(np.diff(found.ids) > 1)
        if not len(holes):
            return found
        at = int(holes[0])
        made = found.part(np.sort(np.r_[np.arange(len(found)), at]))
        return _changed(made, ids=_shifted(made.ids, at + 1, 1))

    return rows


def _trade_as_void(before: Any) -> Any:
    def voids_of(self: Recorded, symbol: str) -> list[VoidEntry]:
        position = self.positions[symbol]
        middle = (position.first_id + position.last_id) // 2
        return [*before(self, symbol), VoidEntry(middle, middle, "exchange_hole")]

    return voids_of


def _fewer_files(before: Any) -> Any:
    def replace_day(self: DayTable, one: date, live: Any, files: Any, summary: Any) -> int:
        return int(before(self, one, live, files[:-1], summary))

    return replace_day


def _twice(before: Any) -> Any:
    """The partition is written twice: the files again under other names."""

    def commit(self: DayTable, one: date, live: Any, files: Any, summary: Any) -> None:
        copies = []
        for file in files:
            path = Path(file.removeprefix("file://"))
            copy = path.with_name("again-" + path.name)
            copy.write_bytes(path.read_bytes())
            copies.append(f"file://{copy}")
        before(self, one, live, [*files, *copies], summary)

    return commit


def _half(before: Any) -> Any:
    def upload(self: Storage, path: Path, location: str) -> None:
        half = path.with_suffix(".half")
        half.write_bytes(path.read_bytes()[:-1])
        before(self, half, location)

    return upload


def _lost_group(before: Any) -> Any:
    def close(self: build.TableWriter) -> None:
        self._waiting, self._rows = [one.slice(0, one.num_rows - 1) for one in self._waiting], self._rows - 1
        before(self)

    return close


def _wrong_chain(before: Any) -> Any:
    def compose(*args: Any, **others: Any) -> Certificate:
        made: Certificate = before(*args, **others)
        return type(made)(**{
            **{name: getattr(made, name) for name in made.__struct_fields__},
            "previous": Previous("2026-01-01", "00" * 32),
        })  # fmt: skip

    return compose


def _no_locator(before: Any) -> Any:
    def write(self: CertificateStore, certificate: Certificate, _: bytes) -> None:
        before(self, certificate, b"")

    return write


def _uncommitted(before: Any) -> Any:
    return lambda options: before({**options, "isolation.level": "read_uncommitted"})


FAULTS: list[Fault] = [
    *(Fault(name, what, _while_writing(change), compared=False) for name, (what, change) in ROW_CHANGES.items()),
    *(
        Fault(f"{name}_in_both", f"{what}, in the certificate, too", _before_accounting(change))
        for name, (what, change) in ROW_CHANGES.items()
        if name not in ("encoding_time", "order_reversed", "row_doubled", "id_altered")
    ),
    Fault("another_symbol", "rows are written under another symbol", _identity(symbol="ETHUSDT"), compared=False),
    Fault("another_base", "the base asset is wrong", _identity(base_asset="BTX"), compared=False),
    Fault("another_quote", "the quote asset is wrong", _identity(quote_asset="USDC"), compared=False),
    Fault("another_exchange", "the exchange is wrong", _identity(exchange="OTHER"), compared=False),
    Fault("day_begins_late", "the day begins 1 µs late", _bounds(1, 0)),
    Fault("day_ends_early", "the day ends 1 µs early", _bounds(0, -1)),
    Fault("day_begins_early", "the day begins 1 µs early", _bounds(-1, 0)),
    Fault("day_ends_late", "the day ends 1 µs late", _bounds(0, 1)),
    Fault("record_skipped", "a record of the topic is not read", _spool(_without_the_middle)),
    Fault("records_again", "records of the topic are read twice", _spool(lambda values: [*values, *values[-3:]])),
    Fault("void_as_trade", "a void is taken for a trade", lambda: swapped(RecordReader, "rows", _void_as_trade)),
    Fault("trade_as_void", "a trade is taken for a void", lambda: swapped(Recorded, "voids_of", _trade_as_void)),
    Fault(
        "commit_too_early",
        "the commit lacks the last file",
        lambda: swapped(DayTable, "replace", _fewer_files),
        compared=False,
    ),
    Fault(
        "written_twice", "the partition is written twice", lambda: swapped(DayTable, "_commit", _twice), compared=False
    ),
    Fault(
        "stale_snapshot",
        "the commit is reported and never made",
        lambda: swapped(DayTable, "replace", lambda _: lambda *_args: 0),
        compared=False,
    ),
    Fault(
        "half_a_file",
        "the last byte of a file is not uploaded",
        lambda: swapped(Storage, "upload", _half),
        compared=False,
    ),
    Fault(
        "row_group_cut",
        "the last row of a file is lost",
        lambda: swapped(build.TableWriter, "close", _lost_group),
        compared=False,
    ),
    Fault("wrong_chain", "the chain names another day", lambda: swapped(day, "compose", _wrong_chain), compared=False),
    Fault(
        "no_locator", "the locator is empty", lambda: swapped(CertificateStore, "write", _no_locator), compared=False
    ),
    Fault("uncommitted", "aborted records are read", lambda: swapped(source, "Consumer", _uncommitted)),
]
