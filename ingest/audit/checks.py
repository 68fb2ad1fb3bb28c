"""The audit of one symbol: every id exactly once, in order, with the exchange's content, and every gap accounted for.

Pure: ``take`` receives the records in the order of their offsets; ``finish`` judges what is missing. Memory is bounded
by the number of gaps, not of trades.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ingest.audit.check_base import SymbolAudit, Where
from ingest.audit.content import Record, representable
from ingest.audit.model import Kind, LedgerSymbol, TradeLookup, Violation, Violations, Void
from ingest.audit.ranges import IdRanges, Range, length, merged, runs, split

RESET_SCAN = 1000
"""Ids before the exchange's last one that are examined after its ids restarted: one page of its history."""


class SymbolCheck(SymbolAudit[TradeLookup]):
    """Judges a symbol's records."""

    def __init__(self, symbol: str, lookup: TradeLookup, violations: Violations, **options: Any) -> None:
        """``options``: see ``SymbolAudit``."""
        super().__init__(symbol, lookup, violations, **options)
        self.first_id = self._origin
        self.next_id = self._origin if self._origin is not None else 0
        """One more than the greatest id seen."""
        self._at = lookup.at
        self._same = self._content.same
        self._time = self._content.TIME
        self._holes = IdRanges()
        self._known = 0
        self._last_us: Any = None
        """The trade time of the record with the greatest id."""

    @property
    def last_id(self) -> int | None:
        """The greatest id seen; None without a record."""
        return self.next_id - 1 if self.totals.committed else None

    def accept(self, partition: int, key: bytes | None, record: Record, written_us: int) -> bool:
        """Take the record if it is the next one and right in every field: the fast path, for nearly all of them."""
        next_id = self.next_id
        if record["source_sequence"] != next_id or partition != self.partition:
            return False
        trade = self._at(next_id)
        if trade is None or not self._same(key, record, trade, written_us):
            return False
        self.next_id = next_id + 1
        self._last_us = record[self._time]
        self.totals.committed += 1
        self._known += 1
        return True

    def take(
        self, partition: int, offset: int, key: bytes | None, trade_id: int, record: Record, written_us: int
    ) -> None:
        """Judge any record. ``trade_id``: the id that most of its fields have; ``written_us``: its time in Kafka."""
        if self.partition is None:
            self.partition = partition
        if not self.accept(partition, key, record, written_us):
            self._judge(trade_id, partition, offset, key, record, written_us)

    def _judge(
        self, trade_id: int, partition: int, offset: int, key: bytes | None, record: Record, written_us: int
    ) -> None:
        where = (trade_id, partition, offset)
        if partition != self.partition:
            self.add("scattered", where, field="partition", expected=self.partition, found=partition)
        new = self._place(trade_id, where)
        trade = self._at(trade_id)
        if trade_id == self.next_id - 1:
            self._last_us = record.get(self._time)
        if new:
            self.totals.committed += 1
            self._known += trade is not None
        unknown = trade is None and not self.lookup.unknowable(trade_id, trade_id)
        if unknown:
            self.add("unknown", where, expected="an id that the exchange has", found=trade_id)
        elif trade is None:
            self.totals.unjudged += 1
        details = self._content.differences(key, record, trade_id, trade, written_us)
        if details or unknown:
            self.totals.altered += 1
        for field, expected, found in details:
            self._violations.add(Violation("altered", self.symbol, *where, field, expected, found))

    def _place(self, trade_id: int, where: Where) -> bool:
        """Put an id into the order; returns whether it is a part of the range, seen for the first time."""
        if self._origin is not None and trade_id < self._origin:
            self.add("position", where, field="first_id", expected=f"no trade before {self._origin}", found=trade_id)
            return False
        if self.first_id is None or (self._truncated and not self.totals.committed):
            self.first_id = trade_id
            self.next_id = trade_id + 1
        elif trade_id >= self.next_id:
            self._holes.add(self.next_id, trade_id - 1)
            self.next_id = trade_id + 1
        elif trade_id < self.first_id:
            self.add("reordered", where, expected=f"before {self.next_id - 1}")
            self._holes.add(trade_id + 1, self.first_id - 1)
            self.first_id = trade_id
        elif self._holes.discard(trade_id):
            self.add("reordered", where, expected=f"before {self.next_id - 1}")
        else:
            self.add("duplicated", where)
            return False
        return True

    def finish(
        self, voids: Iterable[Void], accounted: int | None, head: int | None, ledger: LedgerSymbol | None
    ) -> None:
        """Judge what did not come.

        ``accounted`` is the position's last id, read before the topic was: so far everything must be there.
        ``head`` is the exchange's last id where the topic must reach it, else None.
        """
        totals = self.totals
        if self._truncated and self._origin is not None:
            if not totals.committed and accounted is not None:
                self.first_id = self.next_id = accounted + 1
            totals.expired = (self.first_id or self._origin) - self._origin
        totals.ledger = self._known
        if self.first_id is None:
            return
        reach = max((one for one in (accounted, head) if one is not None), default=-1)
        self._holes.add(self.next_id, reach)
        end = max(self.next_id - 1, reach)
        clipped = [v for v in voids if v.last_id >= self.first_id and v.first_id <= end]
        cover = merged((max(v.first_id, self.first_id), min(v.last_id, end)) for v in clipped)
        excused = merged((v.first_id, v.last_id) for v in clipped if v.reason == "unrepresentable")
        holes = list(self._holes)
        for hole in holes:
            self._judge_hole(hole, cover, excused)
        for void in cover:
            for (first, last), open_ in split(void, holes):
                if not open_:
                    self._add_range("false_void", (first, last), found="in the topic")
        self._judge_reset()
        if ledger is not None and ledger.first_id is not None:
            before = (ledger.first_id, (self.first_id if self._origin is None else self._origin) - 1)
            unused = sum(last - first + 1 for (first, last), void in split(before, merged(ledger.voids)) if void)
            totals.sent_before_first = max(0, before[1] - before[0] + 1 - unused)

    def _judge_reset(self) -> None:
        """Whether the exchange's last trade has a lower id than the topic's last one, and a later time."""
        if not self.totals.committed:
            return
        newest, last_us = self.lookup.newest(), self._last_us
        if newest is None or type(last_us) is not int or newest.trade_id >= self.next_id - 1:
            return
        if newest.time_us <= last_us:
            return
        first = max(0, newest.trade_id - RESET_SCAN + 1)
        late = [one.trade_id for one in self.lookup.between(first, newest.trade_id) if one.time_us > last_us]
        for piece in runs(late):
            found = f"later than {self.next_id - 1}, which has a greater id: the exchange restarted its ids"
            self._add_range("id_reset", piece, found=found)

    def _judge_hole(self, hole: Range, cover: list[Range], excused: list[Range]) -> None:
        existing = list(runs(self._due_in(hole, excused)))
        for part, exists in split(hole, existing):
            for piece, void in split(part, cover):
                if exists:
                    self.totals.ledger += piece[1] - piece[0] + 1
                    self._add_range("missing", piece)
                    if void:
                        self._add_range("false_void", piece, found="the exchange has it")
                else:
                    self._judge_absent(piece, void=void)

    def _judge_absent(self, piece: Range, *, void: bool) -> None:
        """Ids that neither the topic nor the ledger has."""
        size = piece[1] - piece[0] + 1
        if not void and self._voids_known:
            self._add_range("unaccounted", piece, found="neither a trade nor a void")
            return
        unknown = length(self.lookup.unknowable(*piece))
        self.totals.unjudged += unknown
        self.totals.voids += size - unknown

    def _due_in(self, hole: Range, excused: list[Range]) -> Iterator[int]:
        """The exchange's trades in a hole, without those that the schema cannot hold and a void says so."""
        for trade in self.lookup.between(*hole):
            number = trade.trade_id
            if representable(trade) or not any(inside for _, inside in split((number, number), excused)):
                yield number

    def _add_range(self, kind: Kind, ids: Range, found: str | None = None) -> None:
        expected = f"{ids[0]}..{ids[1]}" if ids[1] > ids[0] else None
        self.add(kind, (ids[0], None, None), count=ids[1] - ids[0] + 1, expected=expected, found=found)
