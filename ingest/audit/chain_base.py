"""What the checks of books and quotes have in common: symbol, partition, content, and how far the topic goes."""

from collections.abc import Iterable
from typing import Any

from ingest.audit.checks import Totals
from ingest.audit.content import CLOCK_TOLERANCE_SECONDS, Content, Record
from ingest.audit.model import Kind, LedgerSymbol, Violation, Violations, Void

Where = tuple[int | None, int | None, int | None]
"""Id, partition, offset."""


class ChainedCheck:
    """Judges the records of one symbol whose ids follow each other or rise. See ``checks.SymbolCheck``."""

    def __init__(
        self,
        symbol: str,
        lookup: Any,
        violations: Violations,
        *,
        first_id: int | None = None,
        truncated: bool = False,
        assets: tuple[str, str] | None = None,
        voids_known: bool = True,
        clock_tolerance_seconds: float = CLOCK_TOLERANCE_SECONDS,
        content: type[Content] = Content,
    ) -> None:
        self.symbol = symbol
        self.lookup = lookup
        self.assets_known = assets is not None
        self.totals = Totals()
        self.partition: int | None = None
        self.first_id: int | None = None
        self.last: int | None = None
        """The id that the topic has reached."""
        self._violations = violations
        self._content = content(symbol, assets, clock_tolerance_seconds=clock_tolerance_seconds)

    @property
    def last_id(self) -> int | None:
        """The id that the topic has reached; None without a record."""
        return self.last

    def accept(self, partition: int, key: bytes | None, record: Record, written_us: int) -> bool:
        """There is no fast path."""
        return False

    def take(
        self, partition: int, offset: int, key: bytes | None, trade_id: int, record: Record, written_us: int
    ) -> None:
        """Judge one record."""
        where = (trade_id, partition, offset)
        if self.partition is None:
            self.partition = partition
        if partition != self.partition:
            self.add("scattered", where, field="partition", expected=self.partition, found=partition)
        if self.first_id is None:
            self.first_id = trade_id
        details = self._content.differences(key, record, trade_id, None, written_us)
        if details:
            self.totals.altered += 1
        for field, expected, found in details:
            self._violations.add(Violation("altered", self.symbol, *where, field, expected, found))
        self.judge(record, trade_id, where)

    def judge(self, record: Record, number: int, where: Where) -> None:
        """Judge what the record says."""
        raise NotImplementedError

    def verify_head(self) -> None:
        """Compare with the exchange's present state, where there is such a comparison."""

    def unreadable(self, partition: int, offset: int, why: str) -> None:
        """Count a record whose id cannot be read."""
        self.add("altered", (None, partition, offset), field="value", expected="a readable record", found=why)

    def wrong_position(self, field: str, expected: Any, found: Any) -> None:
        """Count a contradiction in the symbol's position record."""
        self.add("position", (None, None, None), field=field, expected=expected, found=found)

    def finish(
        self, voids: Iterable[Void], accounted: int | None, head: int | None, ledger: LedgerSymbol | None
    ) -> None:
        """Judge how far the topic goes: to the position's id, and to ``head`` where it must."""
        reach = max((one for one in (accounted, head) if one is not None), default=-1)
        if self.last is not None and self.last < reach:
            self.add("missing", (self.last + 1, None, None), expected=f"{self.last + 1}..{reach}")

    def add(
        self, kind: Kind, where: Where, *, field: str | None = None, expected: Any = None, found: Any = None
    ) -> None:
        """Count a violation."""
        setattr(self.totals, kind, getattr(self.totals, kind) + 1)
        self._violations.add(Violation(kind, self.symbol, *where, field, expected, found))
