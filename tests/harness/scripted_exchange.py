"""A market stream server that does what a test tells it, wrong things included. Real sockets, no model of a market."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ingest.core.errors import Reject
from ingest.core.trade import Trade

MOST_AT_ONCE = 50.0
"""So many trades of a market are sent before the loop has its turn."""


def frame(symbol: str, trade_id: int, **changes: Any) -> str:
    fields = {
        "e": "trade", "E": 1_723_161_254_123_456, "s": symbol, "t": trade_id, "p": "1.00000000", "q": "2.00000000",
        "T": 1_723_161_254_122_000 + trade_id, "m": True, "M": True, **changes,
    }  # fmt: skip
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": fields}, separators=(",", ":"))


class Client:
    """One connection as the server sees it."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self.socket = socket
        self.number = number
        url = urlsplit(socket.request.path if socket.request else "")
        query = parse_qs(url.query)
        self.path = url.path
        self.query = query
        self.in_url = [s for s in query.get("streams", [""])[0].split("/") if s]
        self.streams = set(self.in_url)
        self.messages: list[dict[str, Any]] = []
        self.message_sizes: list[int] = []
        self.closed_with: tuple[int | None, str | None] = (None, None)
        self.muted: set[str] = set()
        """Streams that deliver nothing although subscribed; ``*`` for all."""

    def carries(self, symbol: str) -> bool:
        stream = f"{symbol.lower()}@trade"
        return stream in self.streams and stream not in self.muted and "*" not in self.muted


class ScriptedExchange:
    """Trades go out by ``trade``; everything else is by attributes that a test sets."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.url = ""
        self.attempts = 0
        self.paths: list[tuple[str, list[str]]] = []
        """Of every handshake: the path and the streams named in the URL."""
        self.refuse: HTTPStatus | None = None
        self.refuse_headers: dict[str, str] = {}
        self.on_open: Callable[[Client], Awaitable[None]] | None = None
        self.reply: Callable[[Client, dict[str, Any]], str | None] = lambda _client, message: json.dumps(
            {"result": None, "id": message["id"]}
        )
        self.next_ids: Counter[str] = Counter()
        self.server: Server | None = None

    @property
    def live(self) -> list[Client]:
        return [client for client in self.clients if client.socket.state.name == "OPEN"]

    async def handle(self, socket: ServerConnection) -> None:
        client = Client(socket, len(self.clients))
        self.clients.append(client)
        try:
            if self.on_open is not None:
                await self.on_open(client)
            async for text in socket:
                message = json.loads(text)
                client.messages.append(message)
                client.message_sizes.append(len(text))
                reply = self.reply(client, message)
                if reply is not None:
                    if "error" not in reply:
                        change = (
                            client.streams.update
                            if message["method"] == "SUBSCRIBE"
                            else (client.streams.difference_update)
                        )
                        change(message["params"])
                    await socket.send(reply)
        except ConnectionClosed:
            pass
        finally:
            client.closed_with = (socket.close_code, socket.close_reason)

    def refusal(self, socket: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        url = urlsplit(request.path)
        self.paths.append((url.path, [s for s in parse_qs(url.query).get("streams", [""])[0].split("/") if s]))
        if self.refuse is None:
            return None
        response = socket.respond(self.refuse, "<html>no</html>")
        for name, value in self.refuse_headers.items():
            response.headers[name] = value
        return response

    async def send(self, client: Client, text: str | bytes) -> None:
        with suppress(ConnectionClosed):
            await client.socket.send(text)

    async def trade(self, symbol: str, count: int = 1) -> None:
        """Publish the next trades of a symbol to everyone who is subscribed."""
        for _ in range(count):
            trade_id = self.next_ids[symbol] = self.next_ids[symbol] + 1
            for client in self.live:
                if client.carries(symbol):
                    await self.send(client, frame(symbol, trade_id))

    @asynccontextmanager
    async def market(self, symbols: list[str], rate: float) -> AsyncIterator[None]:
        """Trade meanwhile, each symbol in turn; no trade is left half sent.

        At most ``rate`` trades per second in all: what a busy machine has missed is not made up for, or it never would.
        """
        closing = asyncio.Event()

        async def run() -> None:
            loop = asyncio.get_running_loop()
            last, due, sent = loop.time(), 0.0, 0
            while not closing.is_set():
                now = loop.time()
                due, last = min(due + (now - last) * rate, MOST_AT_ONCE), now
                while due >= 1.0 and not closing.is_set():
                    await self.trade(symbols[sent % len(symbols)])
                    sent, due = sent + 1, due - 1.0
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            try:
                yield
            finally:
                closing.set()


@asynccontextmanager
async def scripted_exchange(**listen: Any) -> AsyncIterator[ScriptedExchange]:
    exchange = ScriptedExchange()
    options = {"ping_interval": None, "close_timeout": 0.2, "compression": None, "process_request": exchange.refusal}
    where = (None, None) if "sock" in listen else ("127.0.0.1", 0)
    async with serve(exchange.handle, *where, **{**options, **listen}) as server:
        exchange.server = server
        scheme = "wss" if listen.get("ssl") else "ws"
        exchange.url = f"{scheme}://localhost:{next(iter(server.sockets)).getsockname()[1]}"
        yield exchange


class Collector:
    """A feed sink that keeps everything."""

    def __init__(self) -> None:
        self.trades: list[tuple[str, Trade]] = []
        self.batches: list[int] = []
        self.rejected: list[tuple[str, bytes, Reject]] = []

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        self.batches.append(len(trades))
        self.trades.extend((connection, trade) for trade in trades)

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        self.rejected.append((connection, raw, error))

    def ids(self, symbol: str) -> set[int]:
        return {trade.trade_id for _, trade in self.trades if trade.symbol == symbol}

    def missing(self, symbol: str) -> list[int]:
        """Ids between the first and the last received that no connection delivered."""
        ids = self.ids(symbol)
        return sorted(set(range(min(ids), max(ids) + 1)) - ids) if ids else []


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for something to become true; ``TimeoutError`` otherwise. The time is patience, not a promise."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # any condition: there is no event to wait for
            await asyncio.sleep(0.01)
