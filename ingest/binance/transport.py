"""One WebSocket as the feed needs it: a few methods, behind which a client library is hidden.

This is the seam: `websockets_transport` and `picows_transport` implement `Socket`, and each maps its library's
exceptions in one function to `OpenFailed` and `CloseInfo`.
"""

import asyncio
import importlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from ingest.binance.dialer import Dialed, Dialer
from ingest.binance.refusals import bounded_retry_after
from ingest.core.errors import Retry, Stop
from ingest.core.limiter import RollingWindow
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

SEND_LIMIT = 5
"""Messages in any rolling second: pings, pongs and control messages all count [wss]."""
SEND_WINDOW = 1.1
"""Seconds; the tenth more is for what the network squeezes together on the way."""
PONG_RESERVE = 2
"""Of the limit, kept free for pongs: those cannot wait."""
CLOSE_SECONDS = 2.0
"""For the exchange to answer our close frame."""
PONG_LIMIT = 100
"""More pongs than this in the send window end the connection: the exchange pings every 20 s [wss]."""
WRITE_BUFFER_LIMIT = 65_536
"""Bytes that may wait to be written. A peer that pings and does not read its pongs would otherwise fill the memory."""
PING_FLOOD = "pings faster than any exchange sends them, or pongs that are never read"

Deliver = Callable[[list[bytes]], None]
"""Takes the payloads of one read."""
OpenTrouble = Literal["handshake_refused", "dns", "refused", "timeout", "tls", "connection_lost"]
EndReason = Literal["ours", "closed_by_exchange", "connection_lost", "frame_too_large", "protocol_error"]


class OpenFailed(Retry):
    """A connection could not be opened. ``reason`` is one of metrics.RECONNECT_REASONS; ``status`` that of HTTP."""

    def __init__(self, reason: OpenTrouble, detail: str, *, status: int | None = None, after: float = 0.0) -> None:
        super().__init__(f"{reason}: {detail}"[:300], after=after)
        self.reason: OpenTrouble = reason
        self.status = status


class CloseInfo(msgspec.Struct, frozen=True):
    """How a connection ended: by whom, with which close code (1006: none was sent) and what it said."""

    reason: EndReason
    code: int = 1006
    detail: str = ""


class SendBudget:
    """The one limiter of everything that is sent on one socket."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._window = RollingWindow(limit=SEND_LIMIT, window=SEND_WINDOW)
        self._monotonic = monotonic

    async def permit(self) -> None:
        """Wait until one message of ours may be sent, and count it. Safe to cancel."""
        while True:
            delay = self._window.wait(self._monotonic(), 1 + PONG_RESERVE)
            if delay == 0.0:
                break
            await asyncio.sleep(delay)
        self._window.note(self._monotonic())

    def note_pong(self, unwritten_bytes: int) -> bool:
        """Count a pong, which has been sent already; return whether the connection must end (``PING_FLOOD``)."""
        now = self._monotonic()
        self._window.note(now)
        return unwritten_bytes > WRITE_BUFFER_LIMIT or self._window.used(now) > PONG_LIMIT


class Socket(Protocol):
    """An open WebSocket."""

    async def pump(self, deliver: Deliver) -> CloseInfo:
        """Hand every message to ``deliver``, in order and those of one read together, until the socket has ended.

        ``deliver`` is called on the loop, between two reads: it must not block. An exception of it ends the socket, and
        is only logged.
        """

    async def send(self, message: bytes) -> None:
        """Send a text message within the budget. Does nothing on a socket that has ended."""

    async def ping(self) -> Awaitable[float] | None:
        """Send a ping within the budget; the result completes with the round trip in seconds. None once ended."""

    async def close(self, code: int, reason: str) -> None:
        """Close in order; returns when the socket has ended, after a bounded time in any case."""

    def abort(self) -> None:
        """Drop the connection at once."""


class Connector(Protocol):
    """Opens sockets."""

    async def open(self, url: str) -> Socket:
        """Open one. Raises ``OpenFailed``; safe to cancel."""


class DialingConnector:
    """What the connectors of both libraries share: dial, shake hands, and report the address that failed."""

    FAILURES: tuple[type[Exception], ...]
    """What the library raises where no connection came about."""

    def __init__(
        self, settings: BinanceSettings, metrics: Metrics, ssl_context: ssl.SSLContext | None, dialer: Dialer
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ssl = ssl_context
        self._dialer = dialer

    async def open(self, url: str) -> Socket:
        """See ``Connector``."""
        budget = SendBudget(asyncio.get_running_loop().time)
        dialed: Dialed | None = None
        try:
            async with asyncio.timeout(self._settings.open_timeout_seconds):
                dialed = await dial(self._dialer, url)
                made = await self._handshake(url, dialed, budget)
        except asyncio.CancelledError:
            if dialed is not None:
                dialed.hang_up()  # picows leaves it open
            raise
        except self.FAILURES as error:
            if dialed is not None:
                dialed.hang_up()
                self._dialer.blame(dialed.address)
            raise self._open_failed(error) from error
        self._dialer.praise(dialed.address)
        return made

    async def _handshake(self, url: str, dialed: Dialed, budget: SendBudget) -> Socket:
        """Open the WebSocket on this connection."""
        raise NotImplementedError

    def _open_failed(self, error: Exception) -> Exception:
        """Map a failure to ``OpenFailed``, or to ``Stop`` where only a person can help."""
        raise NotImplementedError


def trouble_of(error: Exception) -> OpenTrouble:
    """Name what kept a connection from being opened, where it is no answer of the exchange."""
    match error:
        case ssl.SSLError() | ssl.CertificateError():  # stays refused: there is no way around it
            return "tls"
        case socket.gaierror() | UnicodeError():
            return "dns"
        case TimeoutError():
            return "timeout"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "connection_lost"
        case OSError():
            return "refused"
        case _:
            return "handshake_refused"


def retry_after(status: int, header: str | None) -> float:
    """Return the seconds for which a refused handshake closes its address, 0.0 where it does not say so."""
    return bounded_retry_after(status, header or "") if header or status in (418, 429) else 0.0


def opener(
    settings: BinanceSettings, metrics: Metrics, ssl_context: ssl.SSLContext | None, dialer: Dialer | None = None
) -> Connector:
    """Build the client that the settings name: the one factory of WebSockets.

    Raises ``Stop`` where it is not installed: it is imported only when it is needed.
    """
    try:
        module = importlib.import_module(f"ingest.binance.{settings.transport}_transport")
    except ImportError as error:
        raise Stop(
            f"K2_BINANCE_TRANSPORT={settings.transport}: {error.name} is not installed; "
            f"install the extra with it (pip install 'k2-ingest[fast]')"
        ) from error
    made: Connector = module.Connector(settings, metrics, ssl_context, dialer if dialer is not None else Dialer())
    return made


async def dial(dialer: Dialer, url: str) -> Dialed:
    """Connect to the host of a WebSocket URL. Raises ``OSError``."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise Stop(f"K2_BINANCE_WEBSOCKET_URL: {url!r} names no host")
    return await dialer.connect(parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80))
