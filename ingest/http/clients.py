"""The connections of one server, and which of them gives way when there are too many. Not thread-safe.

A connection without a complete head costs its client nothing, so that one of those gives way first: the oldest one
that has sent no byte, of the address with most of them. One that has sent a complete head is not closed for the sake
of a newcomer, unless its client does not take the response; the holder of a token is not even then.
"""

import socket
from collections import Counter
from collections.abc import Iterable, Iterator

from ingest.http.addresses import client_key
from ingest.http.connection import ServerConnection
from ingest.http.limits import Limits

BUFFER_SECONDS = 0.05
"""Buffers between here and a client that reads nothing are full sooner than this."""


class Client:
    """One accepted connection."""

    __slots__ = (
        "address",
        "deadline",
        "group",
        "held",
        "output",
        "phase",
        "progress",
        "protocol",
        "reads",
        "socket",
        "trusted",
    )

    def __init__(self, connection: socket.socket, address: str, deadline: float) -> None:
        self.socket = connection
        self.address = address
        self.group = client_key(address) if ":" in address else address
        self.deadline = deadline
        self.protocol = ServerConnection(address)
        self.phase = "silent"
        """silent -> head -> body -> wait -> run -> send -> linger or hold; a phase may be left out"""
        self.held = False
        """Whether the connection stays open once the response has been sent."""
        self.output = memoryview(b"")
        self.progress = 0.0
        """When the client last took a byte of the response (monotonic)."""
        self.reads = False
        """Whether it took a part of the response after the operating system's buffers were full."""
        self.trusted = False

    def took(self, sent: int, now: float) -> None:
        """The operating system took bytes of the response."""
        self.output = self.output[sent:]
        self.reads = self.reads or now - self.progress >= BUFFER_SECONDS
        self.progress = now


class Clients:
    """All connections, by socket."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: dict[socket.socket, Client] = {}
        self._incomplete: dict[str, dict[Client, None]] = {}
        """Group of addresses -> those without a complete head, the oldest first."""

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def get(self, connection: object) -> Client | None:
        """The client of a socket."""
        return self._clients.get(connection)  # type: ignore[call-overload,no-any-return]

    def add(self, client: Client) -> None:
        """Take in a connection that has sent nothing yet."""
        self._clients[client.socket] = client
        self._incomplete.setdefault(client.group, {})[client] = None

    def head_complete(self, client: Client) -> None:
        """The head has arrived, or was refused."""
        group = self._incomplete.get(client.group, {})
        group.pop(client, None)
        if not group:
            self._incomplete.pop(client.group, None)

    def remove(self, client: Client) -> None:
        """Forget a connection."""
        self._clients.pop(client.socket, None)
        self.head_complete(client)

    def before_accept(self, address: str) -> Client | None:
        """Which connection must be closed before one of ``address`` is taken in, if any."""
        group = client_key(address) if ":" in address else address
        if len(self._incomplete.get(group, ())) >= self._limits.per_client:
            return _oldest(self._incomplete[group])
        return self.gives_way() if len(self._clients) >= self._limits.connections else None

    def gives_way(self) -> Client | None:
        """The connection that others need least: refused already, without a complete head, or slow."""
        lingering = next((one for one in self._clients.values() if one.phase == "linger"), None)
        if lingering is not None:
            return lingering
        if self._incomplete:
            return _oldest(max(self._incomplete.values(), key=len))
        untrusted = self._untrusted()
        return self._least(untrusted) or next((one for one in untrusted if one.phase == "wait"), None)

    def over_answers(self, newcomer: Client, now: float) -> Client | None:
        """Which connection gives way to a request whose head is complete; the newcomer itself if no other does."""
        untrusted = self._untrusted()
        if newcomer.trusted or len(untrusted) <= self._limits.answers:
            return None
        others = [one for one in untrusted if one is not newcomer]
        stalled = [one for one in others if one.phase != "send" or now - one.progress >= self._limits.stall_seconds]
        return self._least(stalled) or newcomer

    def over_waiting(self, waiting: Iterable[Client]) -> Client | None:
        """Which request is refused, as too many wait for a handler: the latest of the network with most of them.

        ``waiting``: the oldest first. A host has every address of its IPv6 network, so that addresses are not counted.
        """
        untrusted = [one for one in waiting if not one.trusted]
        if len(untrusted) <= self._limits.waiting:
            return None
        count = Counter(one.group for one in untrusted)
        return max(reversed(untrusted), key=lambda one: count[one.group])

    def over_unsent(self, newest: Client, now: float) -> Client | None:
        """Which connection gives way to a response, as responses that wait for their clients are too large."""
        sending = [one for one in self._clients.values() if one.phase == "send" and one.output]
        if sum(len(one.output) for one in sending) <= self._limits.unsent_bytes:
            return None
        others = [one for one in sending if one is not newest]
        untrusted = [one for one in others if not one.trusted]
        moving = [one for one in untrusted if one.reads and now - one.progress < self._limits.stall_seconds]
        return (
            self._least([one for one in untrusted if one not in moving]) or self._least(moving) or self._least(others)
        )

    def over_held(self) -> Client | None:
        """Which held connection gives way to the latest one: the oldest of the group with most of them."""
        held = [one for one in self._clients.values() if one.phase == "hold"]
        if len(held) <= self._limits.held:
            return None
        groups = [one.group for one in held]
        return max(held, key=lambda one: groups.count(one.group))

    def protected(self) -> int:
        """How many are those of a token's holder."""
        return sum(one.trusted for one in self._clients.values())

    def _untrusted(self) -> list[Client]:
        """Those with a complete head and without a right token."""
        return [
            one for one in self._clients.values() if one.phase in ("body", "wait", "run", "send") and not one.trusted
        ]

    @staticmethod
    def _least(clients: list[Client]) -> Client | None:
        """The oldest that still sends its body, of the address with most; else who took nothing for longest."""
        bodies = [one for one in clients if one.phase == "body"]
        if bodies:
            groups = [one.group for one in bodies]
            return max(bodies, key=lambda one: groups.count(one.group))
        return min((one for one in clients if one.phase == "send"), key=lambda one: one.progress, default=None)


def _oldest(group: dict[Client, None]) -> Client:
    """The oldest that is silent, or else the oldest."""
    return next((one for one in group if one.phase == "silent"), None) or next(iter(group))
