"""Clients of the streams: the ordinary one of ``websockets``, and one that keeps no rule it is not told to keep."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from ingest.simulator.app import Simulator


@asynccontextmanager
async def connected(simulator: Simulator, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """An ordinary client."""
    options.setdefault("compression", None)
    url = f"{simulator.ready['ws_url']}{path}"
    async with connect(url, proxy=None, ping_interval=None, close_timeout=1, **options) as connection:
        yield connection


async def receive(connection: ClientConnection, count: int = 1) -> list[Any]:
    """The next messages, decoded."""
    async with asyncio.timeout(20):
        return [json.loads(await connection.recv()) for _ in range(count)]


async def ask(connection: ClientConnection, method: str, params: Any = None, request_id: Any = 1) -> Any:
    """The reply to one control message."""
    message = {"method": method, "id": request_id} | ({} if params is None else {"params": params})
    await connection.send(json.dumps(message))
    return (await receive(connection))[0]


class RawClient:
    """Sees every frame, and answers no ping unless told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ClientProtocol) -> None:
        self._reader = reader
        self._writer = writer
        self.protocol = protocol
        self.events: list[Any] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, simulator: Simulator, path: str) -> AsyncIterator[Self]:
        """Connect and shake hands; the first event is the response."""
        uri = parse_uri(f"{simulator.ready['ws_url']}{path}")
        reader, writer = await asyncio.open_connection(uri.host, uri.port)
        protocol = ClientProtocol(uri)
        client = cls(reader, writer, protocol)
        try:
            protocol.send_request(protocol.connect())
            client.write()
            yield client
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    def write(self) -> None:
        """Send what the protocol has to send."""
        self._writer.write(b"".join(self.protocol.data_to_send()))

    async def event(self) -> Response | Frame | None:
        """The next response or frame; None at the end of the connection."""
        async with asyncio.timeout(20):
            while not self.events:
                try:
                    data = await self._reader.read(65_536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self.protocol.receive_data(data)
                self.protocol.data_to_send()  # pongs and close frames stay unsent
                self.events += self.protocol.events_received()
        return self.events.pop(0)  # type: ignore[no-any-return]

    async def frame(self, opcode: Opcode) -> Frame:
        """The next frame of a kind."""
        while True:
            event = await self.event()
            assert event is not None, f"the connection ended before a {opcode.name}"
            if isinstance(event, Frame) and event.opcode is opcode:
                return event
