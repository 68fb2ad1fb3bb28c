"""The audit of a symbol's quotes: ids that rise, each at most once, and no quote left out that no BREAK declares."""

from typing import Any, Protocol

from ingest.audit.chain_base import ChainedCheck
from ingest.audit.content import Record
from ingest.audit.levels import amount

FIELDS = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")


class QuoteTruth(Protocol):
    """What the exchange says about a symbol's best prices."""

    def quotes(self, first_id: int, last_id: int) -> dict[int, tuple[int, ...]] | None:
        """All of these ids, with prices and quantities in the order of ``FIELDS``; None if that is not known."""


class QuoteCheck(ChainedCheck[QuoteTruth]):
    """Judges a symbol's quotes in the order of the topic."""

    _declared: int | None = None
    """The first id after the BREAK that was read last; None if a quote has come since."""

    def judge(self, record: Record, number: int, where: tuple[Any, Any, Any]) -> None:
        """Judge one quote or BREAK."""
        match record.get("kind"):
            case "QUOTE":
                self._quote(record, number, where)
            case "BREAK":
                self._break(record, number, where)
            case other:
                self.add("altered", where, field="kind", expected="QUOTE or BREAK", found=other)

    def _quote(self, record: Record, number: int, where: tuple[Any, Any, Any]) -> None:
        found = tuple(amount(record.get(name)) for name in FIELDS)
        if None in found:
            self.add("altered", where, field="bid_price", expected="four decimals", found=repr(found))
        if self.last is not None and number <= self.last:
            self.add("duplicated" if number == self.last else "reordered", where, expected=f"more than {self.last}")
            return
        if self._declared not in (None, number):
            self.add("false_break", where, expected=f"{self._declared} after the BREAK", found=number)
        bid, _, ask, _ = found
        if bid and ask and bid >= ask:
            self.add("crossed", where, found=f"bid {bid}, ask {ask}")
        truth = self.lookup.quotes(number if self.last is None or self._declared else self.last + 1, number)
        if truth is not None:
            self._compare(truth, number, found, where)
        self._declared = None
        self.last = number
        self.totals.committed += 1

    def _compare(self, truth: dict[int, tuple[int, ...]], number: int, found: Any, where: Any) -> None:
        self.totals.ledger += 1
        due = truth.pop(number, None)
        if due is None:
            self.add("unknown", where, expected="an id at which the best prices changed", found=number)
            self.totals.altered += 1
        elif due != found:
            self.add("altered", where, field="bid_price", expected=repr(due), found=repr(found))
        if truth:
            self.add(
                "undeclared_break", where, expected=f"quote {min(truth)}",
                found=f"{len(truth)} quotes before {number} are missing",
            )  # fmt: skip

    def _break(self, record: Record, number: int, where: tuple[Any, Any, Any]) -> None:
        self.totals.breaks += 1
        detail = record.get("break_detail")
        if not isinstance(detail, dict):
            self.add("altered", where, field="break_detail", expected="what was interrupted", found=detail)
            return
        before = detail.get("last_update_id")
        if self.last is not None and before != self.last:
            self.add("false_break", where, field="last_update_id", expected=self.last, found=before)
        self._declared = number
