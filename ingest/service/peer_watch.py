"""Learns at once that the process of another instance has ended, so that a standby need not wait a whole lease.

It holds a response of each peer open (GET /process of its status port). The operating system of the peer closes that
connection when the process ends, however it ends. A connection can also end while the process goes on; so the peer is
called again, and its end is reported only if the same process does not answer. After such a report a standby takes over
through the transactional id, as always (decision 2). A machine or a network that fails closes no connection; the lease
covers those.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from urllib.parse import urlsplit

from ingest.binance.name_lookup import NameLookup
from ingest.control.server import Process
from ingest.core.backoff import full_jitter
from ingest.metrics import Metrics
from ingest.observers import Observers
from ingest.service.peer_link import Link, open_link

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
"""For connecting and the first line of the answer."""
CONFIRM_SECONDS = 0.3
"""For all calls after a connection has ended: a process that is alive answers much sooner, from its own thread."""
PAUSE_SECONDS = 0.02
"""Between two such calls."""
RETRY_SECONDS = 0.5
RETRY_AT_MOST_SECONDS = 5.0
LOOK_UP_SECONDS = 2.0
"""Between two look-ups of a peer's name."""
MOST_ADDRESSES = 8
"""Of one name."""
UNRESOLVED = "-"
"""In place of the addresses of a name that has none."""


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


class PeerWatch:
    """Watches the processes of the other instances of this shard."""

    def __init__(
        self,
        peers: Sequence[str],
        *,
        instance: str,
        metrics: Metrics,
        on_ended: Callable[[str], None],
        uniform: Callable[[float, float], float],
    ) -> None:
        """``peers``: status addresses, this instance's own may be among them. ``on_ended`` gets an instance's name."""
        self._peers = peers
        self._instance = instance
        self._metrics = metrics
        self._on_ended = on_ended
        self._uniform = uniform
        self._observers = Observers(metrics)
        self._names = NameLookup()
        self.states: dict[str, dict[str, str]] = {url: {} for url in peers}
        """Peer -> address -> what is known of it, for ``/status``."""
        self._connected: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Watch until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for url in self._peers:
                group.create_task(self._follow(url, group), name=f"peer {url}")

    async def _follow(self, url: str, group: asyncio.TaskGroup) -> None:
        """Watch every address of a peer's name: during an update it has that of the next process, too."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        found: set[str] = set()
        while True:
            try:
                answers = await self._names.find(host, port)
            except (OSError, UnicodeError) as error:  # UnicodeError: no name at all
                found.clear()
                self.states[url][UNRESOLVED] = _reason(error)
            else:
                self.states[url].pop(UNRESOLVED, None)
                found.clear()
                found.update(list(dict.fromkeys(str(answer[4][0]) for answer in answers))[:MOST_ADDRESSES])
                for address in found - self.states[url].keys():
                    self.states[url][address] = "connecting"
                    group.create_task(self._watch(url, address, port, found), name=f"peer {url} {address}")
            await asyncio.sleep(LOOK_UP_SECONDS)

    async def _watch(self, url: str, address: str, port: int, found: Collection[str]) -> None:
        """Watch one address for as long as it is found, and an open connection to its end."""
        waits = self._waits()
        while address in found:
            pause = next(waits)
            with self._observers.guard("peers"):
                link = await self._open(url, address, port)
                if link is not None:
                    waits = self._waits()
                    pause = await self._hold(url, address, port, link)
            await asyncio.sleep(pause)
        self._connected.discard((url, address))
        del self.states[url][address]

    async def _open(self, url: str, address: str, port: int) -> Link | None:
        try:
            return await open_link(address, port, ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            self._show(url, address, f"not reached: {_reason(error)}")
            return None

    async def _hold(self, url: str, address: str, port: int, link: Link) -> float:
        """Wait for the end of a connection, and report it if the process has ended. Returns seconds to wait next."""
        name = link.process.instance
        async with contextlib.aclosing(link):
            if name == self._instance:
                self._show(url, address, "this instance")
                return RETRY_AT_MOST_SECONDS
            self._show(url, address, name, connected=True)
            ended = await link.closed()
        self._show(url, address, f"the connection to {name} has ended")
        if ended and not await self._same(address, port, link.process):
            self._show(url, address, f"{name} has ended")
            self._on_ended(name)
        return self._uniform(0.0, RETRY_SECONDS)

    async def _same(self, address: str, port: int, process: Process) -> bool:
        """Whether that process still answers: it is called until it does, or is replaced, or nothing listens there."""
        loop = asyncio.get_running_loop()
        until = loop.time() + CONFIRM_SECONDS
        while True:
            try:
                link = await open_link(address, port, max(0.01, until - loop.time()))
            except (OSError, ValueError) as error:
                if isinstance(error, ConnectionRefusedError) or loop.time() >= until:
                    log.info("the process of %s does not answer: %s", process.instance, _reason(error))
                    return False
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            async with contextlib.aclosing(link):
                return link.process == process

    def _waits(self) -> Iterator[float]:
        return full_jitter(initial=RETRY_SECONDS, maximum=RETRY_AT_MOST_SECONDS, uniform=self._uniform)

    def _show(self, url: str, address: str, state: str, *, connected: bool = False) -> None:
        self.states[url][address] = state
        if connected:
            self._connected.add((url, address))
        else:
            self._connected.discard((url, address))
        self._metrics.peers_connected.set(len(self._connected))
