"""A standby proves itself: what it would have written, held against what the writer committed, record by record.

Everything must agree but the time of ingestion. Both sides come in any order and are kept until they meet; what never
meets its other half is bounded, and counted apart: it is no proof of a difference, and none of agreement.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade
from ingest.metrics import Metrics

KEPT_MISMATCHES = 20
"""The first ones are kept for the report."""
IGNORED = "ingestion_timestamp"


class Encoder(Protocol):
    """What the standby would write with."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value; raises ``Reject``."""


Read = Callable[[bytes], Mapping[str, Any] | None]
"""A record's value into its fields; None where its schema is not known (yet), ``ValueError`` where it is no record."""


class Mismatch(msgspec.Struct, frozen=True):
    """One record that differs: field -> (ours, the writer's), as text."""

    symbol: str
    trade_id: int
    fields: dict[str, tuple[str, str]]


class Comparison:
    """Compares while this instance is a shadow. All calls on the loop."""

    def __init__(self, encoder: Encoder, read: Read, metrics: Metrics, *, limit: int) -> None:
        """``limit``: records of each side that may wait for their other half."""
        self._encode = encoder.encode
        self._read = read
        self._metrics = metrics
        self._limit = limit
        self._ours: dict[tuple[str, int], Trade] = {}
        self._theirs: dict[tuple[str, int], bytes] = {}
        self._begun: dict[str, int] = {}
        self._settled: dict[str, int] = {}
        self.compared = 0
        self.mismatched = 0
        self.never_committed = 0
        self.never_received = 0
        self.unreadable = 0
        self.mismatches: list[Mismatch] = []

    def offer(self, trades: list[Trade]) -> None:
        """Take what this instance has received."""
        for trade in trades:
            key = (trade.symbol, trade.trade_id)
            value = self._theirs.pop(key, None)
            if value is not None:
                self._compare(trade, value)
                continue
            if trade.trade_id <= self._settled.get(trade.symbol, -1) or key in self._ours:
                continue  # a second delivery
            self._begun.setdefault(trade.symbol, trade.trade_id)
            self._ours[key] = trade
            if len(self._ours) > self._limit:
                del self._ours[next(iter(self._ours))]
                self.never_committed += 1

    def committed(self, records: list[tuple[bytes, bytes]]) -> None:
        """Take what the writer has committed: (key, value)."""
        for key, value in records:
            try:
                fields = self._read(value)
            except ValueError:
                self.unreadable += 1
                continue
            if fields is not None:
                self._one(key.decode("utf-8", "replace"), int(fields["source_sequence"] or 0), value)

    def _one(self, symbol: str, trade_id: int, value: bytes) -> None:
        begun = self._begun.get(symbol)
        if trade_id > self._settled.get(symbol, -1):
            self._settled[symbol] = trade_id
        trade = self._ours.pop((symbol, trade_id), None)
        if trade is not None:
            self._compare(trade, value)
        elif begun is not None and trade_id >= begun:
            self._theirs[symbol, trade_id] = value
            if len(self._theirs) > self._limit:
                del self._theirs[next(iter(self._theirs))]
                self.never_received += 1

    def _compare(self, trade: Trade, value: bytes) -> None:
        self.compared += 1
        self._metrics.shadow_compared.inc()
        theirs = self._read(value)
        if theirs is None:
            raise ValueError("a record that was read once cannot be read again")
        try:
            ours_value = self._encode(trade, int(theirs[IGNORED]))
        except Reject as error:
            self._differ(trade, {"record": (str(error), "committed")})
            return
        if ours_value == value:
            return
        ours = self._read(ours_value) or {}
        names = (ours.keys() & theirs.keys()) if ours_value[:5] != value[:5] else (ours.keys() | theirs.keys())
        fields = {
            name: (repr(ours.get(name)), repr(theirs.get(name)))
            for name in sorted(names - {IGNORED})
            if ours.get(name) != theirs.get(name)
        }
        if fields or ours_value[:5] == value[:5]:
            self._differ(trade, fields)

    def _differ(self, trade: Trade, fields: dict[str, tuple[str, str]]) -> None:
        self.mismatched += 1
        self._metrics.shadow_mismatch.inc()
        if len(self.mismatches) < KEPT_MISMATCHES:
            shown = {name: (ours[:100], theirs[:100]) for name, (ours, theirs) in fields.items()}
            self.mismatches.append(Mismatch(trade.symbol, trade.trade_id, shown))

    def as_dict(self) -> dict[str, Any]:
        """How it stands, for ``/status``."""
        return {
            "compared": self.compared,
            "mismatched": self.mismatched,
            "waiting": {"received": len(self._ours), "committed": len(self._theirs)},
            "never_committed": self.never_committed,
            "never_received": self.never_received,
            "unreadable": self.unreadable,
            "mismatches": msgspec.to_builtins(self.mismatches),
        }
