"""Where the account of a symbol begins that has no position in Kafka.

A symbol that trades begins with the first trade that arrives, if history does not contradict it. A quiet one begins
behind the exchange's last id, requested once for all symbols together, so that its first trade cannot be lost to a
crash before it arrived. One that was listed while this instance runs begins with its first trade ever, whenever that
was; that it was listed is proven by its first trade, which is not older than this service: a name that one reply lacks
is no listing. A symbol that has records in the trades topic never starts without one: its position was lost. While it
is not known whether it has records, it is halted and the search goes on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ingest.core.errors import Retry
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Trade
from ingest.service.backfill import Page
from ingest.service.pipeline import Pipeline
from ingest.service.records_guard import RecordedIds, RecordsGuard

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.25
"""First trades may arrive out of order by a little: wait this long before the lowest counts as the first."""
POLL_SECONDS = 0.1
QUIET_SECONDS = (60.0, 600.0)
"""First and longest pause between two requests about the same quiet symbol; doubled each time."""
FIRST_ATTEMPTS = 8
"""So often the first trade of a new listing is looked for in history; then the first one received stands for it."""
FIRST_SECONDS = (1.0, 30.0)
"""First and longest pause between these attempts; doubled each time."""
RETRY_SECONDS = 1.0
RETRY_AT_MOST_SECONDS = 15.0
"""Attempts that fail one after the other follow after longer and longer pauses, each may cost weight 80; up to this."""
EXACT_CHECKS = 40
"""First trades that are compared with history one by one (weight 25 each); more are compared with the last ids."""
PLAUSIBLE_IDS = 10_000
"""A first id this far from the exchange's last one is plausible: it was read some seconds later."""
YOUNG_TOLERANCE_US = 3_600_000_000
"""A listing's first trade may be that much older than the service: its clock, and the time that its start takes."""
UNCONFIRMED_SECONDS = 30.0
"""A first trade that history neither shows nor contradicts for this long is taken as it is."""


def _pauses() -> Iterator[float]:
    seconds = RETRY_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, RETRY_AT_MOST_SECONDS)


class History(Protocol):
    """What the exchange's REST API knows."""

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        """Return symbol -> last id, -1 for no trade in a day; raises ``Retry``."""

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> Page:
        """Return trades from ``from_id`` on; raises ``Retry``."""


