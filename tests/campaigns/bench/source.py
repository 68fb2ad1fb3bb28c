"""An exchange that does nothing but send fast: prebuilt frames over real sockets, from a process of its own.

It is no model of a market (``ingest.simulator`` is): it answers what the service asks at its start, sends trades as
fast as asked, or as the sockets take them, and measures how fast its pings are answered. Every connection gets the
frames of the symbols that it has subscribed to. What is skipped is sent to nobody and can be read as history. Control:
``POST /bench`` and ``GET /bench``, on a port without TLS.
"""

import argparse
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from ingest.simulator.tls import server_context
from tests.campaigns.bench.frames import AggregatedMarket, Market, assets
from tests.campaigns.bench.frames import symbols as names_of
from tests.campaigns.bench.past import PAGE, Past

TICK_SECONDS = 0.001
PING_SECONDS = 0.1
PONG_SECONDS = 20.0
"""So long is waited for the last pongs of a run; the exchange itself waits for a minute."""
CHUNK_BYTES = 1 << 18


class Subscriber:
    """One connection, served by a thread of its own."""

    def __init__(self, connection: socket.socket, index_of: dict[str, int]) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.streams: frozenset[int] = frozenset()
        self.open = False
        self.pongs: list[float] = []
        self.pinged_at: dict[bytes, float] = {}
        """Pings without an answer so far."""
        self._index_of = index_of
        self._protocol = ServerProtocol(max_size=None)
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Handshake, requests, pings and the closing handshake, until the peer has gone."""
        try:
            while data := self.socket.recv(65_536):
                with self._lock:
                    self._protocol.receive_data(data)
                    events = self._protocol.events_received()
                for event in events:
                    self._take(event)
                self._drain()
                if self._protocol.close_expected():
                    break
        except OSError:
            pass
        finally:
            self.open = False
            self.socket.close()

    def _take(self, event: object) -> None:
        if isinstance(event, Request):
            with self._lock:
                self._protocol.send_response(self._protocol.accept(event))
            query = parse_qs(urlsplit(event.path).query)
            self._subscribe(unquote(query.get("streams", [""])[0]).split("/"))
            self._drain()
            self.open = True
        elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            asked = json.loads(bytes(event.data))
            if asked["method"] == "SUBSCRIBE":
                self._subscribe(asked["params"])
            with self._lock:
                self._protocol.send_text(json.dumps({"result": None, "id": asked["id"]}).encode())
        elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
            sent = self.pinged_at.pop(bytes(event.data), None)
            if sent is not None:
                self.pongs.append(time.perf_counter() - sent)

    def _subscribe(self, streams: Iterable[str]) -> None:
        names = (stream.partition("@")[0].upper() for stream in streams)
        self.streams |= {self._index_of[name] for name in names if name in self._index_of}

    def _drain(self) -> None:
        with self._lock:
            for data in self._protocol.data_to_send():
                if data:
                    self.socket.sendall(data)

    def send(self, data: bytes | memoryview) -> None:
        """Whole frames, past the protocol: it keeps no state for what is sent. An end of the peer is its own affair."""
        try:
            with self._lock:
                self.socket.sendall(data)
        except OSError:
            self.open = False

    def ping(self, number: int) -> None:
        payload = b"%d" % number
        self.pinged_at[payload] = time.perf_counter()
        try:
            with self._lock:
                self._protocol.send_ping(payload)
        except InvalidState:
            return
        self._drain()

    @property
    def usable(self) -> bool:
        return self.open and self._protocol.state is State.OPEN


@dataclass
class Run:
    """One order: so many trades, at a rate or as fast as the sockets take them."""

    trades: int
    rate: float | None
    sent: int = 0
    state: Literal["preparing", "sending", "done"] = "preparing"
    ordered: float = field(default_factory=time.perf_counter)
    began: float = 0.0
    prepared_seconds: float = 0.0
    """From the order to the first trade."""
    seconds: float = 0.0
    late_seconds: float = 0.0
    """The most that the source itself was behind its own schedule."""
    pongs: list[float] = field(default_factory=list)
    unanswered: int = 0


class Source:
    """Listens, and carries out one order at a time."""

    def __init__(self, symbols: int, context: ssl.SSLContext | None, *, aggregated: bool = False) -> None:
        self.market = (AggregatedMarket if aggregated else Market)(names_of(symbols))
        self.past = Past()
        self._index_of = {name: index for index, name in enumerate(self.market.names)}
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.subscribers: list[Subscriber] = []
        self.run: Run | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self._context is not None:
            try:
                connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        subscriber = Subscriber(connection, self._index_of)
        self.subscribers.append(subscriber)
        subscriber.serve()
        self.subscribers.remove(subscriber)

    def order(self, trades: int, rate: float | None, batch: int) -> Run:
        """Begin to send; ``batch`` trades at least go into one write at a fixed rate."""
        run = self.run = Run(trades, rate)
        target = self._at_rate if rate else self._flat_out
        threading.Thread(target=target, args=(run, batch), daemon=True).start()
        return run

    def skip(self, trades: int) -> None:
        """So many trades happen and nobody is told."""
        self.past.keep(self.market.skip(trades, time.time_ns() // 1000))

    def _live(self) -> list[Subscriber]:
        return [subscriber for subscriber in self.subscribers if subscriber.usable]

    def _flat_out(self, run: Run, _batch: int) -> None:
        frames = self.market.take(run.trades, time.time_ns() // 1000)
        subscribers = self._live()
        parts = {s.streams: _joined(frames, s.streams, len(self.market.names)) for s in subscribers}
        del frames
        self._begin(run)

        def pour(subscriber: Subscriber) -> None:
            view = memoryview(parts[subscriber.streams])
            for start in range(0, len(view), CHUNK_BYTES):
                subscriber.send(view[start : start + CHUNK_BYTES])

        threads = [threading.Thread(target=pour, args=(subscriber,)) for subscriber in subscribers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.sent = run.trades
        self._end(run)

    def _at_rate(self, run: Run, batch: int) -> None:
        rate = run.rate or 1.0
        subscribers = self._live()
        self._begin(run)
        next_ping = PING_SECONDS
        number = 0
        while run.sent < run.trades:
            elapsed = time.perf_counter() - run.began
            due = min(run.trades, int(elapsed * rate)) - run.sent
            if due >= min(batch, run.trades - run.sent):
                run.late_seconds = max(run.late_seconds, elapsed - (run.sent + batch) / rate)
                self._broadcast(subscribers, self.market.take(due, time.time_ns() // 1000))
                run.sent += due
            if elapsed >= next_ping:
                next_ping += PING_SECONDS
                number += 1
                for subscriber in subscribers:
                    subscriber.ping(number)
            time.sleep(TICK_SECONDS)
        run.seconds = time.perf_counter() - run.began
        deadline = time.perf_counter() + PONG_SECONDS
        while any(s.pinged_at for s in subscribers if s.usable) and time.perf_counter() < deadline:
            time.sleep(TICK_SECONDS)
        self._end(run)

    def _broadcast(self, subscribers: list[Subscriber], frames: list[tuple[int, bytes]]) -> None:
        joined: dict[frozenset[int], bytes] = {}
        for subscriber in subscribers:
            data = joined.get(subscriber.streams)
            if data is None:
                data = joined[subscriber.streams] = _joined(frames, subscriber.streams, len(self.market.names))
            if data:
                subscriber.send(data)

    def _begin(self, run: Run) -> None:
        for subscriber in self.subscribers:
            subscriber.pongs.clear()
            subscriber.pinged_at.clear()
        run.began = time.perf_counter()
        run.prepared_seconds = run.began - run.ordered
        run.state = "sending"

    def _end(self, run: Run) -> None:
        run.seconds = run.seconds or time.perf_counter() - run.began
        run.unanswered = sum(len(subscriber.pinged_at) for subscriber in self.subscribers)
        run.pongs = sorted(latency for subscriber in self.subscribers for latency in subscriber.pongs)
        run.state = "done"

    # What the service asks

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """The JSON of a REST path, or what is to become of it; None where there is none."""
        wanted = set(json.loads(query["symbols"][0])) if "symbols" in query else None
        listed = [name for name in self.market.names if wanted is None or name in wanted]
        if path == "/api/v3/exchangeInfo":
            pairs = assets(listed)
            return {
                "symbols": [
                    {
                        "symbol": name, "status": "TRADING", "baseAsset": pairs[name][0], "quoteAsset": pairs[name][1],
                        "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.00000001"}],
                    }
                    for name in listed
                ],
                "rateLimits": [
                    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
                ],
            }  # fmt: skip
        if path == "/api/v3/ticker/24hr":
            return [{"symbol": name, "lastId": self.market.next_ids[self._index_of[name]] - 1} for name in listed]
        if path == "/api/v3/historicalTrades":
            index = self._index_of[query["symbol"][0]]
            return self.past.page(index, int(query["fromId"][0]), int(query.get("limit", [str(PAGE)])[0]))
        if path == "/bench":
            run = self.run
            return {
                "connections": len(self._live()),
                "streams": sum(len(subscriber.streams) for subscriber in self._live()),
                "last_ids": dict(zip(self.market.names, (i - 1 for i in self.market.next_ids), strict=True)),
                "run": vars(run) if run is not None else None,
                "history": {"pages": self.past.pages, "trades": self.past.trades},
            }
        return None


def _joined(frames: list[tuple[int, bytes]], streams: frozenset[int], of: int) -> bytes:
    if len(streams) == of:
        return b"".join([data for _, data in frames])
    return b"".join([data for index, data in frames if index in streams])


def _handler(source: Source) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            self._reply(source.answer(url.path, parse_qs(url.query)))

        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "skip" in order:
                source.skip(int(order["skip"]))
            else:
                source.order(int(order["trades"]), order.get("rate"), int(order.get("batch", 1)))
            self._reply({})

        def _reply(self, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=300)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--tls", type=Path, help="folder to write ca.pem into; serve TLS with a certificate by it")
    parser.add_argument("--aggregated", action="store_true", help="aggTrade events in place of trade")
    options = parser.parse_args()
    context = server_context(options.tls, "localhost")[0] if options.tls else None
    source = Source(options.symbols, context, aggregated=options.aggregated)
    rest = ThreadingHTTPServer(("127.0.0.1", 0), _handler(source))
    control = ThreadingHTTPServer(("127.0.0.1", 0), _handler(source))
    if context is not None:
        rest.socket = context.wrap_socket(rest.socket, server_side=True)
    s = "s" if context is not None else ""
    ready = {
        "pid": os.getpid(),
        "ws_url": f"ws{s}://127.0.0.1:{source.port}",
        "rest_url": f"http{s}://127.0.0.1:{rest.server_address[1]}",
        "control_url": f"http://127.0.0.1:{control.server_address[1]}",
    }
    threading.Thread(target=control.serve_forever, daemon=True).start()
    partial = options.ready_file.with_suffix(".partial")
    partial.write_text(json.dumps(ready))
    partial.replace(options.ready_file)
    rest.serve_forever()


if __name__ == "__main__":
    main()
