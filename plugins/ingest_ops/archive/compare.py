"""Compares a symbol's rows with the exchange's own, id by id, both in the order of their ids; mebounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ingest_ops.archive.rows import Rows

MOST_EXAMPLES: Final = 20


class NotInOrder(Exception):
    """The exchange's file has ids twice or not in order."""


@dataclass(slots=True)
class Difference:
    """Counts, and the first ids of each kind."""

    rows: int = 0
    """Of the exchange."""
    equal: int = 0
    only_theirs: int = 0
    only_ours: int = 0
    differing: int = 0
    examples: dict[str, list[int]] = field(default_factory=dict)

    def note(self, kind: str, ids: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        """Count ids of a kind."""
        if len(ids):
            setattr(self, kind, getattr(self, kind) + len(ids))
            kept = self.examples.setdefault(kind, [])
            kept += ids[: MOST_EXAMPLES - len(kept)].tolist()


class _Queue:
    """Rows that are consumed up to an id."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._rows = rows
        self._head: Rows | None = None
        self._last = -1

    def last_id(self) -> int | None:
        """The last id of what lies at the head; None at the end."""
        while self._head is None or not len(self._head):
            self._head = next(self._rows, None)
            if self._head is None:
                return None
            if len(self._head):
                if (np.diff(self._head.ids, prepend=self._last) <= 0).any():
                    raise NotInOrder
                self._last = int(self._head.ids[-1])
        return int(self._head.ids[-1])

    def take(self, last_id: int) -> Rows:
        """Remove the rows up to an id from the head."""
        assert self._head is not None  # noqa: S101 - last_id comes first
        at = int(np.searchsorted(self._head.ids, last_id, side="right"))
        taken, self._head = self._head.part(slice(0, at)), self._head.part(slice(at, None))
        return taken


def compare(ours: Iterator[Rows], theirs: Iterator[Rows], *, unit_us: int = 1, from_id: int = 0) -> Difference:
    """Compare. ``unit_us``: what one unit of their time is; ``from_id``: lower ids are not compared.

    Raises ``NotInOrder``.
    """
    found = Difference()
    left, right = _Queue(ours), _Queue(theirs)
    while True:
        our_last, their_last = left.last_id(), right.last_id()
        if our_last is None and their_last is None:
            return found
        bounds = [one for one in (our_last, their_last) if one is not None]
        bound = min(bounds)
        our_rows = left.take(bound) if our_last is not None else None
        their_rows = right.take(bound) if their_last is not None else None
        _compare(found, our_rows, their_rows, unit_us, from_id)


def _compare(found: Difference, ours: Rows | None, theirs: Rows | None, unit_us: int, from_id: int) -> None:
    if theirs is not None:
        theirs = theirs.part(theirs.ids >= from_id)
        found.rows += len(theirs)
    if ours is None or theirs is None:
        if theirs is not None:
            found.note("only_theirs", theirs.ids)
        if ours is not None:
            found.note("only_ours", ours.ids)
        return
    common, mine, other = np.intersect1d(ours.ids, theirs.ids, assume_unique=True, return_indices=True)
    same = (ours.times[mine] // unit_us * unit_us == theirs.times[other]) & (ours.sides[mine] == theirs.sides[other])
    same &= (ours.prices[mine] == theirs.prices[other]).all(axis=1)
    same &= (ours.quantities[mine] == theirs.quantities[other]).all(axis=1)
    found.equal += int(same.sum())
    found.note("differing", common[~same])
    if len(common) < len(ours):
        found.note("only_ours", np.delete(ours.ids, mine))
    if len(common) < len(theirs):
        found.note("only_theirs", np.delete(theirs.ids, other))
