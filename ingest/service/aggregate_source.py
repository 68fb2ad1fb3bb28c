"""Fills small gaps from aggregated trades, which cost a sixth of the weight; what they do not give exactly is left.

Every page is compared with the trades that wait behind the gap: should an aggregate of one trade ever differ from the
trade itself, aggregates are not used any more.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingest.binance.aggregates import Aggregate, contradicted, trades_from_aggregates
from ingest.binance.refusals import RequestRefused
from ingest.core.catch_up import AggregateOdds
from ingest.core.errors import Retry
from ingest.core.symbol_sequence import SymbolSequence
from ingest.service.numbered_lane import NumberedLane

if TYPE_CHECKING:
    from ingest.service.backfill import Aggregates

log = logging.getLogger(__name__)

LARGEST_PAGE = 1000
MARGIN = 20
"""Aggregates asked for beyond those that the gap and what follows it can have: more are traded meanwhile."""


class AggregateSource:
    """Gives the pipeline the missing trades that an aggregate states exactly."""

    def __init__(self, pipeline: NumberedLane, aggregates: "Aggregates") -> None:
        self._pipeline = pipeline
        self._aggregates = aggregates
        self._odds = AggregateOdds()
        self._tried: dict[str, int] = {}
        """Symbol -> the next id for which aggregates were not enough."""
        self._trusted = True

    async def fill(self, sequence: SymbolSequence) -> bool:
        """Ask for aggregates where they are worth it; return whether the gap has become smaller. Raises ``Retry``."""
        next_id = sequence.next_id
        if next_id is None or not self._worth(sequence, next_id):
            return False
        symbol = sequence.symbol
        self._tried[symbol] = next_id
        limit = min(LARGEST_PAGE, sequence.high_watermark - next_id + 2 + MARGIN)
        try:
            found = await self._aggregates.aggregates(symbol, limit)
        except RequestRefused as error:
            log.info("aggregates: %s", error, extra={"symbol": symbol})
            return False
        except Retry:
            del self._tried[symbol]  # to be asked again
            raise
        different = contradicted(symbol, found, sequence.pending)
        if different is not None:
            self._trusted = False
            log.error(
                "an aggregate differs from its trade: aggregates are not used any more",
                extra={"symbol": symbol, "trade_id": different},
            )
            return False
        if not self._continues(sequence, next_id, found):
            return False
        single = sum(1 for each in found if each.first_id == each.last_id)
        self._odds.observe(single, len(found) - single)
        if sequence.next_id != next_id:
            return True  # filled meanwhile
        self._pipeline.on_history(trades_from_aggregates(symbol, found, next_id, self._last_missing(sequence)))
        if sequence.next_id == next_id:
            return False
        if sequence.next_id is not None:
            self._tried[symbol] = sequence.next_id  # what is next now is one of several
        return True

    def _worth(self, sequence: SymbolSequence, next_id: int) -> bool:
        return (
            self._trusted
            and sequence.refused is None
            and self._tried.get(sequence.symbol) != next_id
            and sequence.high_watermark - next_id + 2 + MARGIN <= LARGEST_PAGE
            and self._odds.worth(sequence.missing)
        )

    @staticmethod
    def _continues(sequence: SymbolSequence, next_id: int, found: Sequence[Aggregate]) -> bool:
        """Return whether the page reaches to the last released trade and is of the same sequence of ids."""
        before = next((each for each in found if each.first_id < next_id <= each.last_id + 1), None)
        return before is not None and before.time_us <= sequence.last_time_us

    def _last_missing(self, sequence: SymbolSequence) -> int:
        return min(sequence.pending, default=sequence.high_watermark + 1) - 1

    def forget_closed(self) -> None:
        """What was learned about a gap does not hold for the next one."""
        open_gaps = self._pipeline.sequencer.open_gaps
        for symbol in [symbol for symbol in self._tried if symbol not in open_gaps]:
            del self._tried[symbol]