class InitialPositions:
    """Starts the symbols that have no position, once this instance writes and the feed receives them."""

    def __init__(
        self,
        pipeline: Pipeline,
        history: History,
        *,
        writing: Callable[[], bool],
        receiving: Callable[[str], bool],
        monotonic: Callable[[], float],
        recorded: RecordedIds | None = None,
        since_us: int | None = None,
    ) -> None:
        """``since_us``: from when on this service knows which symbols the exchange does not have; now by default."""
        self._pipeline = pipeline
        self._history = history
        self._guard = None
        if recorded is not None:
            self._guard = RecordsGuard(pipeline.sequencer, recorded, monotonic=monotonic)
        self._writing = writing
        self._receiving = receiving
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        """Symbol -> when its first trade was seen."""
        self._not_before: dict[str, float] = {}
        self._pauses = _pauses()
        self._quiet_until: dict[str, float] = {}
        """Symbol that has not traded for a day -> when to ask about it again, unless it trades before."""
        self._quiet: dict[str, float] = {}
        """Quiet symbol -> the next pause."""
        self._young_us = (time.time_ns() // 1000 if since_us is None else since_us) - YOUNG_TOLERANCE_US
        self._first: dict[str, Trade] = {}
        """Listed symbol -> its first trade ever."""
        self._listed: dict[str, int] = {}
        """Symbol that was listed while this instance runs -> how often its first trade was looked for."""
        self.holding = False
        """Whether trades wait for the position of their symbol, as of the last step."""

    def begin_at_first_trade(self, symbols: Iterable[str]) -> None:
        """Let these symbols, which have just been listed, begin with the first trade that history has."""
        for symbol in symbols:
            self._listed.setdefault(symbol, 0)

    async def run(self) -> None:
        """Start symbols until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._writing():
                await self.step()
            else:
                self.holding = False

    async def step(self) -> None:
        """Start the symbols that can be started now."""
        waiting = self._waiting()
        if not waiting:
            return
        try:
            waiting = await self._first_trades(waiting)
            waiting = await self._without_records(waiting)
            await self._start(waiting)
        except Retry as error:
            log.info("initial positions: %s", error, extra={"symbols": len(waiting)})
            again = self._monotonic() + max(next(self._pauses), error.after)
            self._not_before.update(dict.fromkeys(waiting, again))
        else:
            self._pauses = _pauses()

    def _waiting(self) -> list[str]:
        """Symbols without a position that have had a first trade for a moment, or are received and quiet."""
        now = self._monotonic()
        self.holding = False
        found = []
        for symbol, sequence in self._pipeline.sequencer.sequences.items():
            waits = sequence.next_id is None and sequence.halted is None
            if not (waits if self._guard is None else self._guard.waits(sequence)):
                continue
            if symbol in self._pipeline.unchecked:
                continue
            if sequence.pending:
                self.holding |= sequence.halted is None
                if now - self._seen.setdefault(symbol, now) < SETTLE_SECONDS:
                    continue
            elif not self._receiving(symbol):
                continue
            quiet_until = 0.0 if sequence.pending else self._quiet_until.get(symbol, 0.0)
            if now >= max(quiet_until, self._not_before.get(symbol, 0.0)):
                found.append(symbol)
        return found

    async def _without_records(self, symbols: list[str]) -> list[str]:
        """Halt those of which the trades topic has records; return the others."""
        if self._guard is None:
            return symbols
        since = {symbol: first.trade_time_us for symbol in symbols if (first := self._first.get(symbol)) is not None}
        return await self._guard.without_records(symbols, since)

    async def _first_trades(self, symbols: list[str]) -> list[str]:
        """Find the first trade ever of the listed ones; returns those whose turn it is still."""
        ready = []
        for symbol in symbols:
            sequence = self._pipeline.sequencer.sequences.get(symbol)
            if sequence is None:
                continue
            if symbol in self._listed and symbol not in self._first and not await self._first_trade(sequence):
                continue
            ready.append(symbol)
        return ready

    async def _first_trade(self, sequence: SymbolSequence) -> bool:
        """Find the first trade of one that was listed; False to ask again later. Raises ``Retry``."""
        symbol = sequence.symbol
        first = sequence.pending.get(0)
        if first is None:
            page = await self._history.trades_from(symbol, 0, 1)
            first = next(iter(page.trades), None)
        if first is None:
            return self._give_up(symbol)
        if first.trade_time_us < self._young_us:
            del self._listed[symbol]
            log.warning(
                "not a new listing: its first trade is older than this service; it begins as any other symbol",
                extra={"symbol": symbol, "trade_time_us": first.trade_time_us},
            )
        else:
            self._first[symbol] = first
        return True

    async def _start(self, symbols: list[str]) -> None:
        if not symbols:
            return
        try:
            last_ids = await self._history.last_ids(symbols)
            for symbol in symbols:
                await self._start_one(symbol, last_ids.get(symbol, -1), exact=len(symbols) <= EXACT_CHECKS)
        except Retry:
            self._start_without_history(symbols)
            raise

    async def _start_one(self, symbol: str, last_id: int, *, exact: bool) -> None:
        sequence = self._sequence(symbol)
        if sequence is None:
            return
        if not sequence.pending and last_id < 0:
            pause = self._quiet.get(symbol, QUIET_SECONDS[0])
            self._quiet_until[symbol] = self._monotonic() + pause
            self._quiet[symbol] = min(2 * pause, QUIET_SECONDS[1])
            return
        if symbol in self._first and self._start_listed(symbol, sequence):
            return
        if not sequence.pending:
            self._begin(symbol, last_id + 1)
            return
        first = sequence.pending[min(sequence.pending)]
        plausible = last_id < 0 or abs(first.trade_id - last_id) <= PLAUSIBLE_IDS
        if exact or not plausible:
            page = await self._history.trades_from(symbol, first.trade_id, 1)
            if self._sequence(symbol) is not sequence or first.trade_id not in sequence.pending:
                return
            shown = next(iter(page.trades), None)
            if shown is None or not shown.same_content(first):
                self._doubt(symbol, first, shown, plausible=plausible)
                return
        self._begin(symbol, first.trade_id)

    def _start_listed(self, symbol: str, sequence: SymbolSequence) -> bool:
        """Begin at the first trade that history has; False if something lower was received."""
        first_id = self._first.pop(symbol).trade_id
        self._listed.pop(symbol, None)
        if first_id > min(sequence.pending, default=first_id):
            return False  # the usual rule tells whether it is false
        self._begin(symbol, first_id)
        return True

    def _give_up(self, symbol: str) -> bool:
        """Count an attempt to find a first trade; True after ``FIRST_ATTEMPTS``: the usual rule applies then."""
        attempts = self._listed[symbol]
        pause = min(FIRST_SECONDS[1], FIRST_SECONDS[0] * 2**attempts)
        self._not_before[symbol] = self._monotonic() + pause
        self._listed[symbol] = attempts + 1
        if self._listed[symbol] < FIRST_ATTEMPTS:
            return False
        del self._listed[symbol]
        log.warning("history does not show the first trade of a new listing", extra={"symbol": symbol})
        return True

    def _sequence(self, symbol: str) -> SymbolSequence | None:
        """The symbol's sequence while it waits for its first id."""
        sequence = self._pipeline.sequencer.sequences.get(symbol)
        waits = sequence is not None and sequence.next_id is None and sequence.halted is None
        return sequence if waits and self._writing() and symbol not in self._pipeline.unchecked else None

    def _doubt(self, symbol: str, first: Trade, shown: Trade | None, *, plausible: bool) -> None:
        """History does not have the first trade: drop it if that is a contradiction, else wait, and then begin."""
        differs = shown is not None and (shown.trade_id == first.trade_id or not plausible)
        patient = self._waited(symbol) < UNCONFIRMED_SECONDS
        if differs or not (patient or (plausible and shown is None)):
            self._seen.pop(symbol, None)
            self._pipeline.contradicted(self._pipeline.sequencer.discard(symbol, first.trade_id))
        elif patient:
            self._not_before[symbol] = self._monotonic() + RETRY_SECONDS
        else:
            self._begin_unconfirmed(symbol, first.trade_id)

    def _start_without_history(self, symbols: list[str]) -> None:
        """History is out of reach: after a while the symbols that trade begin without it."""
        for symbol in symbols:
            sequence = self._sequence(symbol)
            if sequence is not None and sequence.pending and self._waited(symbol) >= UNCONFIRMED_SECONDS:
                self._begin_unconfirmed(symbol, min(sequence.pending))

    def _waited(self, symbol: str) -> float:
        now = self._monotonic()
        return now - self._seen.get(symbol, now)

    def _begin_unconfirmed(self, symbol: str, next_id: int) -> None:
        log.warning(
            "history does not show the first trade: the symbol begins with it all the same",
            extra={"symbol": symbol, "trade_id": next_id},
        )
        self._begin(symbol, next_id)

    def _begin(self, symbol: str, next_id: int) -> None:
        self._pipeline.baseline(symbol, next_id)
        self._seen.pop(symbol, None)
        for known in (self._not_before, self._quiet, self._listed, self._first):
            known.pop(symbol, None)
