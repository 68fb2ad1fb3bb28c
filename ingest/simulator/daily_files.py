"""The exchange's public daily files, made from the ledger when they are asked for, with what may be wrong with them.

``/data/spot/daily/trades/<SYMBOL>/<SYMBOL>-trades-<YYYY-MM-DD>.zip`` and the same with ``.CHECKSUM``. A day is
served once it is over. Times are in milliseconds before 2025, then in microseconds.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import chain

from ingest.simulator.ledger import Ledger, Row, SymbolLedger, decimal

PREFIX = "/data/spot/daily/trades/"
FORMS = ("absent", "late", "truncated", "checksum", "corrected", "hole", "extra")
DAY_US = 86_400_000_000
MICROSECONDS_SINCE = date(2025, 1, 1)
_PATH = re.compile(
    rf"{PREFIX}(?P<symbol>[A-Z0-9]+)/(?P=symbol)-trades-(?P<day>\d{{4}}-\d\d-\d\d)\.zip(?P<checksum>\.CHECKSUM)?"
)


@dataclass(slots=True)
class FileFault:
    """What is wrong with the files of a symbol, or of all (None); ``calls`` downloads are hit, negative: all."""

    form: str
    symbol: str | None = None
    calls: int = -1


class DailyFiles:
    """Files by path. Faults are the caller's to add; a later one comes first."""

    def __init__(self, ledger: Ledger, now_us: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now_us = now_us
        self.faults: list[FileFault] = []

    def get(self, path: str) -> bytes | None:
        """The file at a path; None if it is not served."""
        found = _PATH.fullmatch(path)
        symbol = None if found is None else self._ledger.all_symbols.get(found["symbol"])
        if found is None or symbol is None:
            return None
        try:
            day = date.fromisoformat(found["day"])
        except ValueError:
            return None
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
        if self._now_us() < start + DAY_US:
            return None
        form = self._form(symbol.symbol, counted=found["checksum"] is None)
        rows = _rows(symbol, start)
        if not rows or form in ("absent", "late"):
            return None
        data = _zipped(symbol.symbol, day, _struck(rows, form))
        if found["checksum"] is not None:
            stated = hashlib.sha256(data if form != "checksum" else data + b"?").hexdigest()
            return f"{stated}  {path.rpartition('/')[2].removesuffix('.CHECKSUM')}\n".encode()
        return data[: len(data) // 2] if form == "truncated" else data

    def _form(self, symbol: str, *, counted: bool) -> str:
        for fault in reversed(self.faults):
            if fault.symbol in (None, symbol) and fault.calls:
                # A file that is not there is asked for by its checksum alone.
                if fault.calls > 0 and (counted or fault.form in ("absent", "late")):
                    fault.calls -= 1
                return fault.form
        return ""


def _rows(symbol: SymbolLedger, start: int) -> list[Row]:
    within = range(symbol.sequence_at(start), symbol.sequence_at(start + DAY_US))
    runs = (
        zip(
            range(one.first_id, one.first_id + len(one.prices)),
            one.prices,
            one.quantities,
            one.times,
            map(bool, one.makers),
            strict=True,
        )
        for one in symbol.columns(within)
    )
    return list(chain.from_iterable(runs))


def _struck(rows: list[Row], form: str) -> list[Row]:
    """The rows that a faulty file has."""
    middle = len(rows) // 2
    match form:
        case "corrected":
            number, price, *rest = rows[middle]
            return [*rows[:middle], (number, price + 1, *rest), *rows[middle + 1 :]]  # type: ignore[list-item]
        case "hole":
            return [*rows[:middle], *rows[middle + 1 :]]
        case "extra":
            number, *rest = rows[-1]
            return [*rows, (number + 1, *rest)]  # type: ignore[list-item]
        case _:
            return rows


def _zipped(symbol: str, day: date, rows: list[Row]) -> bytes:
    divisor = 1 if day >= MICROSECONDS_SINCE else 1000
    lines = (
        f"{number},{decimal(price)},{decimal(quantity)},{decimal(price * quantity // 10**8)},{time_us // divisor},"
        f"{maker},True\n"
        for number, price, quantity, time_us, maker in rows
    )
    made = io.BytesIO()
    entry = zipfile.ZipInfo(f"{symbol}-trades-{day.isoformat()}.csv", (day.year, day.month, day.day, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(entry, "".join(lines))
    return made.getvalue()
