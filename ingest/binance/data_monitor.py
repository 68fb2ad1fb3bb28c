"""Measures whether trades arrive when trades are due, for readiness, the freshness objective and an alert."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ingest.binance.stall_detector import LastIds
from ingest.core.data_due import DataDue, Overdue
from ingest.core.errors import Retry
from ingest.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ASK_SECONDS = 30.0
"""Between two questions to the REST API about one silence."""


class FeedCounts(Protocol):
    """The feed, as far as it is measured."""

    def trades_received(self) -> tuple[int, float | None]:
        """Return how many trades have been received, and when the last one came (monotonic)."""

    def groups_live(self) -> dict[str, bool]:
        """Return for each group whether a connection delivers; empty without any group."""

    def last_received(self) -> dict[str, int]:
        """Return symbol -> highest trade id received."""


class DataMonitor:
    """Looks once a second until cancelled. ``overdue`` is the present verdict."""

    def __init__(
        self,
        metrics: Metrics,
        feed: FeedCounts,
        history: LastIds,
        next_ids: Callable[[], Mapping[str, int]],
        symbols: Callable[[], list[str]],
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``next_ids``: symbol -> the id due next; ``symbols`` gives those that are recorded."""
        self._metrics = metrics
        self._feed = feed
        self._history = history
        self._next_ids = next_ids
        self._symbols = symbols
        self._monotonic = monotonic
        self._sleep = sleep
        self._due = DataDue(monotonic())
        self._ask_at = 0.0
        self._first_asked: dict[str, int] = {}
        self.overdue = Overdue()

    async def run(self) -> None:
        """Look until cancelled. A question to the REST API never delays a look."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_when_silent(), name="data witness")
            while True:
                self.look()
                await self._sleep(LOOK_SECONDS)

    async def _ask_when_silent(self) -> None:
        while True:
            now = self._monotonic()
            if self._due.wants_witness(now) and now >= self._ask_at:
                await self._ask()
            await self._sleep(LOOK_SECONDS)

    def look(self) -> Overdue:
        """Judge now."""
        now = self._monotonic()
        trades, last_trade = self._feed.trades_received()
        self._due.observe(now, trades, last_trade, self._feed.groups_live())
        before, self.overdue = self.overdue, self._due.overdue(now)
        if bool(before.seconds) != bool(self.overdue.seconds):
            self._report()
        self._metrics.data_overdue.set(self.overdue.seconds)
        return self.overdue

    def _report(self) -> None:
        if self.overdue.seconds:
            log.warning("data is overdue: %s", self.overdue.reason, extra={"seconds": round(self.overdue.seconds, 1)})
        else:
            log.info("data arrives again, or none is due")

    async def _ask(self) -> None:
        self._ask_at = self._monotonic() + ASK_SECONDS
        symbols = self._symbols()
        if not symbols:
            return
        try:
            exists = await self._history.last_ids(symbols)
        except Retry as error:
            log.info("last ids of %d symbols: %s", len(symbols), error, extra={"count": len(symbols)})
            self._ask_at = self._monotonic() + max(ASK_SECONDS / 3, min(error.after, ASK_SECONDS))
            return
        known = self._feed.last_received()
        for symbol, next_id in self._next_ids().items():
            known[symbol] = max(known.get(symbol, -1), next_id - 1)
        for symbol, last_id in exists.items():
            # Of a symbol never heard of only what is traded from now on counts.
            self._first_asked.setdefault(symbol, last_id)
        newer = any(
            last_id > max(known.get(symbol, -1), self._first_asked[symbol] if symbol not in known else -1)
            for symbol, last_id in exists.items()
        )
        self._due.witness(self._monotonic(), newer=newer)
