"""The default transport: the asyncio client of ``websockets``."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from prometheus_client import Histogram
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event

from ingest.binance import transport
from ingest.binance.transport import CLOSE_SECONDS, Ending, OpenFailed, SendBudget
from ingest.core.errors import Stop
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

QUEUE_FRAMES = 256
"""Frames read ahead before reading is paused: bounds memory at this many times ``max_frame_bytes``."""
READ_BYTES = 32_768
"""asyncio's default of 256 KiB is mapped and unmapped on every read: a fifth of all CPU (docs on performance)."""


class _Connection(ClientConnection):
    """Counts the automatic pongs and measures how fast they are."""

    def __init__(self, protocol: ClientProtocol, *, budget: SendBudget, answers: Histogram, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._budget = budget
        self._answers = answers
        self._read_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._read_at = time.perf_counter()
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        # The library has written the pong by now, together with all else this read has caused.
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self._budget.note_pong()
            self._answers.observe(time.perf_counter() - self._read_at)
        super().process_event(event)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Follow none: an address of the exchange that points elsewhere is a fault."""
        return exc


class WebsocketsSocket:
    """A ``transport.Socket``."""

    def __init__(self, connection: ClientConnection, budget: SendBudget) -> None:
        self._connection = connection
        self._budget = budget
        self._closed_by_us = False

    async def pump(self, on_frame: Callable[[bytes], None]) -> Ending:
        """See ``transport.Socket``."""
        receive = self._connection.recv
        try:
            while True:
                on_frame(await receive(decode=False))
        except ConnectionClosed as error:
            return _ending(error, closed_by_us=self._closed_by_us)

    async def send(self, message: bytes) -> None:
        """See ``transport.Socket``."""
        await self._budget.permit()
        try:
            await self._connection.send(message, text=True)
        except ConnectionClosed:
            return  # pump() says how

    async def ping(self) -> Awaitable[float] | None:
        """See ``transport.Socket``."""
        await self._budget.permit()
        try:
            return _pong(await self._connection.ping())
        except (ConnectionClosed, ConcurrencyError):
            return None

    async def close(self, code: int, reason: str) -> None:
        """See ``transport.Socket``."""
        self._closed_by_us = True
        await self._connection.close(code, reason)

    def abort(self) -> None:
        """See ``transport.Socket``."""
        self._closed_by_us = True
        self._connection.transport.abort()


async def _pong(waiter: Awaitable[float]) -> float:
    try:
        return await waiter
    except ConnectionClosed:
        # The end of the connection is told by pump(); nobody shall take it for a pong.
        await asyncio.Event().wait()
        raise


class Opener:
    """A ``transport.Opener``."""

    def __init__(self, settings: BinanceSettings, metrics: Metrics, ssl_context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ssl = ssl_context

    async def open(self, url: str) -> transport.Socket:
        """See ``transport.Opener``."""
        settings = self._settings
        budget = SendBudget(asyncio.get_running_loop().time)

        def create(protocol: ClientProtocol, **options: Any) -> ClientConnection:
            answers = self._metrics.server_ping_answer_seconds
            return _Connection(protocol, budget=budget, answers=answers, **options)

        secure: dict[str, Any] = {"ssl": self._ssl} if url.startswith("wss:") else {}
        try:
            connection = await _Connect(
                url,
                compression="deflate" if settings.compression else None,
                proxy=None,  # never from the environment
                open_timeout=settings.open_timeout_seconds,
                ping_interval=None,  # ours are counted and judged by the feed
                close_timeout=CLOSE_SECONDS,
                max_size=settings.max_frame_bytes,  # after inflation
                max_queue=QUEUE_FRAMES,
                create_connection=cast("type[ClientConnection]", create),
                logger=logging.getLogger("ingest.binance.websockets"),
                **secure,
            )
        except (InvalidURI, InvalidHandshake, OSError, ValueError) as error:
            raise _open_failed(error) from error
        return WebsocketsSocket(connection, budget)


def _open_failed(error: Exception) -> Exception:
    """Map what ``connect`` raises. A certificate that is refused stays refused: there is no way around it."""
    if isinstance(error, InvalidURI | ValueError) and not isinstance(error, ssl.SSLError | UnicodeError):
        return Stop(f"K2_BINANCE_WEBSOCKET_URL: {error}")
    return OpenFailed(*_reason(error), status=_status(error), after=_after(error))


def _reason(error: BaseException) -> tuple[transport.OpenTrouble, str]:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return "tls", text
    if isinstance(error, socket.gaierror | UnicodeError):
        return "dns", text
    if isinstance(error, TimeoutError):
        return "timeout", text
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError | ConnectionError):
        return "connection_lost", text
    if isinstance(error, InvalidHandshake):
        return "handshake_refused", text
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "connection_lost", text
    return "refused", text


def _response(error: Exception) -> Response | None:
    return error.response if isinstance(error, InvalidStatus) else None


def _status(error: Exception) -> int | None:
    response = _response(error)
    return response.status_code if response is not None else None


def _after(error: Exception) -> float:
    response = _response(error)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() else 0.0


def _ending(error: ConnectionClosed, *, closed_by_us: bool) -> Ending:
    """Map what ``recv`` raises at the end."""
    received, sent = error.rcvd, error.sent
    if closed_by_us:
        return Ending("ours", sent.code if sent is not None else 1006)
    if received is not None and (sent is None or error.rcvd_then_sent):
        return Ending("closed_by_exchange", received.code, received.reason[:120])
    if sent is not None:
        reason: transport.EndReason = "frame_too_large" if sent.code == 1009 else "protocol_error"
        return Ending(reason, sent.code, sent.reason[:120])
    cause = error.__cause__
    return Ending("connection_lost", 1006, f"{type(cause).__name__}: {cause}"[:120] if cause is not None else "")
