"""The state of one symbol's sequence, and the counters of all of them. Changed by the sequencer only."""

from typing import Final, Literal

from ingest.core.errors import Reject
from ingest.core.id_ranges import IdRanges
from ingest.core.trade import Trade

RECENT: Final = 64
"""Number of trades per symbol whose hash is kept, so that a second delivery can be compared; a power of two.

Hashes are kept, not the trades: 64 trades of 300 symbols outgrow a core's cache, and freeing one that has left the
cache costs as much as sequencing one.
"""
UNKNOWN_TIME: Final = 2**63 - 1
"""A trade time that no trade exceeds: nothing is concluded from it."""

HaltReason = Literal["id_reset", "giant_jump", "content", "voids", "position_lost", "position_ahead", "records_unknown"]
"""Why a symbol is halted:

- ``id_reset``: an id below the next one belongs to a newer trade, or lies beyond the jump limit;
- ``giant_jump``: an id lies beyond the jump limit above the highest known one;
- ``content``: a run of second deliveries differs from the first ones;
- ``voids``: more voids than the rate limit allows are due;
- ``position_lost``: the topic has records of the symbol beyond its position, or it has no position;
- ``position_ahead``: the position is beyond the newest record of the symbol, and no void explains that;
- ``records_unknown``: no position, and the trades topic is not read far enough to say that there are no records.
"""


class SymbolSequence:
    """One symbol's sequence."""

    __slots__ = (
        "contradictions",
        "differing",
        "disputed",
        "dropped",
        "gap_since",
        "halted",
        "halted_by",
        "halted_since",
        "high_watermark",
        "jumped_to",
        "last_released",
        "needs_slow_path",
        "next_id",
        "pending",
        "recent",
        "refused",
        "run_next_id",
        "run_since",
        "stored_time_us",
        "strays",
        "symbol",
        "watermark_time_us",
        "withheld",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.next_id: int | None = None
        """The id that must come next; None until a position or a baseline is known."""
        self.last_released: Trade | None = None
        """The trade last released; its time is read where it is needed, not for every trade."""
        self.stored_time_us = UNKNOWN_TIME
        """The time of a stored position, while nothing was released since."""
        self.high_watermark = -1
        """The highest id known to exist."""
        self.watermark_time_us = UNKNOWN_TIME
        """When the trade with that id was traded at the latest; unknown where another source than a trade named it."""
        self.pending: dict[int, Trade] = {}
        """Trades that cannot leave yet, by id."""
        self.needs_slow_path = True
        """Whether the next trade must take the slow path: pending trades, a gap, a halt or no start yet."""
        self.gap_since: float | None = None
        self.refused: Reject | None = None
        """Why the trade with ``next_id`` could not be encoded when it arrived."""
        self.recent = [0] * RECENT
        """Hash of the content of the trade last released with an id of this remainder; 0 if there was none."""
        self.run_next_id = -1
        """``next_id`` while the run of lower ids that is counted below arrived."""
        self.run_since = 0.0
        self.differing = 0
        """Second deliveries in the run that differ from the first ones."""
        self.strays = 0
        """Trades in the run that cannot be compared with a released one."""
        self.halted: HaltReason | None = None
        self.halted_by: Trade | None = None
        """The trade that halted the symbol."""
        self.halted_since = 0.0
        self.jumped_to = -1
        """The highest id beyond the jump limit since the halt."""
        self.contradictions = 0
        """Live trades since a giant jump that are newer than the jump and have a lower id."""
        self.withheld = 0
        """Trades received and not kept since the halt."""
        self.disputed: set[int] = set()
        """Ids of which the stream has delivered different contents: only history may decide."""
        self.dropped = IdRanges()
        """Ids of trades that were received and not kept: history must have them, or they are lost."""

    def gap_age(self, now: float) -> float:
        """Seconds since the gap opened; 0.0 if there is none."""
        return now - self.gap_since if self.gap_since is not None else 0.0

    @property
    def last_time_us(self) -> int:
        """No trade below ``next_id`` was traded later than this (exchange time)."""
        last = self.last_released
        return self.stored_time_us if last is None else last.trade_time_us

    def set_last_time(self, time_us: int) -> None:
        """Replace the time of the last released trade."""
        self.last_released = None
        self.stored_time_us = time_us

    def learn_time(self, last_time_us: int) -> None:
        """Take over a stored time; the one in memory may be later, of trades that were released and not committed."""
        if UNKNOWN_TIME in (last_time_us, self.last_time_us):
            self.set_last_time(last_time_us)
        else:
            self.set_last_time(max(self.last_time_us, last_time_us))

    def begin_run(self, next_id: int, now: float) -> None:
        """Reset the count of lower ids: a trade was released since the last one."""
        self.run_next_id = next_id
        self.run_since = now
        self.differing = self.strays = 0

    def clear_halt(self) -> None:
        """Forget why the symbol was halted."""
        self.halted = None
        self.halted_by = None
        self.jumped_to = -1
        self.contradictions = self.withheld = 0
        self.differing = self.strays = 0

    @property
    def first_received(self) -> int | None:
        """The lowest id not below the next one that a received trade has, whether it was kept or not."""
        pending = min(self.pending, default=None)
        dropped = self.dropped.first_from(self.next_id or 0)
        known = [trade_id for trade_id in (pending, dropped) if trade_id is not None]
        return min(known, default=None)

    @property
    def missing(self) -> int:
        """Number of ids between the next one and the lowest pending one, or the highest known one."""
        if self.next_id is None or self.high_watermark < self.next_id:
            return 0
        beyond = min(self.pending, default=self.high_watermark + 1)
        return max(0, beyond - self.next_id)

    def lag(self, last_id: int) -> int:
        """Number of trades known to exist beyond ``last_id``, those withheld during a halt included."""
        known = max(self.high_watermark, (self.next_id or 0) - 1) - last_id
        return max(0, known, self.withheld)


class Counts:
    """Events since the last ``take``; the owner moves them into metrics."""

    __slots__ = ("backfilled", "contradicted", "dropped", "duplicates", "gaps_filled", "gaps_found", "mismatches")

    def __init__(self) -> None:
        self.backfilled = self.contradicted = self.dropped = self.duplicates = 0
        self.gaps_filled = self.gaps_found = self.mismatches = 0

    def take(self) -> "Counts":
        """Return what was counted and start again at zero."""
        taken = Counts()
        taken.backfilled, taken.contradicted, taken.dropped = self.backfilled, self.contradicted, self.dropped
        taken.duplicates, taken.mismatches = self.duplicates, self.mismatches
        taken.gaps_filled, taken.gaps_found = self.gaps_filled, self.gaps_found
        self.backfilled = self.contradicted = self.dropped = self.duplicates = 0
        self.gaps_filled = self.gaps_found = self.mismatches = 0
        return taken
