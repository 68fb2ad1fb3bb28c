"""One connection of the feed, from the handshake to the end: read, subscribe, beat, close.

The read loop awaits nothing but the socket, so that the exchange's pings are answered whatever the rest of the process
does. Trades that arrive in one read are passed on together.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from ingest.binance.messages import ErrorReply, Reply, ServerShutdown
from ingest.binance.overlap import SymbolProgress
from ingest.binance.stream_messages import Passing, StreamFormat, format_of
from ingest.binance.streams import chunks, opening_url, request
from ingest.binance.transport import CloseInfo, Connector, Socket
from ingest.core.clock import Clock
from ingest.core.connection import Event, Lifecycle, State
from ingest.core.errors import Reject
from ingest.core.streams import TRADE
from ingest.core.trade import Trade
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

RotationTrigger = Literal["server_shutdown", "pong_timeout"]


class FeedSink(Protocol):
    """Where the trades go. Called on the loop; must not block."""

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        """Take trades in the order of their arrival on that connection."""

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Take a frame that cannot be used."""


TRADES = format_of(TRADE)


class ControlRefused(Exception):
    """A control request was refused or not answered: what the connection delivers is not what we want."""


class Connection:
    """One socket. ``open``, then ``run`` until it ends; it is never opened twice."""

    def __init__(
        self,
        name: str,
        opener: Connector,
        settings: BinanceSettings,
        metrics: Metrics,
        sink: FeedSink,
        clock: Clock,
        *,
        desired_symbols: Callable[[], list[str]],
        on_trouble: Callable[["Connection", RotationTrigger], None],
        stream: StreamFormat = TRADES,
    ) -> None:
        """``desired_symbols`` gives the symbols to be subscribed to now; ``changed`` makes it look again."""
        self.name = name
        self.url = ""
        self.life = Lifecycle()
        self.live = asyncio.Event()
        """Set once every desired stream was confirmed for the first time, or the connection has ended."""
        self.subscribed: set[str] = set()
        self.tracks: dict[str, SymbolProgress] = {}
        self.opened_at = 0.0
        self.last_frame_at = 0.0
        self.last_trade_at: float | None = None
        self.live_at: float | None = None
        """When every desired stream was confirmed for the first time; the loop's time."""
        self.trades = 0
        self.frames = 0
        self.bytes = 0
        self.ending: CloseInfo | None = None
        self.from_nothing = True
        """Whether it began without overlapping another one: what was traded before may be unknown."""
        self._opener = opener
        self._settings = settings
        self._metrics = metrics
        self._sink = sink
        self._clock = clock
        self._desired_symbols = desired_symbols
        self._requested: set[str] = set()
        """Symbols that this connection has ever asked for and not given up."""
        self._unrequested = 0
        self._on_trouble = on_trouble
        self._stream = stream
        self._wire = stream.stream.wire
        self._loop = asyncio.get_running_loop()
        self._socket: Socket | None = None
        self._failure: Exception | None = None
        self._refused: CloseInfo | None = None
        self._changed = asyncio.Event()
        self._replies: dict[int, asyncio.Future[ErrorReply | None]] = {}
        self._last_request = 0

    # Life

    async def open(self, base_url: str, *, streams_in_url: bool = True) -> None:
        """Open the socket with as many streams in the URL as fit. Raises ``OpenFailed``; safe to cancel."""
        symbols = self._desired_symbols() if streams_in_url else []
        url, named = opening_url(base_url, symbols, wire=self._wire)
        self.url = base_url
        self.life.handle(Event.OPEN)
        failed = True
        try:
            self._socket = await self._opener.open(url)
            failed = False
        finally:
            if failed:
                self.life.handle(Event.REFUSED)
        self.life.handle(Event.OPENED)
        self.opened_at = self.last_frame_at = self._loop.time()
        self.subscribed.update(symbols[:named])
        self._requested.update(symbols[:named])

    async def run(self) -> CloseInfo:
        """Read until either side ends the connection; return how it ended.

        When cancelled it closes the socket first, which takes at most ``transport.CLOSE_SECONDS``.
        """
        socket = self._opened()
        try:
            ending = await self._read(socket)
        except asyncio.CancelledError:
            self._leave()
            await socket.close(1000, "Going away")
            raise
        finally:
            self.life.handle(Event.LOST)
            self.live.set()
        if self._failure is not None:
            raise self._failure
        self.ending = ending
        return ending

    async def _read(self, socket: Socket) -> CloseInfo:
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._keep_subscribed(socket), name=f"{self.name} subscriptions"),
                group.create_task(self._beat(socket), name=f"{self.name} heartbeat"),
            ]
            ending = await socket.pump(self._on_frames)
            for helper in helpers:
                helper.cancel()
        return self._refused or ending

    async def close(self, code: int, reason: str) -> None:
        """Leave: frames still under way are read and passed on. Returns when the socket is gone."""
        self._leave()
        await self._opened().close(code, reason)

    def changed(self) -> None:
        """Look at ``desired_symbols`` again."""
        self._changed.set()

    @property
    def symbols(self) -> set[str]:
        """What it is subscribed to."""
        return self.subscribed

    @property
    def delivers(self) -> bool:
        """Whether it is open and not about to close."""
        return self.life.delivers

    def _leave(self) -> None:
        if self.life.delivers:
            self.life.handle(Event.CLOSE)

    def _opened(self) -> Socket:
        if self._socket is None:
            raise RuntimeError(f"{self.name}: not open")
        return self._socket

    # Reading

    def _on_frames(self, frames: list[bytes]) -> None:
        try:
            self._take(frames)
        except Exception as error:
            # In a callback it would only be logged: it shall end this connection's task.
            self._failure = error
            self._opened().abort()
            raise

    def _take(self, frames: list[bytes]) -> None:
        self.last_frame_at = self._loop.time()
        self.frames += len(frames)
        self.bytes += sum(map(len, frames))
        trades: list[Trade] = []
        decode, kind = self._stream.decode, self._stream.event
        for frame in frames:
            try:
                event = decode(frame)
            except Reject as error:
                trades = self._hand_on(trades)
                self._sink.on_rejected(self.name, frame, error)
                continue
            if type(event) is kind:
                trades.append(event)
            else:
                self._on_other(event)
        self._hand_on(trades)

    def _hand_on(self, trades: list[Trade]) -> list[Trade]:
        """Give the trades so far to the sink; returns the list for those that follow."""
        if not trades:
            return trades
        now = self.last_frame_at
        tracks = self.tracks
        unrequested = 0
        for trade in trades:
            track = tracks.get(trade.symbol)
            if track is None:
                if trade.symbol not in self._requested:
                    unrequested += 1
                    continue
                track = tracks[trade.symbol] = SymbolProgress(trade.symbol, trade.trade_id)
            elif (trade_id := trade.trade_id) > track.last_id:
                track.last_id = trade_id
            track.seen = now
            track.unreported += 1
        if unrequested:
            self._count_unrequested(unrequested)
            trades = [trade for trade in trades if trade.symbol in tracks]
        if trades:
            self.trades += len(trades)
            self.last_trade_at = now
            self._sink.on_trades(self.name, trades)
        return []

    def _count_unrequested(self, count: int) -> None:
        """Drop trades of symbols that this connection never subscribed to: they would fill the memory."""
        if not self._unrequested:
            log.warning(
                "%s: receives trades of symbols that it is not subscribed to; they are dropped", self.name,
                extra={"connection": self.name, "url": self.url},
            )  # fmt: skip
        self._unrequested += count
        self._metrics.unrequested_trades.inc(count)

    def _on_other(self, event: object) -> None:
        match event:
            case Passing():
                pass
            case ServerShutdown():
                log.info("%s: the exchange announces a shutdown", self.name)
                self._on_trouble(self, "server_shutdown")
            case Reply(id=int(number)) if number in self._replies:
                self._answer(number, None)
            case ErrorReply(id=int(number)) if number in self._replies:
                self._answer(number, event)
            case ErrorReply() if self._replies:
                # Without an id it can only concern what we have asked: nothing else provokes an answer.
                self._answer(min(self._replies), event)
            case _:
                self._metrics.unknown_events.inc()

    def _answer(self, number: int, error: ErrorReply | None) -> None:
        waiter = self._replies.pop(number)
        if not waiter.done():
            waiter.set_result(error)

    # Subscriptions

    async def _keep_subscribed(self, socket: Socket) -> None:
        try:
            while True:
                self._changed.clear()
                await self._subscribe_to_desired(socket)
                if not self.life.delivers:
                    return
                if self.life.state is State.SUBSCRIBING:
                    self.life.handle(Event.SUBSCRIBED)
                self.live_at = self.live_at or self._loop.time()
                self.live.set()
                await self._changed.wait()
                if not self.life.delivers:
                    return
                self.life.handle(Event.WANTED_CHANGED)
        except ControlRefused as error:
            log.warning("%s: leaving: %s", self.name, error)
            self._refused = CloseInfo("protocol_error", 1006, str(error)[:120])
            self._leave()
            await socket.close(1000, "")

    async def _subscribe_to_desired(self, socket: Socket) -> None:
        desired = self._desired_symbols()
        keep = set(desired)
        for part in chunks([symbol for symbol in self.subscribed if symbol not in keep], wire=self._wire):
            await self._request(socket, "UNSUBSCRIBE", part)
            self.subscribed.difference_update(part)
            self._requested.difference_update(part)
        for part in chunks([symbol for symbol in desired if symbol not in self.subscribed], wire=self._wire):
            self._requested.update(part)  # trades may arrive before the reply
            await self._request(socket, "SUBSCRIBE", part)
            self.subscribed.update(part)

    async def _request(self, socket: Socket, method: str, symbols: list[str]) -> None:
        self._last_request += 1
        number = self._last_request
        waiter: asyncio.Future[ErrorReply | None] = self._loop.create_future()
        self._replies[number] = waiter
        try:
            await socket.send(request(method, symbols, number, self._wire))
            async with asyncio.timeout(self._settings.open_timeout_seconds):
                error = await waiter
        except TimeoutError:
            raise ControlRefused(f"{method} of {len(symbols)} streams was not answered") from None
        finally:
            self._replies.pop(number, None)
        if error is not None:
            raise ControlRefused(f"{method} of {len(symbols)} streams: error {error.code} {error.message}")

    # Heartbeat

    async def _beat(self, socket: Socket) -> None:
        gauge = self._metrics.last_pong.labels(self.name)
        while True:
            await asyncio.sleep(self._settings.ping_interval_seconds)
            pong = await socket.ping()
            if pong is None:
                return
            latency = await _within(pong, self._settings.ping_timeout_seconds)
            if latency is None:
                self._metrics.pong_timeouts.inc()
                log.warning("%s: no pong within %g s", self.name, self._settings.ping_timeout_seconds)
                self._on_trouble(self, "pong_timeout")
            else:
                self._metrics.pongs.inc()
                self._metrics.pong_seconds.observe(latency)
                gauge.set(self._clock.time_ns() / 1e9)


async def _within(pong: Awaitable[float], seconds: float) -> float | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await pong
    return None
