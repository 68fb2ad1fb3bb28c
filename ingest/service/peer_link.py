"""The client of GET /process: a connection to another instance's process that ends when the process does."""

import asyncio
import contextlib
import logging
import socket

import h11
import msgspec

from ingest.control.server import Process
from ingest.decoding import decode_with
from ingest.http.server import DISPLACED

log = logging.getLogger(__name__)

MOST_BYTES = 4096
"""Of an answer."""
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
