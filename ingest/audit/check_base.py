"""What the checks of all streams share: one symbol's counts and violations, and what they are given."""

from typing import Any, Generic, TypeVar

import msgspec

from ingest.audit.content import CLOCK_TOLERANCE_SECONDS, Content
from ingest.audit.model import KINDS, Kind, Violation, Violations

Where = tuple[int | None, int | None, int | None]
"""Id, partition, offset."""

L = TypeVar("L")
"""What the check asks about the exchange."""


class Totals(msgspec.Struct):
    """Counts; by the kinds of ``model.Kind`` where they are violations."""

    ledger: int = 0
    """Trades of the exchange from the first id up to where the topic must be."""
    committed: int = 0
    """Different ids in the topic."""
    missing: int = 0
    duplicated: int = 0
    reordered: int = 0
    altered: int = 0
    voids: int = 0
    """Ids that are rightly accounted for as void."""
    sent_before_first: int = 0
    """Trades of the exchange before the first id: older than the symbol's start, not missing."""
    expired: int = 0
    """Ids that the position accounts for and that retention has removed from the topic."""
    unknown: int = 0
    false_void: int = 0
    unaccounted: int = 0
    scattered: int = 0
    position: int = 0
    id_reset: int = 0
    undeclared_break: int = 0
    false_break: int = 0
    snapshot: int = 0
    crossed: int = 0
    disagreement: int = 0
    breaks: int = 0
    """Interruptions of books or quotes that the topic declares."""
    snapshots: int = 0
    """Snapshots of books that were compared with the book that updates make, or with the exchange's."""
    unjudged: int = 0
    """Records and ids of which the ledger cannot show what is right: older or younger than its history, or of a
    symbol that it does not list."""

    def add(self, other: "Totals") -> None:
        """Add field by field."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def violations(self) -> int:
        """How many things are wrong."""
        return sum(getattr(self, kind) for kind in KINDS if kind != "unknown")


class SymbolAudit(Generic[L]):
    """The audit of one symbol's records.

    ``first_id`` is where its position record starts, None if it is not known. ``truncated``: retention has removed the
    beginning of the topic, the first record seen is the start. ``assets``: base and quote asset, if the ledger knows
    them. ``voids_known``: whether positions were read; without them an id that the exchange never used has no void
    record to show.
    """

    def __init__(
        self,
        symbol: str,
        lookup: L,
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
        """The first id that the topic must have."""
        self._origin = first_id
        self._truncated = truncated
        self._voids_known = voids_known
        self._violations = violations
        self._content = content(symbol, assets, clock_tolerance_seconds=clock_tolerance_seconds)

    def verify_head(self) -> None:
        """Compare with the exchange's present state, where there is such a comparison."""

    def unreadable(self, partition: int, offset: int, why: str) -> None:
        """Count a record whose id cannot be read."""
        self.add("altered", (None, partition, offset), field="value", expected="a readable record", found=why)

    def wrong_position(self, field: str, expected: Any, found: Any) -> None:
        """Count a contradiction in the symbol's position record."""
        self.add("position", (None, None, None), field=field, expected=expected, found=found)

    def add(
        self,
        kind: Kind,
        where: Where,
        *,
        count: int = 1,
        field: str | None = None,
        expected: Any = None,
        found: Any = None,
    ) -> None:
        """Count a violation; ``count`` of them where it is a range of ids."""
        setattr(self.totals, kind, getattr(self.totals, kind) + count)
        self._violations.add(Violation(kind, self.symbol, *where, field, expected, found))
