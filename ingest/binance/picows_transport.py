"""The client of picows, for those who install the extra ``fast``: frames are parsed in C."""

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Awaitable
from typing import Any

import picows
from picows import WSCloseCode, WSMsgType, WSProtocolError
from picows.websockets.asyncio.negotiation import configure_permessage_deflate
from picows.websockets.compat import Response
from picows.websockets.exceptions import InvalidHandshake
from prometheus_client import Histogram

from ingest.binance import transport
from ingest.binance.dialer import Dialed
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

_NO_CODE = 1005
"""Stands for a close frame without a code (RFC 6455, section 7.1.5)."""
_TEXT = WSMsgType.TEXT
_OFFER = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")


class _Listener(picows.WSListener):
    """What picows calls with every frame. The rules that concern more than one frame are kept here."""

    def __init__(self, limit: int, budget: SendBudget, answers: Histogram, inflater: Any) -> None:
        self._limit = limit
        self._budget = budget
        self._answers = answers
        self._inflater = inflater
        self._loop = asyncio.get_running_loop()
        self._deliver: Deliver | None = None
        self._payloads: list[bytes] = []
        self._fragments: bytearray | None = None
        self._over = False
        self.offence = ""
        """What the peer did that made us drop the connection without a close frame."""
        self.transport: Any = None
        self.pings: dict[bytes, tuple[asyncio.Future[float], float]] = {}

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport
        transport.underlying_transport.pause_reading()  # until ``listen``

    def listen(self, deliver: Deliver) -> None:
        """Deliver messages from now on, those of one read together, and first those that came with the handshake."""
        self._deliver = deliver
        self.transport.underlying_transport.resume_reading()
        self._flush()

    @property
    def listening(self) -> bool:
        """Whether ``listen`` was called."""
        return self._deliver is not None

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if self._over:
            return
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and self._fragments is None
        ):
            self._payloads.append(frame.get_payload_as_bytes())
        else:
            self._other(transport, frame)
        if frame.last_in_buffer:
            self._flush()

    def _flush(self) -> None:
        if self._payloads and self._deliver is not None:
            payloads, self._payloads = self._payloads, []
            # Together within the limit, as a rule: copying them costs a quarter of asking each for its length, which in
            # turn costs a tenth of asking the library's frames for theirs.
            if len(b"".join(payloads)) <= self._limit or max(map(len, payloads)) <= self._limit:
                self._deliver(payloads)
                return
            good = list(itertools.takewhile(lambda payload: len(payload) <= self._limit, payloads))
            if good:
                self._deliver(good)
            self._too_large()

    def _other(self, transport: Any, frame: Any) -> None:
        kind = frame.msg_type
        if frame.payload_size > self._limit and self._inflater is None:
            self._too_large()
        if frame.rsv2 or frame.rsv3 or (frame.rsv1 and (self._inflater is None or kind.value > WSMsgType.BINARY.value)):
            self._fail(WSCloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
        if kind is WSMsgType.PING:
            began = time.perf_counter()  # frames of the same read that came before were only collected
            transport.send_pong(frame.get_payload_as_bytes())
            self._answers.observe(time.perf_counter() - began)
            if self._budget.note_pong(transport.underlying_transport.get_write_buffer_size()):
                self._over, self.offence = True, PING_FLOOD
                transport.underlying_transport.abort()
        elif kind is WSMsgType.PONG:
            self._pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            self._over = True
            self._flush()
            transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes())  # a no-op where ours was sent first
            self._loop.call_later(CLOSE_SECONDS, transport.underlying_transport.abort)
        else:
            self._data(frame)

    def _too_large(self) -> None:
        """The library reports a frame beyond its limit and hands it over all the same."""
        self._fail(WSCloseCode.MESSAGE_TOO_BIG, f"a frame of more than {self._limit} bytes")

    def _data(self, frame: Any) -> None:
        continued = frame.msg_type is WSMsgType.CONTINUATION
        if continued is (self._fragments is None):
            problem = "unexpected continuation frame" if continued else "expected a continuation frame"
            self._fail(WSCloseCode.PROTOCOL_ERROR, problem)
        fragments = self._fragments if self._fragments is not None else bytearray()
        if self._inflater is not None:
            try:
                # One byte of room more: full at exactly the limit looks to the library like beyond it.
                fragments += self._inflater.decode_frame(frame, self._limit + 1 - len(fragments))
            except WSProtocolError as error:
                self._fail(error.code, str(error))
        else:
            fragments += frame.get_payload_as_bytes()
        if len(fragments) > self._limit:
            self._fail(WSCloseCode.MESSAGE_TOO_BIG, f"more than {self._limit} bytes")
        if frame.fin:
            self._payloads.append(bytes(fragments))
            self._fragments = None
        else:
            self._fragments = fragments

    def _pong(self, payload: bytes) -> None:
        waiting = self.pings.pop(payload, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(self._loop.time() - waiting[1])

    def _fail(self, code: WSCloseCode, text: str) -> None:
        """End the connection: picows sends the code and hangs up after a moment."""
        self._over = True
        self._flush()
        raise WSProtocolError(code, text)


class PicowsSocket:
    """A ``transport.Socket``."""

    def __init__(self, listener: _Listener, budget: SendBudget) -> None:
        self._listener = listener
        self._transport: Any = listener.transport
        self._budget = budget
        self._closed_by_us = False

    async def pump(self, deliver: Deliver) -> CloseInfo:
        """See ``transport.Socket``."""
        violation: WSProtocolError | None = None
        try:
            try:
                self._listener.listen(deliver)
            except WSProtocolError:  # in what came with the handshake; raised here, the library does not hang up
                self._transport.underlying_transport.abort()
                raise
            await self._transport.wait_disconnected()
        except WSProtocolError as error:
            violation = error
        return self._ending(violation)

    async def send(self, message: bytes) -> None:
        """See ``transport.Socket``."""
        await self._budget.permit()
        self._transport.send(_TEXT, message)

    async def ping(self) -> Awaitable[float] | None:
        """See ``transport.Socket``."""
        await self._budget.permit()
        if self._transport.is_disconnected or self._transport.is_close_frame_sent:
            return None
        loop = asyncio.get_running_loop()
        payload, waiter = os.urandom(4), loop.create_future()
        self._listener.pings[payload] = waiter, loop.time()
        self._transport.send_ping(payload)
        return waiter

    async def close(self, code: int, reason: str) -> None:
        """See ``transport.Socket``."""
        self._closed_by_us = True
        if not self._listener.listening:
            with contextlib.suppress(WSProtocolError):  # it is being closed anyway
                self._listener.listen(lambda _: None)  # or the answer to our close frame would not be read
        if not self._transport.is_disconnected:
            self._transport.send_close(code, reason)
        with contextlib.suppress(WSProtocolError):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._transport.wait_disconnected()
            except TimeoutError:
                self.abort()
                await self._transport.wait_disconnected()

    def abort(self) -> None:
        """See ``transport.Socket``."""
        self._closed_by_us = True
        self._transport.underlying_transport.abort()

    def _ending(self, violation: WSProtocolError | None) -> CloseInfo:
        handshake = self._transport.close_handshake
        received = handshake.recv if handshake is not None else None
        sent = handshake.sent if handshake is not None else None
        if self._closed_by_us:
            return CloseInfo("ours", int(sent.code) if sent is not None else 1006)
        if self._listener.offence:
            return CloseInfo("protocol_error", 1006, self._listener.offence)
        if violation is not None:
            reason: transport.EndReason = (
                "frame_too_large" if violation.code == WSCloseCode.MESSAGE_TOO_BIG else "protocol_error"
            )
            return CloseInfo(reason, int(violation.code), str(violation)[:120])
        if received is not None:
            return CloseInfo("closed_by_exchange", int(received.code) or _NO_CODE, (received.reason or "")[:120])
        return CloseInfo("connection_lost", 1006)


class _PeerLog(logging.LoggerAdapter[logging.Logger]):
    """The library logs what a peer does wrong as an error. It is handled, so it is a warning here."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """See ``logging.LoggerAdapter``."""
        super().log(min(level, logging.WARNING), msg, *args, **options)


class Connector(DialingConnector):
    """A ``transport.Connector``."""

    FAILURES = (picows.WSInvalidURL, picows.WSHandshakeError, InvalidHandshake, OSError, UnicodeError, OpenFailed)

    async def _handshake(self, url: str, dialed: Dialed, budget: SendBudget) -> transport.Socket:
        settings = self._settings
        compression = "deflate" if settings.compression else None

        def listener(_request: Any, response: Any) -> _Listener:
            inflater = configure_permessage_deflate(Response.from_picows(response), compression)
            return _Listener(settings.max_frame_bytes, budget, self._metrics.server_ping_answer_seconds, inflater)

        opened, made = await picows.ws_connect(
            listener,
            url,
            ssl_context=self._ssl if url.startswith("wss:") else None,
            websocket_handshake_timeout=settings.open_timeout_seconds,
            enable_auto_pong=False,  # ours are counted
            max_frame_size=settings.max_frame_bytes,
            extra_headers=[_OFFER] if settings.compression else None,
            max_redirects=0,  # an address of the exchange that points elsewhere is a fault
            proxy=None,  # the dialer's business
            socket_factory=lambda _url: dialed.sock,
            logger_name=_PeerLog(log, {}),
            use_aiofastnet=False,  # whatever else is installed
        )
        if not isinstance(made, _Listener) or opened.is_disconnected:
            raise OpenFailed("connection_lost", "no answer to the handshake")
        return PicowsSocket(made, budget)

    def _open_failed(self, error: Exception) -> Exception:
        if isinstance(error, OpenFailed):
            return error
        if isinstance(error, picows.WSInvalidURL):
            return Stop(f"K2_BINANCE_WEBSOCKET_URL: {error}")
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, picows.WSInvalidStatusError) and error.response is not None:
            status = int(error.response.status)
            after = retry_after(status, error.response.headers.get("Retry-After"))
            return OpenFailed("handshake_refused", text, status=status, after=after)
        return OpenFailed(trouble_of(error), text)
