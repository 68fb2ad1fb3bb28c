"""Tells a stalled stream from a quiet one.

Silence is legal: a pair may not trade, and a symbol in BREAK sends nothing. So silence alone never costs a connection.
Each symbol is held against its own rate, measured while it traded; what is silent for too long by that measure raises a
question to the exchange's REST API: has it a newer trade than this connection has delivered? Only a yes that still
stands a moment later is a stall: the connection is replaced, make before break, and the missing ids are named, so that
they are filled from history meanwhile.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from ingest.binance.connection import Connection
from ingest.core.errors import Retry
from ingest.core.rates import Rates
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

QUICK_SECONDS = 5.0
"""A busy symbol is suspect after this long, however long the time-out is."""
QUICK_MISSED = 100.0
"""And what busy means: so many trades should have come in the silence."""
MISSED = 5.0
"""After the time-out, so many are enough."""
GRACE_SECONDS = 2.0
"""What REST knows may still be on its way to us."""
PATROL_INTERVALS = 10
"""Every so many intervals all silent symbols are asked about, those too quiet to be expected included."""
AGAIN_SECONDS = 600.0
"""A symbol that a new connection did not cure costs no further one for this long; its ids are still named."""


class FeedView(Protocol):
    """The feed, as far as it is watched."""

    def current(self) -> list[Connection]:
        """The connections in charge, successors excluded."""

    def last_received(self) -> dict[str, int]:
        """Symbol -> highest trade id that any connection has delivered."""

    def rotate(self, reason: str, connection: str | None = None) -> int:
        """Replace a connection."""


class LastIds(Protocol):
    """Where the exchange's own last ids can be had."""

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        """Return symbol -> last id; raises ``Retry``."""


class StallDetector:
    """Watches until cancelled. Everything runs on the loop."""

    def __init__(
        self,
        settings: BinanceSettings,
        metrics: Metrics,
        feed: FeedView,
        history: LastIds,
        next_ids: Callable[[], Mapping[str, int]],
        on_stalled: Callable[[dict[str, int]], None],
        *,
        monotonic: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``next_ids``: symbol -> the id due next; ``on_stalled`` gets symbol -> the last id that exists."""
        self._interval = settings.health_check_interval
        self._timeout = settings.health_check_timeout
        self._metrics = metrics
        self._feed = feed
        self._history = history
        self._next_ids = next_ids
        self._on_stalled = on_stalled
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._sleep = sleep
        self._rates = Rates()
        self._floors: dict[Connection, dict[str, int]] = {}
        self._quiet_until: dict[tuple[Connection, str], float] = {}
        self._rotated: dict[str, float] = {}
        self._patrol_at = self._monotonic() + PATROL_INTERVALS * self._interval

    async def run(self) -> None:
        """Look several times in an interval; ask REST at most once in it about the same silence."""
        while True:
            await self._sleep(min(QUICK_SECONDS, self._interval / 6))
            await self.check()

    async def check(self) -> None:
        """Look once."""
        now = self._monotonic()
        merged = self._known()
        self._rates.observe(merged, now)
        suspects = self._suspects(merged, now)
        if not suspects:
            return
        symbols = sorted({symbol for names in suspects.values() for symbol in names})
        try:
            exists = await self._history.last_ids(symbols)
        except Retry as error:
            # REST may be gone together with the stream. What should have sent a hundred trades is worth a new
            # connection, which costs nothing where the old one was sound after all.
            log.warning("%d symbols are silent, and REST does not say why: %s", len(symbols), error)
            exists = {}
            self._hold(suspects, now)
            suspects = {
                connection: names
                for connection, names in suspects.items()
                if self._silent(connection, now) >= QUICK_SECONDS
                and sum(self._expected(connection, symbol, now) for symbol in names) >= QUICK_MISSED
            }
            if not suspects:
                return
            for connection in suspects:
                self._stalled_connection(connection)
            return
        await self._sleep(GRACE_SECONDS)
        self._judge(suspects, exists)

    def _known(self) -> dict[str, int]:
        """Symbol -> the highest id that we have or have accounted for."""
        known = self._feed.last_received()
        for symbol, next_id in self._next_ids().items():
            if next_id - 1 > known.get(symbol, -1):
                known[symbol] = next_id - 1
        current = self._feed.current()
        self._floors = {
            connection: self._floors.get(connection) or {s: known[s] for s in connection.subscribed if s in known}
            for connection in current
        }
        self._quiet_until = {key: until for key, until in self._quiet_until.items() if key[0] in self._floors}
        return known

    def _suspects(self, merged: Mapping[str, int], now: float) -> dict[Connection, list[str]]:
        patrol = now >= self._patrol_at
        if patrol:
            self._patrol_at = now + PATROL_INTERVALS * self._interval
        found: dict[Connection, list[str]] = {}
        for connection in self._floors:
            if not connection.delivers:
                continue
            for symbol in connection.subscribed:
                if symbol not in merged or now < self._quiet_until.get((connection, symbol), 0.0):
                    continue
                silence = self._silence(connection, symbol, now)
                expected = self._rates.expected(symbol, silence)
                if (silence >= QUICK_SECONDS and expected >= QUICK_MISSED) or (
                    silence >= self._timeout and (expected >= MISSED or patrol)
                ):
                    found.setdefault(connection, []).append(symbol)
        return found

    def _silence(self, connection: Connection, symbol: str, now: float) -> float:
        track = connection.tracks.get(symbol)
        return now - (track.seen if track is not None else connection.opened_at)

    def _silent(self, connection: Connection, now: float) -> float:
        return now - connection.last_frame_at

    def _expected(self, connection: Connection, symbol: str, now: float) -> float:
        return self._rates.expected(symbol, self._silence(connection, symbol, now))

    def _hold(self, suspects: Mapping[Connection, list[str]], now: float) -> None:
        for connection, symbols in suspects.items():
            for symbol in symbols:
                self._quiet_until[connection, symbol] = now + self._interval

    def _judge(self, suspects: Mapping[Connection, list[str]], exists: Mapping[str, int]) -> None:
        now = self._monotonic()
        self._hold(suspects, now)
        merged = self._feed.last_received()
        stalled: dict[str, int] = {}
        for connection, symbols in suspects.items():
            if not connection.delivers:
                continue
            dead = []
            for symbol in symbols:
                newest = max(exists.get(symbol, -1), merged.get(symbol, -1))
                track = connection.tracks.get(symbol)
                has = track.last_id if track is not None else self._floors.get(connection, {}).get(symbol)
                if has is not None and has < exists.get(symbol, -1):
                    dead.append(symbol)
                    stalled[symbol] = newest
            if not dead:
                continue
            if self._silent(connection, now) >= min(QUICK_SECONDS, self._timeout):
                self._stalled_connection(connection)
            else:
                self._stalled_symbols(connection, dead, now)
        if stalled:
            self._on_stalled(stalled)

    def _stalled_connection(self, connection: Connection) -> None:
        log.warning("%s: stalled: open, but it has stopped delivering", connection.name)
        self._metrics.stalls.labels("connection").inc()
        self._feed.rotate("stalled", connection.name)

    def _stalled_symbols(self, connection: Connection, dead: list[str], now: float) -> None:
        log.warning("%s: %d symbols stalled among others that flow: %s", connection.name, len(dead), dead[:10])
        self._metrics.stalls.labels("symbol").inc(len(dead))
        fresh = [symbol for symbol in dead if now >= self._rotated.get(symbol, float("-inf")) + AGAIN_SECONDS]
        if fresh:
            self._rotated |= dict.fromkeys(fresh, now)
            self._feed.rotate("stalled", connection.name)
