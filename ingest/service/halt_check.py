"""Asks the exchange's history whether the ids of a halted symbol go on, and ends the halt if they do.

One message with a wrong id must not stop a symbol for longer than it takes to ask. What history cannot confirm stays
halted until an operator decides: a sequence that began again is never continued. Each numbered stream has a check of
its own: history states a bar once the one after it has opened.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ingest.core.errors import Retry
from ingest.core.symbol_sequence import UNKNOWN_TIME, HaltReason, SymbolSequence
from ingest.service.backfill import History
from ingest.service.numbered_lane import NumberedLane

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
CHECK_SECONDS = (2.0, 60.0)
"""First and longest pause between two checks of a symbol; each is twice the one before."""
AT_ONCE = 4
CONFIRMABLE: frozenset[HaltReason] = frozenset(("id_reset", "giant_jump", "content"))


class HaltCheck:
    """Checks the halted symbols of one numbered stream until cancelled."""

    def __init__(
        self,
        lane: NumberedLane,
        history: History,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stream = lane.stream.name
        self._sequencer = lane.sequencer
        self._history = history
        self._monotonic = monotonic
        self._sleep = sleep
        self._due: dict[str, tuple[float, float]] = {}
        """Symbol -> when to check it next, and the pause after that."""

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._sleep(POLL_SECONDS)
            for symbol in self.due():
                sequence = self._sequencer.sequences.get(symbol)
                if sequence is not None:  # it may have been removed while another one was checked
                    await self._check(sequence)

    def due(self) -> list[str]:
        """Symbols to check now, a few at once."""
        now, first = self._monotonic(), CHECK_SECONDS[0]
        halted = [one.symbol for one in self._sequencer.halted() if one.halted in CONFIRMABLE]
        self._due = {symbol: self._due.get(symbol, (now + first, 2.0 * first)) for symbol in halted}
        if not self._sequencer.active:
            return []
        return [symbol for symbol, (when, _) in self._due.items() if now >= when][:AT_ONCE]

    async def _check(self, sequence: SymbolSequence) -> None:
        symbol, reason, next_id = sequence.symbol, sequence.halted, sequence.next_id
        pause = self._due[symbol][1]
        self._due[symbol] = (self._monotonic() + pause, min(CHECK_SECONDS[1], 2.0 * pause))
        if next_id is None:
            return
        try:
            confirmed = await (self._reaches(sequence, next_id) if reason == "giant_jump" else self._goes_on(sequence))
        except Retry as error:
            log.info("history: %s", error, extra={"symbol": symbol, "stream": self._stream})
            return
        recorded = self._sequencer.sequences.get(symbol) is sequence
        if confirmed and recorded and (sequence.halted, sequence.next_id) == (reason, next_id):
            log.warning(
                "history confirms that the ids go on: symbol resumed",
                extra={
                    "symbol": symbol, "stream": self._stream, "reason": reason, "next_id": next_id,
                    "jumped_to": sequence.jumped_to,
                },
            )  # fmt: skip
            self._sequencer.resume_symbol(symbol, self._monotonic())

    async def _reaches(self, sequence: SymbolSequence, next_id: int) -> bool:
        """Whether history has both the next id and the one that was jumped to: a long gap, not another sequence."""
        page = await self._history.trades_from(sequence.symbol, next_id, 1)
        if not any(trade.trade_id == next_id for trade in page.trades):
            return False
        page = await self._history.trades_from(sequence.symbol, sequence.jumped_to, 1)
        return any(trade.trade_id >= sequence.jumped_to for trade in page.trades)

    async def _goes_on(self, sequence: SymbolSequence) -> bool:
        """Whether history still has the last released id with a time of then, and the one after it.

        A sequence that began again and has come up to the same ids has them with newer times.
        """
        next_id, latest = sequence.next_id, sequence.last_time_us
        if latest == UNKNOWN_TIME and sequence.halted_by is not None:
            latest = sequence.halted_by.trade_time_us
        if not next_id:
            return False
        page = await self._history.trades_from(sequence.symbol, next_id - 1, 2)
        times = {trade.trade_id: trade.trade_time_us for trade in page.trades}
        return next_id in times and next_id - 1 in times and times[next_id - 1] <= latest
