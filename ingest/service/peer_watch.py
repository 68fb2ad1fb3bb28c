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
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from urllib.parse import urlsplit

import h11
import msgspec

from ingest.control.server import Process
from ingest.core.backoff import full_jitter
from ingest.decoding import decode_with
from ingest.http.server import DISPLACED
from ingest.metrics import Metrics
from ingest.observers import Observers

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
MOST_BYTES = 4096
"""Of an answer."""
UNRESOLVED = "-"
"""In place of the addresses of a name that has none."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A connection to a machine that has gone is given up after 25 s, and opened again once there is a process."""

_decoder = msgspec.json.Decoder(Process)


class Link:
    """An open answer of GET /process."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    async def closed(self) -> bool:
        """Wait for the end of the connection. Returns whether the peer's process may have ended with it."""
        last, read = b"", 0
        try:
            while data := await self._reader.read(MOST_BYTES):
                last, read = (last + data)[-len(DISPLACED) :], read + len(data)
                if read > MOST_BYTES:
                    return False  # no instance sends so much
        except ConnectionError:  # reset: the peer's kernel does that where it had not read everything
            return True
        except OSError as error:  # no answer to keep-alive probes: nothing is known of the process
            log.debug("the connection to %s failed: %s", self.process.instance, error)
            return False
        return last != DISPLACED

    async def aclose(self) -> None:
        """Close this end."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def open_link(address: str, port: int, seconds: float) -> Link:
    """Ask which process serves at an IP address. Raises ``OSError`` (time-outs, too), or ``ValueError``: its answer."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(address, port, limit=MOST_BYTES)
        try:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
            return Link(await _ask(address, port, reader, writer), reader, writer)
        except BaseException:
            writer.close()
            raise


async def _ask(address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Process:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_BYTES)
    name = f"[{address}]" if ":" in address else address  # an address is a Host that the peer always accepts
    request = h11.Request(method="GET", target="/process", headers=[("Host", f"{name}:{port}")])
    writer.write((parser.send(request) or b"") + (parser.send(h11.EndOfMessage()) or b""))
    line = bytearray()
    while b"\n" not in line:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise ValueError(f"not an HTTP answer: {error}") from error
        match event:
            case h11.Response(status_code=200):
                pass
            case h11.Response(status_code=status):
                raise ValueError(f"GET /process is answered with {status}")
            case h11.Data(data=data):
                line += data
            case h11.NEED_DATA:
                parser.receive_data(await reader.read(MOST_BYTES))
            case _:
                raise ValueError("the answer ended before its first line")
        if len(line) > MOST_BYTES:
            raise ValueError("the first line of the answer is too long")
    try:
        return decode_with(_decoder, bytes(line.partition(b"\n")[0]))
    except ValueError as error:
        raise ValueError(f"the answer names no process: {error}") from error


async def look_up(host: str, port: int) -> list[str]:
    """Return the IP addresses of a name. Raises ``OSError`` or ``UnicodeError``.

    On a thread of its own that nothing waits for: a resolver that hangs must take no thread of the loop's executor, nor
    keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(addresses)

    def run() -> None:
        addresses: list[str] = []
        problem: Exception | None = None
        try:
            addresses = [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except Exception as error:  # noqa: BLE001 (it is raised where the result is awaited)
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, addresses, problem)

    threading.Thread(target=run, name=f"look-up of {host}", daemon=True).start()
    return list(dict.fromkeys(await found))


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
                addresses = await look_up(host, port)
            except (OSError, UnicodeError) as error:  # UnicodeError: no name at all
                found.clear()
                self.states[url][UNRESOLVED] = _reason(error)
            else:
                self.states[url].pop(UNRESOLVED, None)
                found.clear()
                found.update(addresses[:MOST_ADDRESSES])
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
