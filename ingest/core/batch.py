"""What goes to Kafka in one transaction."""

from typing import Literal

import msgspec

from ingest.core.trade import DeadLetter, Void

Record = tuple[str, int, bytes]
"""(symbol, trade id, encoded value): a plain tuple, because one is made for every trade."""


SpanKind = Literal["update", "break", "snapshot"]
Span = tuple[str, SpanKind, int, int, bytes, int]
"""(sequence name, kind, first id, last id, encoded value, time in microseconds): a record of a stream that is not
numbered. A quote is an update of one id; a break spans the ids that are missing; a snapshot's last id is that of the
update before it, so that it continues it."""


class SymbolChanges(msgspec.Struct, frozen=True):
    """How the recorded symbols differ from those of the settings, by commands; both sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Batch(msgspec.Struct):
    """Everything of one transaction: per symbol, records and voids together continue the stored position."""

    records: list[Record] = msgspec.field(default_factory=list)
    spans: list[Span] = msgspec.field(default_factory=list)
    """Per sequence they continue the stored position, too; in the order in which they are written."""
    voids: list[Void] = msgspec.field(default_factory=list)
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    baselines: dict[str, int] = msgspec.field(default_factory=dict)
    """Symbol without a position yet -> the id that must come first: a quiet symbol is accounted for from its start."""
    oldest_trade_time_us: int = 0
    last_times_us: dict[str, int] = msgspec.field(default_factory=dict)
    """Symbol -> a time that none of its trades up to this batch exceeds: stored with its position."""

    symbols: SymbolChanges | None = None
    """Changes to store; None if they are as stored."""

    def __len__(self) -> int:
        return len(self.records)

    def __bool__(self) -> bool:
        return bool(
            self.records or self.spans or self.voids or self.dead_letters or self.baselines or self.symbols is not None
        )
