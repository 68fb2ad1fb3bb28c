"""A relay of WebSockets that can swallow the data while it goes on answering pings."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class Relay:
    """Between a client and an exchange; ``silent`` swallows what the exchange sends."""

    def __init__(self, exchange: str) -> None:
        self.url = ""
        self.silent = threading.Event()
        self._exchange = exchange

    async def serve(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Relay until told to end."""
        async with serve(self._client, "127.0.0.1", 0, compression=None) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()
            await ended.wait()

    async def _client(self, client: ServerConnection) -> None:
        path = client.request.path if client.request is not None else "/"
        with contextlib.suppress(ConnectionClosed, OSError):
            # Neither task ends with an error: the end of one connection ends the other.
            url = self._exchange + path
            async with connect(url, compression=None, proxy=None) as exchange, asyncio.TaskGroup() as group:
                group.create_task(self._forward(client, exchange))
                group.create_task(self._deliver(exchange, client))

    @staticmethod
    async def _forward(client: ServerConnection, exchange: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                await exchange.send(message)
        await exchange.close()

    async def _deliver(self, exchange: ClientConnection, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in exchange:
                if not self.silent.is_set():
                    await client.send(message)
        await client.close()


@contextlib.contextmanager
def relay(exchange: str) -> Iterator[Relay]:
    """A relay on a thread of its own."""
    one, started, loop = Relay(exchange), threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(one.serve(started, ended),), daemon=True)
    thread.start()
    if not started.wait(30):
        raise TimeoutError("the relay did not start")
    try:
        yield one
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
