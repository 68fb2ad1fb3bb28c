"""A peer that plays a script on a real socket."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.frames import Frame, Opcode

from ingest.binance.transport import CloseInfo, Socket
from ingest.metrics import Metrics
from tests.harness.scripted_exchange import until

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection, after it has read the request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        self.reader = reader
        self.writer = writer
        found = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
        assert found is not None
        digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        self.request = request
        self.response = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )

    async def send(self, *parts: bytes) -> None:
        """One segment for each part."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.002)

    async def frame(self) -> tuple[Opcode, bytes]:
        """The next frame of the client; its payloads are short."""
        first, second = await self.reader.readexactly(2)
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(second & 0x7F)
        return Opcode(first & 0x0F), bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def wire(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=mask)


@asynccontextmanager
async def peer(script: Script, *, hang: bool = False) -> AsyncIterator[str]:
    """A server that follows the script and, a moment later, closes; with ``hang`` it never does."""
    running = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(writer)
        try:
            await script(Peer(reader, writer, await reader.readuntil(b"\r\n\r\n")))
            async with asyncio.timeout(None if hang else 0.2):
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            writer.close()
            running.discard(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream?x=1"
        await until(lambda: not running)


class Run:
    """One connection of the transport under test."""

    def __init__(self, socket: Socket, metrics: Metrics) -> None:
        self.socket = socket
        self.metrics = metrics
        self.reads: list[list[bytes]] = []

    @property
    def messages(self) -> list[bytes]:
        return [message for read in self.reads for message in read]

    async def pump(self) -> CloseInfo:
        return await asyncio.wait_for(self.socket.pump(self.reads.append), 10.0)


Opening = Callable[..., Awaitable[Run]]


SHORT, LONG = b'{"a":1}', b'{"b":"%s"}' % (b"x" * 300)
