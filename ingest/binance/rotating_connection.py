"""Keeps one live connection for a group of symbols: opens, reconnects and rotates until cancelled.

A rotation makes before it breaks: the successor is opened and subscribed first, both run until nothing can be missed,
then the old one is closed. If no successor can be opened, the old connection stays and the rotation is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from ingest.binance.connection import TRADES, Connection, FeedSink, RotationTrigger
from ingest.binance.endpoints import Endpoints
from ingest.binance.overlap import Overlap
from ingest.binance.stream_messages import StreamFormat
from ingest.binance.transport import Connector, OpenFailed
from ingest.core.backoff import full_jitter
from ingest.core.clock import Clock
from ingest.core.limiter import RollingWindow
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

CLOSE_REASON = "Periodic rotation"
STABLE_SECONDS = 10.0
"""A connection that lived this long has earned a quick first attempt to replace it."""
ASK_AGAIN_SECONDS = 10.0
"""A budget of attempts that is spent is looked at again this often: in a fleet it may have grown."""
EXCHANGE_LIFETIME = 24 * 3600.0
"""Then the exchange disconnects [wss]."""
LIFETIME_MARGIN = 1800.0
OVERLAP_POLL = 0.05
FORCED = frozenset({"server_shutdown", "stalled", "pong_timeout"})
"""Reasons that say something against the old connection."""
UNHEALTHY = frozenset({"stalled", "pong_timeout"})
"""Reasons that say something against the address of the old connection."""
FORBIDDEN = frozenset({403, 418, 429, 451})
FORBIDDEN_SECONDS = 30.0
"""Least wait at an address that refused a handshake with one of these: asking on may turn it into a ban."""
ATTEMPTS_WINDOW = 300.0


@dataclass(frozen=True)
class FeedContext:
    """What all slots of a feed share."""

    settings: BinanceSettings
    lifetime_seconds: float
    metrics: Metrics
    sink: FeedSink
    clock: Clock
    random: Random
    opener: Connector
    endpoints: Endpoints
    attempts: Mapping[str, RollingWindow]
    """The budget of connection attempts of each address."""
    on_ended: Callable[[Connection], None]
    stream: StreamFormat = TRADES
    on_opened: Callable[[Connection], None] = lambda _: None


class RotatingConnection:
    """Keeps one live connection for the symbols that ``desired_symbols`` gives."""

    def __init__(self, shared: FeedContext, names: tuple[str, str], desired_symbols: Callable[[], list[str]]) -> None:
        self._shared = shared
        self._names = names
        self._desired_symbols = desired_symbols
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._requests: dict[Connection, str] = {}
        self._backoff = self._new_backoff()
        self._runs: dict[Connection, asyncio.Task[None]] = {}
        self._retiring: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._rotate_at = 0.0
        self._bare_urls: set[str] = set()
        """Addresses that refused an opening URL with stream names in it."""
        self.current: Connection | None = None
        self.successor: Connection | None = None

    def connections(self) -> list[Connection]:
        """The present connection and, while it overlaps, its successor."""
        return [connection for connection in (self.current, self.successor) if connection is not None]

    def changed(self) -> None:
        """The desired symbols have changed."""
        for connection in self.connections():
            connection.changed()

    def request_rotation(self, connection: Connection, reason: str) -> None:
        """Replace this connection as soon as possible. A rotation that is under way already is enough."""
        if connection in self.connections():
            self._requests.setdefault(connection, reason)
            self._wake.set()

    async def run(self) -> None:
        """Hold a connection until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                current = self.current
                if current is None:
                    await self._connect()
                elif current.ending is not None:
                    self._lost(current)
                    await asyncio.sleep(next(self._backoff))
                else:
                    reason = await self._cause(current)
                    if reason is not None:
                        await self._rotate(current, reason)

    # Opening

    async def _connect(self) -> None:
        """Open the connection of an empty slot, however long it takes."""
        while self.current is None:
            try:
                self._install(await self._open())
            except OpenFailed as error:
                log.debug("connecting again", extra={"reason": error.reason})
                await asyncio.sleep(next(self._backoff))

    async def _open(self) -> Connection:
        """One attempt at the best address, within its budget. Raises ``OpenFailed``."""
        shared = self._shared
        if self._retiring is not None:
            await asyncio.wait([self._retiring])  # its name is free then
        url = await self._next_address()
        name = next(name for name in self._names if self.current is None or self.current.name != name)
        connection = Connection(
            name, shared.opener, shared.settings, shared.metrics, shared.sink, shared.clock,
            desired_symbols=self._desired_symbols, on_trouble=self._on_trouble, stream=shared.stream,
        )  # fmt: skip
        shared.metrics.connection_attempts.inc()
        try:
            await connection.open(url, streams_in_url=url not in self._bare_urls)
        except OpenFailed as error:
            self._on_open_failed(name, url, error)
            raise
        shared.endpoints.worked(url)
        shared.on_opened(connection)
        if self._group is None:
            raise RuntimeError("not running")
        self._runs[connection] = self._group.create_task(self._run(connection), name=f"connection {name}")
        return connection

    async def _next_address(self) -> str:
        """Wait for an address that is open and has attempts left, and take one of them."""
        shared = self._shared
        while True:
            now = self._loop.time()
            delays = []
            for endpoint in shared.endpoints.usable(now):
                delay = shared.attempts[endpoint.url].take(now)
                if delay == 0.0:
                    return endpoint.url
                delays.append(delay)
            delay = min(delays, default=shared.endpoints.opens_in(now)[0])
            log.warning(
                "no address may be used now (refused, or its budget of attempts is spent): waiting %.1f s", delay,
                extra={"seconds": delay},
            )  # fmt: skip
            await asyncio.sleep(min(max(0.1, delay), ASK_AGAIN_SECONDS))

    def _on_open_failed(self, name: str, url: str, error: OpenFailed) -> None:
        """Charge a failed attempt to its address, or, for the first 403, to the stream names in the URL."""
        shared, now = self._shared, self._loop.time()
        shared.metrics.reconnects.labels(error.reason).inc()
        level = logging.ERROR if error.reason == "tls" or error.status in FORBIDDEN else logging.WARNING
        log.log(
            level, "%s: cannot connect to %s: %s", name, url, error,
            extra={"connection": name, "url": url, "reason": error.reason, "status": error.status},
        )  # fmt: skip
        if error.status == 403 and url not in self._bare_urls:
            self._bare_urls.add(url)  # a firewall may have refused the names: subscribe by message instead
            return
        shared.endpoints.failed(url, now)
        if error.after > 0.0 or error.status in FORBIDDEN:
            least = FORBIDDEN_SECONDS if error.status in FORBIDDEN else 0.0
            shared.endpoints.refused(url, now, max(error.after, least))

    async def _run(self, connection: Connection) -> None:
        metrics = self._shared.metrics
        metrics.connection_status.labels(connection.name).set(1)
        try:
            ending = await connection.run()
            log.info("%s: ended: %s %d %s", connection.name, ending.reason, ending.code, ending.detail)
        finally:
            metrics.connection_status.labels(connection.name).set(0)
            metrics.connection_age.labels(connection.name).set(0)
            metrics.connection_lifetime.observe(self._loop.time() - connection.opened_at)
            self._shared.on_ended(connection)
            self._runs.pop(connection, None)
            self._wake.set()

    def _install(self, connection: Connection) -> None:
        self.current = connection
        shared = self._shared
        lifetime = min(shared.lifetime_seconds, EXCHANGE_LIFETIME - LIFETIME_MARGIN)
        jitter = shared.random.uniform(0.0, shared.settings.connection_lifetime_jitter)
        self._rotate_at = connection.opened_at + lifetime * (1.0 - jitter)

    def _lost(self, connection: Connection) -> None:
        """Account for a connection that ended unasked."""
        self._count_end(connection)
        self._requests.pop(connection, None)
        if self._loop.time() - connection.opened_at >= STABLE_SECONDS:
            self._backoff = self._new_backoff()
        else:
            self._shared.endpoints.failed(connection.url, self._loop.time())
        if self.current is connection:
            self.current = None

    def _count_end(self, connection: Connection) -> None:
        if connection.ending is not None and connection.ending.reason != "ours":
            self._shared.metrics.reconnects.labels(connection.ending.reason).inc()

    def _new_backoff(self) -> Iterator[float]:
        settings = self._shared.settings
        return full_jitter(
            initial=settings.backoff_initial_seconds,
            maximum=settings.backoff_maximum_seconds,
            uniform=self._shared.random.uniform,
        )

    # Rotation

    def _on_trouble(self, connection: Connection, reason: RotationTrigger) -> None:
        self.request_rotation(connection, reason)

    async def _cause(self, current: Connection) -> str | None:
        """Wait for a reason to rotate; None when the connection has ended instead."""
        while current.ending is None:
            if (reason := self._requests.pop(current, None)) is not None:
                return reason
            left = self._rotate_at - self._loop.time()
            if left <= 0.0:
                return "scheduled"
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                continue
        return None

    async def _rotate(self, old: Connection, reason: str) -> None:
        """Replace ``old``; returns when its successor has taken over, or ``old`` has ended and nothing replaces it."""
        metrics = self._shared.metrics
        backoff = self._new_backoff()
        log.info("%s: rotation (%s) begins", old.name, reason, extra={"connection": old.name, "reason": reason})
        if reason in UNHEALTHY:
            self._shared.endpoints.failed(old.url, self._loop.time())  # another address, where there is one
        while old.ending is None:
            try:
                new = self.successor = await self._open()
            except OpenFailed:
                metrics.rotation_failures.inc()
                await self._pause(next(backoff))
                continue
            if await self._overlap(old, new, forced=reason in FORCED):
                self.successor = None
                metrics.rotations.labels(reason).inc()
                if old.ending is None:
                    self._retire(old)
                elif reason != "server_shutdown":  # that end was announced, and no fault of the address
                    self._lost(old)
                self._requests.pop(old, None)
                self._install(new)
                return
            metrics.rotation_failures.inc()
            self.successor = None
            if new.ending is None:
                log.warning("%s: does not deliver: %s is kept", new.name, old.name)
                await self._closed(new, "Does not deliver")
            else:
                self._count_end(new)
            self._requests.pop(new, None)
            await self._pause(next(backoff))

    async def _overlap(self, old: Connection, new: Connection, *, forced: bool) -> bool:
        """Run both until the new one can take over (True) or proves useless (False)."""
        settings = self._shared.settings
        await new.live.wait()  # set at its end, too
        new.from_nothing = old.ending is not None
        if new.ending is not None:
            return False
        overlap = Overlap(
            started=self._loop.time(),
            maximum=settings.rotation_overlap_seconds,
            forced=forced,
            is_desired=set(self._desired_symbols()).__contains__,
        )
        while new.ending is None:
            if old.ending is not None:
                return True
            verdict = overlap.judge(old.tracks, new.tracks, self._loop.time())
            if verdict != "wait":
                return verdict == "switch"
            await asyncio.sleep(OVERLAP_POLL)
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of a connection."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _retire(self, connection: Connection) -> None:
        self._requests.pop(connection, None)
        if self._group is None:
            raise RuntimeError("not running")
        task = self._closed(connection, CLOSE_REASON)
        self._retiring = self._group.create_task(task, name=f"retire {connection.name}")

    async def _closed(self, connection: Connection, reason: str) -> None:
        """Close it and wait for its end: its name is used again."""
        await connection.close(1000, reason)
        if (run := self._runs.get(connection)) is not None:
            await asyncio.wait([run])
