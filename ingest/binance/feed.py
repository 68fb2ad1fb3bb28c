"""The set of connections: groups of symbols, each on one connection or a permanent pair, until cancelled.

Every trade that any socket delivers goes to the sink; it is the sink that tells first arrivals from duplicates.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, Protocol

import msgspec

from ingest.binance.connection import Connection, FeedSink
from ingest.binance.dialer import Dialer
from ingest.binance.endpoints import Endpoints
from ingest.binance.groups import Groups
from ingest.binance.rotating_connection import ATTEMPTS_WINDOW, FeedContext, RotatingConnection
from ingest.binance.stream_messages import format_of
from ingest.binance.transport import Connector, opener
from ingest.core.clock import Clock
from ingest.core.connection import State
from ingest.core.limiter import RollingWindow
from ingest.core.streams import TRADE, Stream
from ingest.metrics import ROTATION_REASONS, Metrics
from ingest.settings import BinanceSettings

__all__ = ["ConnectionStatus", "Feed", "FeedSink"]

METRICS_SECONDS = 1.0


class ConnectionStatus(msgspec.Struct, frozen=True):
    """One connection as the status page shows it; ages in seconds."""

    name: str
    group: int
    role: str
    """``current`` or ``successor``."""
    state: str
    url: str
    streams: int
    age: float
    frame_age: float
    frames: int
    bytes: int

    @property
    def live(self) -> bool:
        """Whether it delivers."""
        return self.state in (State.SUBSCRIBING.value, State.LIVE.value)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**msgspec.structs.asdict(self), "age": round(self.age, 3), "frame_age": round(self.frame_age, 3)}


class ConnectionWatch(Protocol):
    """Learns when connections listen."""

    def opened(self, source: Connection) -> None:
        """A connection was opened."""

    def ended(self, source: Connection, wall_us: int) -> None:
        """It has ended; it was heard last at ``wall_us``, microseconds by the wall clock."""


class Feed:
    """Keeps every symbol on a live connection. ``run`` inside the service's task group."""

    def __init__(
        self,
        settings: BinanceSettings,
        lifetime_seconds: float,
        metrics: Metrics,
        sink: FeedSink,
        *,
        ssl_context: ssl.SSLContext | None,
        symbols: Iterable[str] = (),
        clock: Clock = time,
        random: Random | None = None,
        client: Connector | None = None,
        dialer: Dialer | None = None,
        stream: Stream = TRADE,
        beside: "Feed | None" = None,
        watch: ConnectionWatch | None = None,
    ) -> None:
        """Raises ``Stop`` where the transport that the settings name is not installed.

        ``lifetime_seconds`` is how long a connection lives at most, before jitter; ``client`` replaces the transport.
        ``beside``: another feed to the same addresses, with which the budget of attempts is shared. ``watch`` is
        called when a connection was opened and when it has ended.
        """
        self._settings = settings
        self._stream = stream
        self._watch = watch
        self._clock = clock
        self._prefix = "" if stream.is_trade else f"{stream.name}-"
        self._metrics = metrics
        self._groups = Groups(settings.streams_per_connection)
        self._groups.add(symbols)
        self._slots: dict[int, list[RotatingConnection]] = {}
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._running: asyncio.TaskGroup | None = None
        self._archive: dict[str, int] = {}
        self._ended_trades = 0
        self._counted: dict[Connection, tuple[int, int]] = {}
        urls = (settings.websocket_url, *settings.websocket_fallback_urls)
        self._shared: FeedContext = FeedContext(
            settings=settings,
            lifetime_seconds=lifetime_seconds,
            metrics=metrics,
            sink=sink,
            clock=clock,
            random=random or Random(),  # noqa: S311 -- jitter, not a secret
            opener=client or opener(settings, metrics, ssl_context, dialer),
            endpoints=Endpoints(urls),
            stream=format_of(stream),
            attempts=beside._shared.attempts
            if beside is not None
            else {
                url.rstrip("/"): RollingWindow(limit=settings.connection_attempts_per_5_minutes, window=ATTEMPTS_WINDOW)
                for url in urls
            },
            on_ended=self._on_ended,
            on_opened=self._on_opened,
        )

    def limit_attempts(self, attempts: int) -> None:
        """Allow so many connection attempts in five minutes from now on."""
        for window in self._shared.attempts.values():
            window.limit = attempts

    def report_attempts(self, before: Callable[[int], None]) -> None:
        """Call ``before`` with 1 before each connection attempt."""
        for window in self._shared.attempts.values():
            window.before_note = before

    async def run(self) -> None:
        """Receive until cancelled. Ends otherwise only by an exception of the sink."""
        try:
            async with asyncio.TaskGroup() as group:
                self._running = group
                for number in self._groups.numbers():
                    self._start(number)
                while True:
                    await asyncio.sleep(METRICS_SECONDS)
                    self.publish()
        finally:
            self._running = None
            self.publish()

    # Symbols

    async def add_symbols(self, symbols: Iterable[str]) -> None:
        """Record these too, from now on. Returns at once: ``receiving`` tells when a symbol is subscribed."""
        self._apply(self._groups.add(symbols))

    async def remove_symbols(self, symbols: Iterable[str]) -> None:
        """Record these no longer. Trades under way may still arrive."""
        symbols = list(symbols)
        self._apply(self._groups.remove(symbols))
        for symbol in symbols:
            self._archive.pop(symbol, None)

    def symbols(self) -> list[str]:
        """Every symbol that is to be received."""
        return [symbol for number in self._groups.numbers() for symbol in self._groups.members(number)]

    def _apply(self, changed: set[int]) -> None:
        if self._running is None:
            return
        for number in changed:
            if not self._groups.members(number):
                for task in self._tasks.pop(number, []):
                    task.cancel()
                self._slots.pop(number, None)
            elif number in self._slots:
                for slot in self._slots[number]:
                    slot.changed()
            else:
                self._start(number)

    def _start(self, number: int) -> None:
        if self._running is None:
            raise RuntimeError("not running")
        group = f"{self._prefix}g{number}"
        pairs = [(f"{group}a", f"{group}b")]
        if self._settings.dual_connections:
            pairs.append((f"{group}c", f"{group}d"))
        slots = [RotatingConnection(self._shared, names, lambda: self._groups.members(number)) for names in pairs]
        self._slots[number] = slots
        self._tasks[number] = [
            self._running.create_task(slot.run(), name=f"slot {group}.{index}") for index, slot in enumerate(slots)
        ]

    # Judgement from outside

    def receiving(self, symbol: str) -> bool:
        """Whether it is subscribed on a connection that delivers."""
        number = self._groups.of(symbol)
        return number is not None and any(
            connection.delivers and symbol in connection.subscribed
            for slot in self._slots.get(number, ())
            for connection in slot.connections()
        )

    def last_received(self) -> dict[str, int]:
        """Symbol -> highest trade id that any connection has delivered since the start."""
        latest = dict(self._archive)
        for _, _, connection in self._connections():
            _merge(latest, connection)
        return latest

    def trades_received(self) -> tuple[int, float | None]:
        """Return how many trades have been received, and when the last one came (the loop's time)."""
        connections = [connection for _, _, connection in self._connections()]
        times = [connection.last_trade_at for connection in connections if connection.last_trade_at is not None]
        return self._ended_trades + sum(connection.trades for connection in connections), max(times, default=None)

    def groups_live(self) -> dict[str, bool]:
        """Return for each group of symbols whether a connection delivers."""
        return {
            f"group {number}": any(c.delivers for slot in slots for c in slot.connections())
            for number, slots in self._slots.items()
        }

    def current(self) -> list[Connection]:
        """The connections in charge, successors excluded."""
        return [connection for _, role, connection in self._connections() if role == "current"]

    def connections_of(self, symbol: str) -> list[str]:
        """The names of the connections that carry a symbol, successors excluded."""
        number = self._groups.of(symbol)
        if number is None:
            return []
        return [slot.current.name for slot in self._slots.get(number, ()) if slot.current is not None]

    def rotate(self, reason: str, connection: str | None = None) -> int:
        """Replace a connection by name, or all of them, make before break; returns how many.

        ``reason`` is one of metrics.ROTATION_REASONS (``ValueError``).
        """
        if reason not in ROTATION_REASONS:
            raise ValueError(f"reason {reason!r}: allowed is {', '.join(ROTATION_REASONS)}")
        count = 0
        for slots in self._slots.values():
            for slot in slots:
                if slot.current is not None and connection in (None, slot.current.name):
                    slot.request_rotation(slot.current, reason)
                    count += 1
        return count

    def status(self) -> list[ConnectionStatus]:
        """Every connection now."""
        now = asyncio.get_running_loop().time()
        return [
            ConnectionStatus(
                name=connection.name,
                group=number,
                role=role,
                state=connection.life.state.value,
                url=connection.url,
                streams=len(connection.subscribed),
                age=now - connection.opened_at,
                frame_age=now - connection.last_frame_at,
                frames=connection.frames,
                bytes=connection.bytes,
            )
            for number, role, connection in self._connections()
        ]

    def _connections(self) -> Iterator[tuple[int, str, Connection]]:
        for number, slots in self._slots.items():
            for slot in slots:
                if slot.current is not None:
                    yield number, "current", slot.current
                if slot.successor is not None:
                    yield number, "successor", slot.successor

    # Metrics

    def _on_opened(self, connection: Connection) -> None:
        if self._watch is not None:
            self._watch.opened(connection)

    def _on_ended(self, connection: Connection) -> None:
        if self._watch is not None:
            silent = asyncio.get_running_loop().time() - connection.last_frame_at
            self._watch.ended(connection, wall_us=self._clock.time_ns() // 1000 - int(silent * 1e6))
        _merge(self._archive, connection)
        for symbol in [symbol for symbol in connection.tracks if symbol not in self._groups]:
            self._archive.pop(symbol, None)
        self._publish(connection)
        self._ended_trades += connection.trades
        self._counted.pop(connection, None)

    def publish(self) -> None:
        """Move the counts of the hot path into the metrics."""
        now = asyncio.get_running_loop().time()
        live = 0
        for _, _, connection in self._connections():
            self._publish(connection)
            if connection.delivers:
                live += 1
                self._metrics.connection_age.labels(connection.name).set(now - connection.opened_at)
        receiving = sum(1 for symbol in self.symbols() if self.receiving(symbol))
        if self._stream.is_trade:
            self._metrics.connections_live.set(live)
            self._metrics.streams.set(receiving)
        else:
            self._metrics.stream_subscribed.labels(self._stream.name).set(receiving)

    def _publish(self, connection: Connection) -> None:
        frames, size = self._counted.get(connection, (0, 0))
        self._metrics.received.inc(connection.frames - frames)
        self._metrics.bytes_received.inc(connection.bytes - size)
        self._counted[connection] = (connection.frames, connection.bytes)
        for track in connection.tracks.values():
            if not self._stream.is_trade:
                self._metrics.stream_received.labels(self._stream.name).inc(track.unreported)
                track.unreported = 0
            elif track.unreported:
                label = self._metrics.symbol_label(track.symbol)
                self._metrics.messages_received.labels(label).inc(track.unreported)
                track.unreported = 0


def _merge(latest: dict[str, int], connection: Connection) -> None:
    for symbol, track in connection.tracks.items():
        if track.last_id > latest.get(symbol, -1):
            latest[symbol] = track.last_id
