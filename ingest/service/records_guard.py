"""Whether a symbol without a position is new: a topic that has records of it says that its position was lost.

While that is not known the symbol is halted and the search goes on.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ingest.core.errors import Retry
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import SymbolSequence
from ingest.kafka.last_records import Found
from ingest.service.numbered_lane import NumberedLane

log = logging.getLogger(__name__)

SEARCH_SECONDS = 5.0
"""Pause until an unfinished search for records goes on."""
RETRY_SECONDS = 1.0


class RecordedIds(Protocol):
    """What a topic holds."""

    async def last_recorded(self, symbols: Iterable[str], since_us: Mapping[str, int] | None = None) -> Found:
        """Return which symbols have records, and of which that is not known yet; raises ``Retry``.

        ``since_us``: symbol -> when its first trade ever was, us.
        """


class RecordsGuard:
    """Asks a topic before a symbol begins, and halts those that must not."""

    def __init__(self, sequencer: Sequencer, recorded: RecordedIds, *, monotonic: Callable[[], float]) -> None:
        self._sequencer = sequencer
        self._recorded = recorded
        self._monotonic = monotonic
        self._new: set[str] = set()
        """Symbols that are known to have no records."""
        self._unfinished: set[str] = set()
        """Symbols that are halted while their records are searched."""
        self._search_at = 0.0

    def waits(self, sequence: SymbolSequence) -> bool:
        """Whether a symbol has no position and may be asked about now."""
        if sequence.next_id is not None:
            return False
        if sequence.halted is None:
            return True
        searching = sequence.symbol in self._unfinished and sequence.halted == "records_unknown"
        return searching and self._monotonic() >= self._search_at

    async def without_records(self, symbols: list[str], since_us: Mapping[str, int]) -> list[str]:
        """Return those of which the topic has no records; halts the others. Raises ``Retry``.

        ``since_us``: symbol -> when its first trade ever was, where that is known.
        """
        unknown = [symbol for symbol in symbols if symbol not in self._new]
        if unknown:
            found = await self._recorded.last_recorded(unknown, since_us)
            self._search_at = self._monotonic() + SEARCH_SECONDS
            for symbol in unknown:
                if symbol in self._sequencer.sequences:  # else it was removed meanwhile
                    self._decide(symbol, found)
            self._unfinished = (self._unfinished - set(unknown)) | found.unfinished
        return [symbol for symbol in symbols if symbol in self._new]

    def _decide(self, symbol: str, found: Found) -> None:
        sequencer, now = self._sequencer, self._monotonic()
        if symbol in found.unfinished:
            sequencer.halt(symbol, "records_unknown", now)
            return
        if sequencer.sequences[symbol].halted == "records_unknown":
            sequencer.resume_symbol(symbol, now)
        if symbol in found.last_ids:
            log.error(
                "the topic has records of a symbol without a position: run `ingest positions rebuild`",
                extra={"symbol": symbol, "last_id": found.last_ids[symbol]},
            )
            sequencer.halt(symbol, "position_lost", now)
        else:
            self._new.add(symbol)


class LaneBeginnings:
    """Begins the symbols of a numbered stream that have no position, at the first event that was received."""

    def __init__(self, lane: NumberedLane, recorded: RecordedIds, *, monotonic: Callable[[], float]) -> None:
        self._lane = lane
        self._monotonic = monotonic
        self._guard = RecordsGuard(lane.sequencer, recorded, monotonic=monotonic)
        self._again = 0.0

    async def step(self) -> None:
        """Begin those that can begin now."""
        sequencer = self._lane.sequencer
        if not sequencer.active or self._monotonic() < self._again:
            return
        waiting = [
            symbol
            for symbol, one in sequencer.sequences.items()
            if one.pending and symbol not in self._lane.unchecked and self._guard.waits(one)
        ]
        try:
            new = await self._guard.without_records(waiting, {})
        except Retry as error:
            self._again = self._monotonic() + max(RETRY_SECONDS, error.after)
            log.info("beginning %s: %s", self._lane.stream.name, error, extra={"symbols": len(waiting)})
            return
        self._lane.begin_new(new)
