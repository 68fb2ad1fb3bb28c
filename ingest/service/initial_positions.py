"""Symbols that Kafka has no position for: where their account begins.

A symbol that trades begins with the first trade that arrives. A quiet one begins behind the exchange's last id, asked
once for all symbols together, so that its first trade cannot be lost to a crash before it came.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest.core.errors import Retry
from ingest.service.pipeline import Pipeline

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.25
"""First trades may arrive out of order by a little: wait this long before the lowest is called the first."""
POLL_SECONDS = 0.1


class LastIds(Protocol):
    """Where the last trade id of each symbol can be had."""

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        """Return symbol -> last id, -1 for no trade in a day; raises ``Retry``."""


class InitialPositions:
    """Starts the lanes that have no position, once this instance writes and the feed receives them."""

    def __init__(
        self,
        pipeline: Pipeline,
        history: LastIds,
        *,
        writing: Callable[[], bool],
        receiving: Callable[[str], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._history = history
        self._writing = writing
        self._receiving = receiving
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        self._not_before = 0.0

    async def run(self) -> None:
        """Start symbols until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._writing():
                await self.step()

    async def step(self) -> None:
        """Start what can be started now."""
        now = self._monotonic()
        quiet = []
        for symbol, lane in self._pipeline.sequencer.lanes.items():
            if lane.next_id is not None:
                continue
            if not lane.held:
                if self._receiving(symbol):
                    quiet.append(symbol)
            elif now - self._seen.setdefault(symbol, now) >= SETTLE_SECONDS:
                del self._seen[symbol]
                self._pipeline.baseline(symbol, min(lane.held))
        if quiet and now >= self._not_before:
            self._not_before = now + 60.0
            await self._ask(quiet)

    async def _ask(self, quiet: list[str]) -> None:
        try:
            last_ids = await self._history.last_ids(quiet)
        except Retry as error:
            log.info("last ids of %d quiet symbols: %s", len(quiet), error)
            self._not_before = self._monotonic() + max(1.0, error.after)
            return
        if not self._writing():
            return
        for symbol in quiet:
            lane = self._pipeline.sequencer.lanes.get(symbol)
            last_id = last_ids.get(symbol, -1)
            if lane is not None and lane.next_id is None and last_id >= 0:
                self._pipeline.baseline(symbol, min(lane.held, default=last_id + 1))
