"""The auditor's values: plain data, no I/O."""

from collections.abc import Iterator, Sequence
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
    "undeclared_break",
    "false_break",
    "snapshot",
    "crossed",
    "disagreement",
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
``undeclared_break``  ids are missing between two updates of a book, and no BREAK says so
``false_break``  a BREAK that names other ids than those that are missing, or none are
``snapshot``     a book's SNAPSHOT is not the book that the updates before or after it make, or not the exchange's
``disagreement`` the topics of two streams do not say the same
``crossed``      an update leaves a bid that is not below every ask
``id_reset``     a trade with a lower id and a later time than the topic's last one: the exchange restarted its ids
"""

KINDS: tuple[Kind, ...] = (
    "missing", "duplicated", "reordered", "altered", "unknown", "false_void", "unaccounted", "scattered", "position",
    "id_reset", "undeclared_break", "false_break", "snapshot", "crossed",
    "disagreement",
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

    @property
    def amounts(self) -> tuple[str, ...]:
        """What a record must hold as exact decimals."""
        return self.price, self.quantity


class LedgerAggregate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An aggregate trade as the exchange has it; ``trade_id`` is its own id."""

    trade_id: int
    price: str
    quantity: str
    first_trade_id: int
    last_trade_id: int
    time_us: int
    buyer_is_maker: bool

    @property
    def amounts(self) -> tuple[str, ...]:
        """What a record must hold as exact decimals."""
        return self.price, self.quantity


class LedgerBar(msgspec.Struct, frozen=True, gc=False):
    """A closed bar as the exchange has it; ``trade_id`` is its number, ``time_us`` its last microsecond."""

    trade_id: int
    open_us: int
    time_us: int
    figures: tuple[str, ...]
    """Open, high, low, close, volume, quote volume, taker buy volume and quote volume."""
    count: int
    ids: tuple[int, int] | None = None
    """First and last trade, -1 without any; None where the history does not state them."""

    @property
    def amounts(self) -> tuple[str, ...]:
        """What a record must hold as exact decimals."""
        return self.figures


class Entry(Protocol):
    """One numbered thing of the exchange: a trade, an aggregate, a bar."""

    @property
    def trade_id(self) -> int:
        """Its number."""

    @property
    def time_us(self) -> int:
        """When it happened, in microseconds."""

    @property
    def amounts(self) -> tuple[str, ...]:
        """What a record must hold as exact decimals."""


class LedgerPage(msgspec.Struct, frozen=True):
    """Trades in ascending order of id; ids in between that are not there do not exist."""

    trades: Sequence[Entry]
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

    def at(self, trade_id: int) -> Entry | None:
        """Return the trade with this id; None if the exchange has none."""

    def between(self, first_id: int, last_id: int) -> Iterator[Entry]:
        """Iterate over the trades from ``first_id`` to ``last_id`` inclusive."""

    def unknowable(self, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Return the parts of a range of which the ledger cannot show whether there are trades."""

    def newest(self) -> Entry | None:
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
