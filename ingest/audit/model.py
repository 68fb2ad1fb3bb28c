"""The auditor's values: plain data, no I/O."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

Kind = Literal[
    "missing",
    "duplicated",
    "reordered",
    "altered",
    "unknown",
    "false_void",
    "unaccounted",
    "scattered",
    "position",
    "id_reset",
]
"""
What can be wrong:

``missing``      the exchange has the trade, the topic has not
``duplicated``   an id that the topic had before
``reordered``    an id that comes after a greater one
``altered``      a field is not what the exchange's trade says, or the record cannot be read
``unknown``      an id that the exchange does not have (counted as altered, too)
``false_void``   declared to be no trade, but the exchange or the topic has it
``unaccounted``  an id that neither the exchange nor the topic has, and no void says so
``scattered``    a symbol's trades in more than one partition: their order is lost
``position``     the position record contradicts itself or the topic
``id_reset``     a trade with a lower id and a later time than the topic's last one: the exchange restarted its ids
"""

KINDS: tuple[Kind, ...] = (
    "missing", "duplicated", "reordered", "altered", "unknown", "false_void", "unaccounted", "scattered", "position",
    "id_reset",
)  # fmt: skip


class Inconclusive(Exception):
    """The auditor cannot judge; the text says what was missing and where to look."""


class LedgerTrade(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A trade as the exchange has it, with the exchange's own strings."""

    trade_id: int
    price: str
    quantity: str
    time_us: int
    """Microseconds since the epoch."""
    buyer_is_maker: bool
    """True means that the taker sold."""


class LedgerPage(msgspec.Struct, frozen=True):
    """Trades in ascending order of id; ids in between that are not there do not exist."""

    trades: list[LedgerTrade]
    next_from_id: int | None
    """Where to go on; None at the youngest trade."""


class LedgerSymbol(msgspec.Struct, frozen=True):
    """What the ledger says about a symbol as a whole."""

    last_id: int
    first_id: int | None = None
    voids: list[tuple[int, int]] = []
    """Ids that the exchange never used, inclusive."""
    assets: tuple[str, str] | None = None
    """Base and quote asset, where the ledger knows them."""


class TradeLookup(Protocol):
    """Random access to the exchange's trades of one symbol."""

    def at(self, trade_id: int) -> LedgerTrade | None:
        """Return the trade with this id; None if the exchange has none."""

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        """Iterate over the trades from ``first_id`` to ``last_id`` inclusive."""

    def unknowable(self, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Return the parts of a range of which the ledger cannot show whether there are trades."""

    def newest(self) -> LedgerTrade | None:
        """Return the trade that happened last, whatever its id."""


class Position(msgspec.Struct, frozen=True):
    """A position record: ids ``first_id``..``last_id`` are accounted for, ``count`` of them as trades."""

    first_id: int
    last_id: int
    count: int


class Void(msgspec.Struct, frozen=True):
    """A void record: ids that no trade will fill, inclusive."""

    first_id: int
    last_id: int
    reason: str


class Violation(msgspec.Struct, frozen=True):
    """One thing that is wrong, as an example for a human."""

    kind: Kind
    symbol: str
    id: int | None = None
    partition: int | None = None
    offset: int | None = None
    field: str | None = None
    expected: Any = None
    found: Any = None


class Violations:
    """Keeps the first few as examples; the counts are with the symbols."""

    def __init__(self, keep: int = 100) -> None:
        self.examples: list[Violation] = []
        self._keep = keep

    def add(self, violation: Violation) -> None:
        """Keep it if there is room."""
        if len(self.examples) < self._keep:
            self.examples.append(violation)
