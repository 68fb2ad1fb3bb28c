"""What the checks of books and quotes have in common: symbol, partition, content, and how far the topic goes."""

from collections.abc import Iterable

from ingest.audit.check_base import L, SymbolAudit, Where
from ingest.audit.content import Record
from ingest.audit.model import LedgerSymbol, Violation, Void


class ChainedCheck(SymbolAudit[L]):
    """Judges the records of one symbol whose ids follow each other or rise. See ``checks.SymbolCheck``."""

    last: int | None = None
    """The id that the topic has reached."""

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

    def finish(
        self, voids: Iterable[Void], accounted: int | None, head: int | None, ledger: LedgerSymbol | None
    ) -> None:
        """Judge how far the topic goes: to the position's id, and to ``head`` where it must."""
        reach = max((one for one in (accounted, head) if one is not None), default=-1)
        if self.last is not None and self.last < reach:
            self.add("missing", (self.last + 1, None, None), expected=f"{self.last + 1}..{reach}")
