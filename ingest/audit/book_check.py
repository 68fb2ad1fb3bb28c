"""The audit of a symbol's book events: a chain of updates without an undeclared break, and snapshots that fit it.

Every book is rebuilt from the topic. It is compared with each SNAPSHOT in the topic, and each UPDATE and SNAPSHOT with
what the exchange's ledger has, where it has it.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from ingest.audit.chain_base import ChainedCheck
from ingest.audit.content import Record
from ingest.audit.levels import Changes, RebuiltBook, side_of
from ingest.audit.model import LedgerSymbol, Void


class BookTruth(Protocol):
    """What the exchange says about a symbol's book."""

    def changes(self, first_id: int, last_id: int) -> tuple[dict[int, int], dict[int, int]] | None:
        """Bids and asks that these updates touched, with their last quantity; None if that is not known."""

    def book(self, update_id: int) -> RebuiltBook | None:
        """The whole book after an update; None if that is not known."""

    def snapshot(self) -> RebuiltBook | None:
        """The book as the exchange has it now; None if it does not say."""


class BookCheck(ChainedCheck[BookTruth]):
    """Judges a symbol's book events in the order of the topic."""

    _book: RebuiltBook | None = None
    """None while the topic does not say what the book is: before the first SNAPSHOT, after a BREAK until the next."""
    _pending: RebuiltBook | None = None
    """A SNAPSHOT that is to be compared as soon as the updates have reached its id."""
    _break_end: int | None = None

    def judge(self, record: Record, number: int, where: tuple[Any, Any, Any]) -> None:
        """Judge one event."""
        first, last = record.get("first_update_id"), record.get("final_update_id")
        if type(first) is not int or type(last) is not int:
            self.add("altered", where, field="final_update_id", expected="update ids", found=f"{first}..{last}")
            return
        try:
            bids, asks = side_of(record, "bids"), side_of(record, "asks")
        except (ValueError, KeyError, TypeError) as error:
            self.add("altered", where, field="bids", expected="prices and quantities", found=str(error)[:200])
            return
        match record.get("kind"):
            case "UPDATE":
                self._update(first, last, bids, asks, where)
            case "SNAPSHOT":
                self._snapshot(last, bids, asks, where)
            case "BREAK":
                self._declared(first, last, record, where)
            case other:
                self.add("altered", where, field="kind", expected="UPDATE, SNAPSHOT or BREAK", found=other)

    def _update(self, first: int, last: int, bids: Changes, asks: Changes, where: Any) -> None:
        if first > last:
            self.add("altered", where, field="first_update_id", expected=f"at most {last}", found=first)
            return
        if self._break_end is not None and first <= self._break_end:
            self.add("false_break", where, expected=f"ids up to {self._break_end} missing", found=f"{first}..{last}")
        elif self.last is not None and last <= self.last:
            self.add("duplicated" if last == self.last else "reordered", where, expected=f"more than {self.last}")
            return
        elif self.last is not None and first > self.last + 1:
            self.add("undeclared_break", where, field="first_update_id", expected=self.last + 1, found=first)
            self._book = self._pending = None
        self._break_end = None
        self.last = last
        self.totals.committed += 1
        self._compare_update(first, last, bids, asks, where)
        if self._book is not None and last > self._book.update_id:
            self._book.apply(last, bids, asks)
            if self._book.crossed:
                self.add("crossed", where, found=f"bid {self._book.bids.best}, ask {self._book.asks.best}")
        self._compare_pending(last, bids, asks, where)

    def _compare_update(self, first: int, last: int, bids: Changes, asks: Changes, where: Any) -> None:
        truth = self.lookup.changes(first, last)
        if truth is None:
            return
        self.totals.ledger += 1
        if truth != (dict(bids), dict(asks)):
            self.add("altered", where, field="bids", expected=_short(truth), found=_short((dict(bids), dict(asks))))

    def _snapshot(self, update_id: int, bids: Changes, asks: Changes, where: Any) -> None:
        found = RebuiltBook(update_id, bids, asks)
        truth = self.lookup.book(update_id)
        if truth is not None:
            self._same(truth, found, where)
        if found.crossed:
            self.add("crossed", where, found=f"bid {found.bids.best}, ask {found.asks.best}")
        if self._book is None:
            self._book = found
            self.last = update_id if self.last is None else self.last
        elif self._book.update_id > update_id:
            self.add("snapshot", where, expected=f"id {self._book.update_id} or higher", found=update_id)
        else:
            self._pending = found
            self._compare_pending(self._book.update_id, [], [], where)

    def _compare_pending(self, last: int, bids: Changes, asks: Changes, where: Any) -> None:
        pending, book = self._pending, self._book
        if pending is None or book is None or last < pending.update_id:
            return
        if last > pending.update_id:
            pending.apply(last, bids, asks)
        self._same(book, pending, where)
        self._pending = None
        self._book = pending

    def _same(self, expected: RebuiltBook, found: RebuiltBook, where: Any) -> None:
        self.totals.snapshots += 1
        unequal = expected.difference(found)
        if unequal is not None:
            self.add("snapshot", where, field="levels", expected=f"the book at {expected.update_id}", found=unequal)

    def _declared(self, first: int, last: int, record: Record, where: Any) -> None:
        self.totals.breaks += 1
        if self.last is not None and first != self.last + 1:
            self.add("false_break", where, field="first_update_id", expected=self.last + 1, found=first)
        if not isinstance(record.get("break_detail"), dict):
            self.add("altered", where, field="break_detail", expected="what was interrupted", found=None)
        self._book = self._pending = None
        self._break_end = last if last >= first else None
        self.last = max(last, -1 if self.last is None else self.last)

    def verify_head(self) -> None:
        """Compare what comes next with the exchange's present book."""
        if self._pending is None and self._book is not None:
            found = self.lookup.snapshot()
            if found is not None and found.update_id >= self._book.update_id:
                self._pending = found
                self._compare_pending(self._book.update_id, [], [], (None, None, None))

    def finish(
        self, voids: Iterable[Void], accounted: int | None, head: int | None, ledger: LedgerSymbol | None
    ) -> None:
        """Judge the end: how far the topic goes, and whether its book is the exchange's."""
        super().finish(voids, accounted, head, ledger)
        if self._book is None:
            self.totals.unjudged += self.totals.committed > 0
            return
        truth = self.lookup.book(self._book.update_id)
        if truth is not None:
            self._same(truth, self._book, (self._book.update_id, None, None))


def _short(changes: tuple[dict[int, int], dict[int, int]]) -> str:
    return str(changes)[:200]
