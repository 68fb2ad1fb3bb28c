"""The exchange's stream server: handshakes, subscriptions, and the data of each."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

from ingest.simulator.control import valid_stream
from ingest.simulator.frames import Outgoing
from ingest.simulator.handshake import Opening, Refused
from ingest.simulator.rest_faults import refusal_body
from ingest.simulator.rules import Attempts, ExchangeClock, Rules
from ingest.simulator.session import StreamSession

_UNITS = {"MILLISECOND": False, "millisecond": False, "MICROSECOND": True, "microsecond": True}
_REASONS = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 414: "URI Too Long", 418: "I'm a teapot",
    429: "Too Many Requests", 451: "Unavailable For Legal Reasons", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@dataclass(slots=True)
class HandshakePolicy:
    """What a test wants to happen to handshakes; every number counts those still to be hit."""

    status: int = 403
    refuse: int = 0
    retry_after: int = 0
    hang: int = 0
    """Handshakes that never get an answer."""


class Streams:
    """All sessions of one exchange, on one listening socket that may be shut for a while."""

    def __init__(self, rules: Rules, clock: ExchangeClock, counters: Counter[str]) -> None:
        self.rules = rules
        self.clock = clock
        self.counters = counters
        self.sessions: dict[int, StreamSession] = {}
        """By number: the oldest is first."""
        self.handshake_policy = HandshakePolicy()
        self._connected: set[StreamSession] = set()
        self._empty = asyncio.Event()
        self.on_subscribed: list[Callable[[StreamSession, tuple[str, ...]], None]] = []
        self.before_flush: list[Callable[[], None]] = []
        """Called before anything that was queued is written."""
        self.others: dict[str, None] = {}
        """Subscribed streams that are not a symbol's trades."""
        self._subscribers: dict[str, dict[StreamSession, None]] = {}
        self._attempts = Attempts(rules)
        self._server: asyncio.Server | None = None
        self._address: tuple[str, int] = ("", 0)
        self._ssl: ssl.SSLContext | None = None
        self._shut_until = float("-inf")

    # Listening.

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen; returns the port."""
        self._ssl = tls
        self._address = (host, port)
        await self.accept()
        assert self._server is not None  # noqa: S101
        self._address = (host, int(self._server.sockets[0].getsockname()[1]))
        return self._address[1]

    async def accept(self) -> None:
        """Listen (again), unless it does or has to wait."""
        if self._server is None and self.now() >= self._shut_until:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: StreamSession(self), *self._address, ssl=self._ssl, reuse_address=True, backlog=512
            )

    @property
    def listening(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    def refuse(self) -> None:
        """Stop listening: connection attempts are refused by the system; sessions stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def refuse_for(self, seconds: float) -> None:
        """Stop listening until ``accept`` is called after these seconds."""
        self._shut_until = self.now() + seconds
        if seconds > 0:
            self.refuse()

    async def stop(self) -> None:
        """Stop listening and end all sessions; returns when they are gone."""
        self.refuse()
        for session in list(self.sessions.values()):
            session.close(1001)
        if self.sessions:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self.rules.close_timeout_s)
        for session in list(self._connected):
            session.abort()
        await asyncio.sleep(0)

    # The sessions' host.

    def connected(self, session: StreamSession) -> None:
        """See ``session.Host``."""
        self._connected.add(session)
        self.counters["connections_accepted"] += 1

    def admit(self, target: str, ip: str) -> Opening | Refused | None:
        """See ``session.Host``."""
        self.counters["handshakes"] += 1
        if self.handshake_policy.hang > 0:
            self.handshake_policy.hang -= 1
            self.counters["handshakes_hung"] += 1
            return None
        if self.handshake_policy.refuse:
            self.handshake_policy.refuse -= self.handshake_policy.refuse > 0
            return _refused(self.handshake_policy.status, self.handshake_policy.retry_after)
        ban = self._attempts.refused(ip, self.now())
        if ban is not None:
            return _refused(*ban)
        if len(target) > self.rules.url_chars:
            return _refused(414)
        return opening(target, self.rules.streams)

    def opened(self, session: StreamSession) -> None:
        """See ``session.Host``."""
        self.sessions[session.number] = session
        self._empty.clear()
        self.counters["connections_opened"] += 1

    def changed(self, session: StreamSession, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        """See ``session.Host``."""
        for name in added:
            self._subscribers.setdefault(name, {})[session] = None
            if not name.endswith("@trade"):
                self.others[name] = None
        for name in removed:
            self._unsubscribe(name, session)
        if added:
            for notify in self.on_subscribed:
                notify(session, added)

    def closed(self, session: StreamSession) -> None:
        """See ``session.Host``."""
        self._connected.discard(session)
        for name in session.control.streams:
            self._unsubscribe(name, session)
        if self.sessions.pop(session.number, None) is not None:
            if not self.sessions:
                self._empty.set()
            self.counters["connections_ended"] += 1

    def offended(self, ip: str) -> None:
        """See ``session.Host``."""
        if self._attempts.offended(ip, self.now()):
            self.counters["bans"] += 1

    def _unsubscribe(self, name: str, session: StreamSession) -> None:
        sessions = self._subscribers.get(name)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._subscribers[name]
                self.others.pop(name, None)

    # Data.

    def now(self) -> float:
        """Monotonic seconds."""
        return asyncio.get_running_loop().time()

    def listeners(self, stream: str) -> Iterator[StreamSession]:
        """The sessions that get this stream now."""
        now = self.now()
        return (session for session in self._subscribers.get(stream, ()) if session.hears(stream, now))

    def send(self, trade: Outgoing) -> None:
        """Queue one trade for every subscriber."""
        for session in self.listeners(trade.stream):
            session.push(trade.frame(session.variant))

    def flush(self) -> None:
        """Write what is queued: one write per connection, however many trades."""
        for prepare in self.before_flush:
            prepare()
        for session in list(self.sessions.values()):
            session.flush()

    @property
    def backlog(self) -> int:
        """Bytes that the slowest client has left unread."""
        return max((session.backlog for session in self.sessions.values() if not session.frozen), default=0)


def opening(target: str, most: int) -> Opening | Refused:
    """The subscriptions of a request target: names of streams are percent-decoded, unknown ones are ignored."""
    path, _, query = target.partition("?")
    values: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        values[unquote(name)] = value  # names in it are decoded one by one: %2F is no separator
    micro = _UNITS.get(unquote(values.get("timeUnit", "MILLISECOND")))
    if path == "/stream":
        listed, combined = values.get("streams", ""), True
    elif path == "/ws" or path.startswith("/ws/"):
        listed, combined = path[len("/ws/") :], False
    else:
        return _refused(404)
    # Any name in the path is accepted, as the exchange does: clients connect to /ws/0 and subscribe by message.
    names = tuple(dict.fromkeys(unquote(name) for name in listed.split("/") if name))
    if micro is None or len(names) > most:
        return _refused(400)
    return Opening(tuple(filter(valid_stream, names)), combined, micro)


def _refused(status: int, retry_after: int = 0) -> Refused:
    if status in (418, 429, 500, 503):
        body, kind = refusal_body(status)
    else:
        reason = _REASONS.get(status, "Error")
        body, kind = f"<html><head><title>{status} {reason}</title></head></html>\r\n".encode(), "text/html"
    return Refused(status, _REASONS.get(status, "Error"), body, kind, retry_after)
