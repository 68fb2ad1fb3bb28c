"""When each book gets its snapshot: after its beginning and each break at once, then regularly; busy books first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ingest.core.errors import Retry
from ingest.core.market_events import BookSnapshot
from ingest.service.book_lane import BookLane

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 1.0
AGAIN_MOST_SECONDS: Final = 60.0
"""After a snapshot that is older than the stream: the exchange prescribes to ask again."""
STREAM_SECONDS: Final = 10.0
"""How long a snapshot may wait for the stream to reach it."""


class Books(Protocol):
    """Where snapshots come from."""

    async def book(self, symbol: str) -> BookSnapshot:
        """Return a book; raises ``Retry``."""


class BookSnapshots:
    """Asks for one snapshot at a time, within the weight budget, and never while missing trades are being requested."""

    def __init__(
        self,
        lane: BookLane,
        books: Books,
        *,
        every_seconds: float,
        trades_first: Callable[[], bool],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lane = lane
        self._books = books
        self._every = every_seconds
        self._trades_first = trades_first
        self._monotonic = monotonic
        self._sleep = sleep
        self._due: dict[str, float] = {}
        """Symbol -> when its next regular snapshot is due."""
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    async def run(self) -> None:
        """Take snapshots until cancelled."""
        while True:
            symbol = None if self._trades_first() else self.next_symbol()
            if symbol is None:
                await self._sleep(POLL_SECONDS)
            else:
                await self._take(symbol)

    def next_symbol(self) -> str | None:
        """The book whose turn it is: one that is not in sync before one whose regular snapshot is due."""
        now, lane = self._monotonic(), self._lane
        if not lane.active:
            self._due.clear()
            return None
        for known in (self._due, self._not_before, self._failures):
            for symbol in [symbol for symbol in known if symbol not in lane.states]:
                del known[symbol]
        wanted = []
        for symbol, chain in lane.states.items():
            if chain.next_id is None or chain.halted or now < self._not_before.get(symbol, 0.0):
                continue
            due = self._due.setdefault(symbol, now + self._every)
            if not chain.synced or now >= due:
                wanted.append((not chain.synced, lane.activity.get(symbol, 0), symbol))
        return max(wanted)[2] if wanted else None

    async def _take(self, symbol: str) -> None:
        lane = self._lane
        if not lane.await_snapshot(symbol):
            self._later(symbol, AGAIN_SECONDS)
            return
        taken = False
        try:
            book = await self._books.book(symbol)
            taken = lane.offer(symbol, book)
        except Retry as error:
            lane.give_up(symbol)
            self._later(symbol, max(error.after, AGAIN_SECONDS))
            log.info("snapshot of a book: %s", error, extra={"symbol": symbol})
            # The budget, or the address, is the same for all books.
            await self._sleep(min(max(error.after, POLL_SECONDS), AGAIN_MOST_SECONDS))
            return
        except asyncio.CancelledError:
            lane.give_up(symbol)
            raise
        if taken:
            self._failures.pop(symbol, None)
            now = self._monotonic()
            self._due[symbol] = now + self._every
            self._not_before[symbol] = now + STREAM_SECONDS
        else:
            failures = self._failures[symbol] = self._failures.get(symbol, 0) + 1
            self._later(symbol, min(AGAIN_SECONDS * 2.0 ** min(failures - 1, 10), AGAIN_MOST_SECONDS))

    def _later(self, symbol: str, seconds: float) -> None:
        self._not_before[symbol] = self._monotonic() + seconds
