"""One client's connection to the streams: handshake, pings, control messages, closing; data are pushed from outside.

The WebSocket itself is the Sans-I/O protocol of ``websockets``. Data frames go past it, straight to the transport:
they were made once for all connections.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol, cast

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ingest.simulator.control import Control
from ingest.simulator.frames import COMBINED, COMPRESSED, MICROSECONDS, frame, server_shutdown
from ingest.simulator.handshake import Opening, Refused
from ingest.simulator.rules import ExchangeClock, MessageWindow, Rules

REMEMBERED_PINGS = 32
"""Answered ones whose pong may come again without being wrong."""
SLOW_PONG_SECONDS = 1.0
"""A pong that took longer is counted."""
HANG_S = 600.0
"""How long a handshake hangs at most: a frozen connection does not notice that its client has gone."""
MID_FRAME_S = 0.05
"""From half a frame to the reset, which would otherwise overtake it."""
HANDSHAKE_S = 30.0
"""For a client to say what it wants."""
_DEFLATE = (ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True),)


class Host(Protocol):
    """What a session needs of the exchange."""

    rules: Rules
    clock: ExchangeClock
    counters: Counter[str]

    def connected(self, session: StreamSession) -> None:
        """Take note of a TCP connection."""

    def admit(self, target: str, ip: str) -> Opening | Refused | None:
        """Decide about a handshake; None: it never gets an answer."""

    def opened(self, session: StreamSession) -> None:
        """Take note of a session that is open; its first subscriptions follow."""

    def changed(self, session: StreamSession, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """Take note of subscriptions that came and went."""

    def closed(self, session: StreamSession) -> None:
        """Forget a session."""

    def offended(self, ip: str) -> None:
        """Take note of a close for too many messages."""


class StreamSession(asyncio.Protocol):
    """One connection. Everything happens in the event loop's thread."""

    _numbers = itertools.count(1)

    def __init__(self, host: Host) -> None:
        self.number = next(self._numbers)
        self.opened_at = 0.0
        self.sent = 0
        self.ip = ""
        self.variant = 0
        self.open = False
        self.control = Control((), combined=False)
        self.silent_until = 0.0
        """Stalled: data are not sent, pings are."""
        self.silent_streams: dict[str, float] = {}
        self.frozen = False
        """A black hole: neither reads nor writes."""
        self._host = host
        self._rules = host.rules
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(extensions=_DEFLATE if host.rules.negotiate_deflate else None, max_size=2**20)
        self._transport: asyncio.Transport | None = None
        self._window = MessageWindow(host.rules.messages, host.rules.message_window_s)
        self._pings: dict[bytes, asyncio.TimerHandle | None] = {}  # None: answered
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._fragments: list[bytes] = []
        self._out: list[bytes] = []

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self.ip = str(transport.get_extra_info("peername")[0])
        self._host.connected(self)
        self._after("handshake", HANDSHAKE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.frozen:
            return
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._write()
        if self._ws.handshake_exc is not None and not self.open:
            self._host.counters["handshakes_malformed"] += 1
            self._finish()

    def eof_received(self) -> None:
        """See asyncio: the transport closes itself."""
        if not self.frozen:
            self._ws.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        for timer in (*self._timers.values(), *self._pings.values()):
            if timer is not None:
                timer.cancel()
        self._timers.clear()
        self._pings.clear()
        self.open = False
        self._host.closed(self)

    # The exchange's side.

    @property
    def backlog(self) -> int:
        """Bytes the client has left unread, as far as this side can see."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def deflates(self) -> bool:
        """Whether permessage-deflate was negotiated."""
        return bool(self._ws.extensions)

    @property
    def closing(self) -> bool:
        """Whether a close frame has been sent or received, so that no data may follow."""
        return self._ws.close_expected() or not self.open

    def push(self, data: bytes) -> None:
        """Queue whole frames; ``flush`` sends them."""
        self._out.append(data)

    def hears(self, stream: str, now: float) -> bool:
        """Whether data of a stream reach the client: not while it is stalled."""
        if self.frozen or now < self.silent_until:
            return False
        return not self.silent_streams or now >= self.silent_streams.get(stream, 0.0)

    def flush(self) -> None:
        """Send what is queued, in one write. A client that does not keep up is cut off."""
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self.sent += len(self._out)
        self._out.clear()
        if self.closing or self.frozen or self._transport is None:
            return
        if self.backlog > self._rules.backlog_bytes:
            self._host.counters["slow_clients_cut"] += 1
            self.abort()
            return
        self._transport.write(data)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, and end the connection when the client has answered or a little later."""
        if self.frozen:
            self.abort()
            return
        if self.closing:
            return
        self.flush()
        self._ws.send_close(code, reason)
        self._host.counters[f"closed_{code}"] += 1
        self._write()
        self._finish()

    def announce_shutdown(self, lead_s: float, *, at_us: int, code: int = 1001, nested: bool = False) -> None:
        """Send serverShutdown with this time, and close after the lead; at once if it is 0."""
        self.flush()
        self.say(server_shutdown(at_us, self.variant, nested=nested))
        self._host.counters["shutdown_notices"] += 1
        if lead_s > 0:
            self._after("shutdown", lead_s, lambda: self.close(code))
        else:
            self.close(code)

    def abort(self) -> None:
        """End the connection without a word (a TCP reset if data are unread)."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        if self._transport is not None:
            _linger_zero(self._transport)
            self._transport.abort()

    def reset_in_frame(self) -> None:
        """Send the first half of a frame, and a moment later end the connection with a TCP reset."""
        if self.closing or self.frozen or self._transport is None:
            return
        self.flush()
        self._transport.write(frame(b'{"e":"depthUpdate","x":"' + b"0" * 2000)[:1000])
        self.silent_until = float("inf")
        self._after("finish", MID_FRAME_S, self.reset)

    def freeze(self) -> None:
        """Neither read nor write from now on, while the TCP connection stays: half-open for all the client knows."""
        self.frozen = True
        self._out.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    # Handshake.

    def _handshake(self, request: Request) -> None:
        decision = self._host.admit(request.path, self.ip)
        self._timers.pop("handshake").cancel()
        if decision is None:
            self.freeze()
            self._after("finish", HANG_S, self.abort)
            return
        if isinstance(decision, Refused):
            headers = Headers({"Content-Type": decision.content_type, "Connection": "close"})
            headers["Content-Length"] = str(len(decision.body))
            if decision.retry_after:
                headers["Retry-After"] = str(decision.retry_after)
            self._ws.send_response(Response(decision.status, decision.reason, headers, decision.body))
            self._host.counters[f"handshakes_{decision.status}"] += 1
            return
        response = self._ws.accept(request)
        self._ws.send_response(response)
        self._write()
        if response.status_code != 101:
            return
        self.control = Control(
            decision.streams,
            combined=decision.combined,
            limit=self._rules.streams,
            error_shape=self._rules.error_shape,
        )
        micro = MICROSECONDS if decision.microseconds else 0
        packed = COMPRESSED if self._rules.compress and self.deflates else 0
        self.variant = (COMBINED if decision.combined else 0) | micro | packed
        self.open = True
        self.opened_at = self._loop.time()
        self._host.opened(self)
        self._host.changed(self, tuple(self.control.streams), ())
        self._after("ping", self._rules.ping_interval_s, self._ping)
        self._after("lifetime", self._rules.lifetime_s, self._outlived)

    def _outlived(self) -> None:
        self._host.counters["lifetimes_ended"] += 1
        match self._rules.lifetime_end:
            case "reset":
                self.reset()
            case "notice":
                self.announce_shutdown(self._rules.notice_lead_s, at_us=self._host.clock.now_us())
            case _:
                self.close(1001)

    # Messages of the client.

    def _frame(self, event: Frame) -> None:
        if event.opcode is Opcode.CLOSE:
            self._host.counters["closed_by_client"] += 1
            return
        if event.opcode in (Opcode.PING, Opcode.PONG):
            self._counted()
            self._host.counters["pings_received" if event.opcode is Opcode.PING else "pongs_received"] += 1
            if event.opcode is Opcode.PONG:
                self._pong(bytes(event.data))
            return
        self._fragments.append(bytes(event.data))
        if not event.fin:
            return
        text = b"".join(self._fragments)
        self._fragments.clear()
        if not self._counted():
            return
        if len(text) > self._rules.control_bytes:
            self._host.counters["control_dropped"] += 1
            return
        self._host.counters["control_messages"] += 1
        answer = self.control.handle(text)
        self._host.changed(self, answer.added, answer.removed)
        self.variant = self.variant & ~COMBINED | (COMBINED if self.control.combined else 0)
        self.flush()
        self.say(answer.reply)

    def say(self, text: bytes) -> None:
        """Send a text of its own to this client, now."""
        if not self.closing and not self.frozen and self._transport is not None:
            self._transport.write(frame(text))

    def _counted(self) -> bool:
        if self._window.note(self._loop.time()):
            return not self.closing
        if not self.closing:
            self._host.counters["too_many_requests"] += 1
            self._host.offended(self.ip)
            self.close(1008, "Too many requests")
        return False

    # Pings.

    def _ping(self) -> None:
        if self.closing or self.frozen:
            return
        payload = str(self._host.clock.now_us() // 1000).encode()
        while payload in self._pings:  # distinct, also when the interval is short
            payload = str(int(payload) + 1).encode()
        answered = [sent for sent, deadline in self._pings.items() if deadline is None]
        for sent in answered[:-REMEMBERED_PINGS]:
            del self._pings[sent]
        self._pings[payload] = self._loop.call_later(self._rules.pong_timeout_s, self._overdue, payload)
        self._host.counters["pings_sent"] += 1
        self.flush()
        self._ws.send_ping(payload)
        self._write()
        self._after("ping", self._rules.ping_interval_s, self._ping)

    def _pong(self, payload: bytes) -> None:
        if payload not in self._pings:
            self._host.counters["pongs_unsolicited"] += 1
            waiting = any(deadline is not None for deadline in self._pings.values())
            if payload and waiting and self._rules.strict_pong and not self.closing:
                self._host.counters["pongs_wrong"] += 1
                self.close(1008, "Pong payload mismatch")
            return
        for sent in list(self._pings):  # one pong may answer all pings up to its own (RFC 6455, 5.5.3)
            timer = self._pings[sent]
            if timer is not None:
                if self._loop.time() - (timer.when() - self._rules.pong_timeout_s) > SLOW_PONG_SECONDS:
                    self._host.counters["pongs_slow"] += 1
                timer.cancel()
                self._pings[sent] = None
            if sent == payload:
                break

    def _overdue(self, payload: bytes) -> None:
        self._pings[payload] = None
        self._host.counters["pong_timeouts"] += 1
        self.close(1008, "Pong timeout")

    # Plumbing.

    def _after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        previous = self._timers.pop(name, None)
        if previous is not None:
            previous.cancel()
        self._timers[name] = self._loop.call_later(seconds, action)

    def _write(self) -> None:
        transport = self._transport
        if transport is None:
            return
        for data in self._ws.data_to_send():
            if self.frozen:
                continue
            if data:
                transport.write(data)
            else:
                transport.close()
                self._finish()

    def _finish(self) -> None:
        self._after("finish", self._rules.close_timeout_s, self.abort)


def _linger_zero(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
