"""Accounts for one symbol's day, batch by batch: ids, gaps, sums, Merkle root. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest_ops.archive.locator import Hashes, Locator, row_hashes
from ingest_ops.archive.merkle import EMPTY_ROOT, MerkleTree, leaf_hashes
from ingest_ops.archive.rows import Rows

DAY_US: Final = 86_400_000_000
MOST_RANGES: Final = 10_000
"""Ranges kept of a symbol's gaps; with more the topic is no recording, and the day fails anyway."""

Range = tuple[int, int]
"""First and last id, both inclusive."""


def day_bounds(day: date) -> tuple[int, int]:
    """First microsecond of a UTC day, and of the next one."""
    first = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    return first, first + DAY_US


def day_of(time_us: int) -> date:
    """The UTC day of a time in microseconds."""
    return date(1970, 1, 1) + timedelta(days=time_us // DAY_US)


class Disorder(Exception):
    """Ids do not grow with the rows: the rows must be sorted first."""


@dataclass(slots=True)
class SymbolDay:
    """What the rows of a symbol say about a day."""

    first_id: int | None = None
    last_id: int | None = None
    trades: int = 0
    duplicates: int = 0
    """Rows with the id of the row before, left out."""
    first_duplicate: int | None = None
    gaps: list[Range] = field(default_factory=list)
    """Ids without a row, next to the day or in it."""
    elsewhere: list[Range] = field(default_factory=list)
    """Ids between the first and the last one whose trades have another day's time."""
    before_id: int | None = None
    """Last id that was read before the day's first row."""
    after_id: int | None = None
    """First id that was read after the day's end and after its last row."""
    quantity: int = 0
    """Units of 1e-8."""
    quote_quantity: int = 0
    """Units of 1e-16."""
    root: bytes = EMPTY_ROOT


class Tally:
    """Takes rows in the order of their ids, rows of other days included; ``take`` returns the day's."""

    def __init__(self, day: date, *, sorted_input: bool = False) -> None:
        """``sorted_input``: equal ids are duplicates. Without it they are a disorder."""
        self._start, self._end = day_bounds(day)
        self._sorted = sorted_input
        self._tree = MerkleTree()
        self._locator = Locator()
        self._found = SymbolDay()
        self._last: int | None = None
        self._last_side = 0
        """Of the latest row: -1 before the day, 0 in it, 1 after it."""
        self._pending: list[Range] = []
        """Ids of other days since the day's last row."""

    def take(self, rows: Rows) -> Rows:
        """Account for rows; returns those that belong to the day. Raises ``Disorder``."""
        if not len(rows):
            return rows
        rows = self._without_duplicates(rows)
        if not len(rows):
            return rows
        sides = np.where(rows.times < self._start, -1, np.where(rows.times >= self._end, 1, 0))
        self._note_gaps(rows.ids, sides)
        inside = sides == 0
        self._note_outside(rows.ids, sides, inside)
        kept = rows if inside.all() else rows.part(inside)
        if len(kept):
            self._add(kept)
        self._last, self._last_side = int(rows.ids[-1]), int(sides[-1])
        return kept

    def _without_duplicates(self, rows: Rows) -> Rows:
        steps = np.diff(rows.ids, prepend=rows.ids[0] - 1 if self._last is None else self._last)
        if (steps > 0).all():
            return rows
        if not self._sorted or (steps < 0).any():
            raise Disorder
        again = steps == 0
        if self._found.first_duplicate is None:
            self._found.first_duplicate = int(rows.ids[again][0])
        self._found.duplicates += int(again.sum())
        return rows.part(~again)

    def _note_gaps(self, ids: NDArray[np.int64], sides: NDArray[np.int64]) -> None:
        before = np.concatenate([[ids[0] - 1 if self._last is None else self._last], ids[:-1]])
        side_before = np.concatenate([[self._last_side if self._last is not None else sides[0]], sides[:-1]])
        # A gap between two rows of the day before, or of the day after, is not this day's.
        for at in np.flatnonzero((ids - before > 1) & ~((sides == side_before) & (sides != 0))):
            if len(self._found.gaps) < MOST_RANGES:
                self._found.gaps.append((int(before[at]) + 1, int(ids[at]) - 1))

    def _note_outside(self, ids: NDArray[np.int64], sides: NDArray[np.int64], inside: NDArray[np.bool_]) -> None:
        found = self._found
        if inside.all():
            self._settle(int(ids[0]))
            return
        changes = np.flatnonzero(np.diff(inside)) + 1
        for start, stop in zip([0, *changes.tolist()], [*changes.tolist(), len(ids)], strict=True):
            if inside[start]:
                self._settle(int(ids[start]))
                if found.first_id is None:
                    found.first_id = int(ids[start])
                continue
            outside = ids[start:stop]
            if found.first_id is None:
                before = outside[sides[start:stop] < 0]
                found.before_id = int(before[-1]) if len(before) else found.before_id
            elif len(self._pending) < MOST_RANGES:
                self._pending.append((int(outside[0]), int(outside[-1])))
            after = outside[sides[start:stop] > 0]
            if len(after) and found.after_id is None:
                found.after_id = int(after[0])

    def _settle(self, trade_id: int) -> None:
        """A row of the day: what was read of other days since the day's last row lies within the day's ids."""
        self._found.elsewhere += self._pending
        self._pending = []
        if self._found.after_id is not None and self._found.after_id < trade_id:
            self._found.after_id = None

    def _add(self, rows: Rows) -> None:
        found = self._found
        if found.first_id is None:
            found.first_id = int(rows.ids[0])
        found.last_id = int(rows.ids[-1])
        found.trades += len(rows)
        found.quantity += rows.quantity()
        found.quote_quantity += rows.quote_quantity()
        hashes = leaf_hashes(rows.content())
        self._tree.add(hashes)
        self._locator.add(row_hashes(hashes, rows.encoded))

    def result(self) -> SymbolDay:
        """The account so far."""
        self._found.root = self._tree.root()
        return self._found

    def locator(self) -> Hashes:
        """The sums by which a changed row is found."""
        return self._locator.sums()
