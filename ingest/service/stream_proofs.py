"""What consecutive events of a numbered stream prove about each other, as far as it costs nothing: a metric, no stop.

The auditor compares the topics with each other as a whole (``ingest audit --each-other``).
"""

from collections.abc import Callable
from typing import Any

from ingest.core.market_events import Bar


class TradeRanges:
    """Whether each event's trades follow those of the event before, symbol by symbol, and are as many as it states.

    Aggregates and closed bars name their first and last trade: together they leave no trade out. Bars of history state
    no ids, and prove nothing.
    """

    def __init__(self, disagreed: Callable[[], None]) -> None:
        self._disagreed = disagreed
        self._last: dict[str, tuple[int, int]] = {}
        """Symbol -> the number of its last event, and the id of its last trade."""

    def released(self, event: Any) -> None:
        """Take an event that is written, in order."""
        number, first, last = event.trade_id, event.first_trade_id, event.last_trade_id
        before = self._last.pop(event.symbol, None)
        if isinstance(event, Bar) and first < 0:
            if event.count == 0 and before is not None:
                self._last[event.symbol] = (number, before[1])  # nothing was traded: the ids go on behind it
            return
        follows = before is None or before[0] + 1 != number or before[1] + 1 == first
        if not (follows and (not isinstance(event, Bar) or last - first + 1 == event.count) and first <= last):
            self._disagreed()
        self._last[event.symbol] = (number, last)

    def forget(self, symbol: str) -> None:
        """A symbol is recorded no longer."""
        self._last.pop(symbol, None)
