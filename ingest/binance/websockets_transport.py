"""The default transport: the asyncio client of ``websockets``."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable
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
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State

from ingest.binance import transport
from ingest.binance.dialer import Dialed
from ingest.binance.frame_scanner import LONGEST_HEADER, end_of_frame, extract_text_frames
from ingest.binance.transport import (
    CLOSE_SECONDS,
    PING_FLOOD,
    CloseInfo,
    Deliver,
    DialingConnector,
    OpenFailed,
    SendBudget,
    retry_after,
    trouble_of,
)
from ingest.core.errors import Stop

log = logging.getLogger(__name__)

READ_BYTES = 32_768
"""asyncio's default of 256 KiB is mapped and unmapped on every read: a fifth of all CPU (docs on performance)."""
_END_OF_HEADER = b"\r\n\r\n"


class _Connection(ClientConnection):
    """Cuts trades out of the stream by itself and gives the library the rest: handshake, control frames, oddities.

    The library is fed with whole frames, so that it is always clear where the next one begins; with everything once it
    is about to end the connection, and from the start where compression was negotiated.
    """

    def __init__(self, protocol: ClientProtocol, *, budget: SendBudget, answers: Histogram, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._budget = budget
        self._answers = answers
        self._read_at = 0.0
        self._limit = cast("int", protocol.max_message_size)
        self._receive = self._head
        self._rest = b""
        """Read and not yet looked at: a beginning, or everything while nothing listens."""
        self._payloads: list[bytes] = []
        self._fragments = bytearray()
        self._deliver: Deliver | None = None
        self._hanging_up: asyncio.TimerHandle | None = None
        self.offence = ""
        """What the peer did that made us drop the connection without a close frame."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    @property
    def listening(self) -> bool:
        """Whether ``listen`` was called."""
        return self._deliver is not None

    def listen(self, deliver: Deliver) -> None:
        """Deliver messages from now on, those of one read together, and first those that came with the handshake."""
        self._deliver = deliver
        self.transport.resume_reading()
        if self._rest:
            rest, self._rest = self._rest, b""
            self.data_received(rest)

    def data_received(self, data: bytes) -> None:
        self._read_at = time.perf_counter()
        self._receive(data)
        if self._payloads and self._deliver is not None:
            payloads, self._payloads = self._payloads, []
            self._deliver(payloads)
        if self._hanging_up is None and self.protocol.close_expected():
            # The library would wait indefinitely for the other side to close.
            self._hanging_up = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
        super().connection_lost(exc)

    def _head(self, data: bytes) -> None:
        """Before the end of the response's header."""
        data = self._rest + data
        end = data.find(_END_OF_HEADER) + len(_END_OF_HEADER)
        if end < len(_END_OF_HEADER) and len(data) < READ_BYTES:
            self._rest = data
            return
        self._rest = b""
        self._receive = super().data_received
        self._receive(data[:end])
        if self.protocol.state is not State.OPEN:
            self._receive(data[end:])
            return
        self.transport.pause_reading()  # until ``listen``
        self._rest = data[end:]
        self._receive = self._hold

    def _hold(self, data: bytes) -> None:
        """After the handshake. Reading is paused until ``listen``, but something may have been under way."""
        if self._deliver is None:
            self._rest += data
            return
        self._receive = super().data_received if self.protocol.extensions else self._scan
        self._receive(data)

    def _scan(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, size, protocol = 0, len(data), self.protocol
        while True:
            if protocol.current_size is None:  # else within a fragmented message
                at = extract_text_frames(data, at, self._limit, self._payloads)
            end = end_of_frame(data, at)
            if end is None or size < end <= at + self._limit + LONGEST_HEADER:
                self._rest = data[at:]
                return
            super().data_received(data[at:end])
            at = end
            if at > size or protocol.close_rcvd is not None or protocol.parser_exc is not None:
                break
        self._rest = b""
        self._receive = super().data_received
        self._receive(data[at:])

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode is Opcode.PING:
                # The library has written the pong by now, together with all else this read has caused.
                self._answers.observe(time.perf_counter() - self._read_at)
                if self._budget.note_pong(self.transport.get_write_buffer_size()) and not self.offence:
                    self.offence = PING_FLOOD
                    self.transport.abort()
            elif event.opcode in DATA_OPCODES:
                self._fragments += event.data
                if event.fin:
                    self._payloads.append(bytes(self._fragments))
                    self._fragments.clear()
                return
        super().process_event(event)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Follow none: an address of the exchange that points elsewhere is a fault."""
        return exc


class WebsocketsSocket:
    """A ``transport.Socket``."""

    def __init__(self, connection: _Connection, budget: SendBudget) -> None:
        self._connection = connection
        self._budget = budget
        self._closed_by_us = False

    async def pump(self, deliver: Deliver) -> CloseInfo:
        """See ``transport.Socket``."""
        self._connection.listen(deliver)
        await self._connection.wait_closed()
        if self._connection.offence and not self._closed_by_us:
            return CloseInfo("protocol_error", 1006, self._connection.offence)
        return _ending(self._connection.close_exc, closed_by_us=self._closed_by_us)

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
        if not self._connection.listening:
            self._connection.listen(lambda _: None)  # or the answer to our close frame would not be read
        await self._connection.close(code, reason)

    def abort(self) -> None:
        """See ``transport.Socket``."""
        self._closed_by_us = True
        self._connection.transport.abort()


async def _pong(waiter: Awaitable[float]) -> float:
    try:
        return await waiter
    except ConnectionClosed:
        # pump() reports the end of the connection; it must not count as a pong.
        await asyncio.Event().wait()
        raise


class Connector(DialingConnector):
    """A ``transport.Connector``."""

    FAILURES = (InvalidURI, InvalidHandshake, OSError, ValueError)

    async def _handshake(self, url: str, dialed: Dialed, budget: SendBudget) -> transport.Socket:
        settings = self._settings

        def create(protocol: ClientProtocol, **options: Any) -> _Connection:
            answers = self._metrics.server_ping_answer_seconds
            return _Connection(protocol, budget=budget, answers=answers, **options)

        secure: dict[str, Any] = {"ssl": self._ssl} if url.startswith("wss:") else {}
        connection = await _Connect(
            url,
            sock=dialed.sock,
            compression="deflate" if settings.compression else None,
            proxy=None,  # the dialer's business
            open_timeout=None,  # set around both steps
            ping_interval=None,  # ours are counted and judged by the feed
            close_timeout=CLOSE_SECONDS,
            max_size=settings.max_frame_bytes,  # after inflation
            create_connection=cast("type[ClientConnection]", create),
            logger=logging.getLogger("ingest.binance.websockets"),
            **secure,
        )
        return WebsocketsSocket(cast("_Connection", connection), budget)

    def _open_failed(self, error: Exception) -> Exception:
        if isinstance(error, InvalidURI | ValueError) and not isinstance(error, ssl.SSLError | UnicodeError):
            return Stop(f"K2_BINANCE_WEBSOCKET_URL: {error}")
        lost = isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError | ConnectionError)
        reason = "connection_lost" if lost else trouble_of(error)
        return OpenFailed(reason, f"{type(error).__name__}: {error}", status=_status(error), after=_after(error))


def _response(error: Exception) -> Response | None:
    return error.response if isinstance(error, InvalidStatus) else None


def _status(error: Exception) -> int | None:
    response = _response(error)
    return response.status_code if response is not None else None


def _after(error: Exception) -> float:
    response = _response(error)
    return retry_after(response.status_code, response.headers.get("Retry-After")) if response is not None else 0.0


def _ending(error: ConnectionClosed, *, closed_by_us: bool) -> CloseInfo:
    """Map what ``recv`` raises at the end."""
    received, sent = error.rcvd, error.sent
    if closed_by_us:
        return CloseInfo("ours", sent.code if sent is not None else 1006)
    if received is not None and (sent is None or error.rcvd_then_sent):
        return CloseInfo("closed_by_exchange", received.code, received.reason[:120])
    if sent is not None:
        reason: transport.EndReason = "frame_too_large" if sent.code == 1009 else "protocol_error"
        return CloseInfo(reason, sent.code, sent.reason[:120])
    cause = error.__cause__
    return CloseInfo("connection_lost", 1006, f"{type(cause).__name__}: {cause}"[:120] if cause is not None else "")
