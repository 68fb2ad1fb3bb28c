"""Detects trades missed while no connection was open: a gap at the end of a sequence shows only with the next trade.

A busy symbol's next trade comes at once. For a quiet one it may take hours, so a connection that began without
overlapping another (after a start, after a loss) is checked once: for every symbol that has not sent anything on it the
exchange is queried for the last id. A rotation overlaps and needs no query.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ingest.binance.connection import Connection
from ingest.core.errors import Retry

log = logging.getLogger(__name__)

LOOK_SECONDS = (1.0, 6.0)
"""After all streams were confirmed. Twice, as REST may lag behind the stream by a moment."""
POLL_SECONDS = 0.25
RETRY_SECONDS = (1.0, 60.0)
"""First and longest wait after a question that failed; doubled each time."""


class FeedView(Protocol):
    """The feed, as far as it is looked at."""

    def current(self) -> list[Connection]:
        """The connections in charge."""


class LastIds(Protocol):
    """Where the exchange's own last ids can be had."""

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        """Return symbol -> last id; raises ``Retry``."""


class TailGapCheck:
    """Looks until cancelled; ``notice`` gets symbol -> last id, to be held against what is known."""

    def __init__(
        self,
        feed: FeedView,
        history: LastIds,
        notice: Callable[[dict[str, int]], None],
        *,
        monotonic: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._feed = feed
        self._history = history
        self._notice = notice
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._sleep = sleep
        self._live_since: dict[Connection, float] = {}
        self._looked: dict[Connection, int] = {}
        self._not_before: dict[Connection, float] = {}
        self._failures: dict[Connection, int] = {}

    async def run(self) -> None:
        """Look at every connection that began from nothing, twice."""
        while True:
            await self._sleep(POLL_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Look once."""
        now = self._monotonic()
        present = [connection for connection in self._feed.current() if connection.from_nothing]
        self._live_since = {
            connection: self._live_since.get(connection, now) for connection in present if connection.live.is_set()
        }
        self._looked = {connection: self._looked.get(connection, 0) for connection in self._live_since}
        self._not_before = {c: at for c, at in self._not_before.items() if c in self._live_since}
        self._failures = {c: count for c, count in self._failures.items() if c in self._live_since}
        for connection, since in self._live_since.items():
            looks = self._looked[connection]
            due = looks < len(LOOK_SECONDS) and now - since >= LOOK_SECONDS[looks]
            if due and connection.delivers and now >= self._not_before.get(connection, 0.0):
                await self._look(connection)

    async def _look(self, connection: Connection) -> None:
        silent = sorted(symbol for symbol in connection.subscribed if symbol not in connection.tracks)
        if silent:
            try:
                last_ids = await self._history.last_ids(silent)
            except Retry as error:
                self._back_off(connection, error)
                return
            self._failures.pop(connection, None)
            self._notice({symbol: last_id for symbol, last_id in last_ids.items() if last_id >= 0})
        self._looked[connection] += 1

    def _back_off(self, connection: Connection, error: Retry) -> None:
        """Ask about this connection again later: after 1, 2, 4 ... 60 seconds, or when the exchange allows it."""
        failures = self._failures[connection] = self._failures.get(connection, 0) + 1
        shortest, longest = RETRY_SECONDS
        seconds = min(longest, max(error.after, shortest * 2 ** min(failures - 1, 10)))
        self._not_before[connection] = self._monotonic() + seconds
        log.info(
            "%s: last ids of silent symbols: %s", connection.name, error,
            extra={"connection": connection.name, "failures": failures, "seconds": seconds},
        )  # fmt: skip
