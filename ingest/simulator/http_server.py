"""HTTP/1.1 for REST and admin: h11 over asyncio, one handler call per request, keep-alive."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import h11

from ingest.simulator.rest import Response

MOST_BODY = 2**20

Handler = Callable[[str, str, dict[str, str], bytes, str], Response | None]
"""Method, target, headers by lower-case name, body, address of the client; None: there will be no answer."""


class HttpServer:
    """One listening socket and its connections.

    ``guarded``: refuse what a browser sends for another site: cross-origin requests, and names that are not local
    (DNS rebinding).
    """

    def __init__(self, handler: Handler, *, guarded: bool = False) -> None:
        self._handler = _guarded(handler) if guarded else handler
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen; returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._handler, self._connections), host, port, ssl=tls, reuse_address=True
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end all connections, those included that wait for an answer."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)


def _guarded(handler: Handler) -> Handler:
    def handle(method: str, target: str, headers: dict[str, str], body: bytes, ip: str) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not _is_local(host):
            return _refusal(421, f"the host name {host[:100]!r} is not served here")
        same = origin is None or origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
        if not same or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refusal(403, "cross-origin requests are refused")
        return handler(method, target, headers, body, ip)

    return handle


def _is_local(host: str) -> bool:
    """An address, ``localhost``, or a name without a dot: no public web page has such a name."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        name = host.partition(":")[0].rstrip(".")
        return "." not in name or name.endswith(".localhost")
    return True


def _refusal(status: int, text: str) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps({"error": text}).encode())


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, connections: set[_Connection]) -> None:
        self._handler = handler
        self._all = connections
        self._h11 = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._ip = ""
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._hung = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ip = str(transport.get_extra_info("peername")[0])
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._hung:
            return
        self._h11.receive_data(data)
        try:
            self._step()
        except h11.RemoteProtocolError as error:
            self._answer(Response(error.error_status_hint, [], b""), close=True)

    def _step(self) -> None:
        while not self._hung and self._transport is not None and not self._transport.is_closing():
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MOST_BODY:
                    self._answer(Response(413, [], b""), close=True)
            elif isinstance(event, h11.EndOfMessage):
                self._handle()
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
            else:
                return  # needs data, or is paused until the answer is out

    def _handle(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers}
        method, target = request.method.decode("ascii"), request.target.decode("ascii", "replace")
        response = self._handler(method, target, headers, bytes(self._body), self._ip)
        if response is None:
            self._hung = True
            return
        self._answer(response, close=False)

    def _answer(self, response: Response, *, close: bool) -> None:
        transport = self._transport
        if transport is None or self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        headers = [*response.headers, ("Date", email.utils.formatdate(usegmt=True))]
        headers.append(("Content-Length", str(len(response.body))))
        if close:
            headers.append(("Connection", "close"))
        start = h11.Response(status_code=response.status, headers=headers)
        parts = (start, h11.Data(data=response.body), h11.EndOfMessage())
        transport.write(b"".join(self._h11.send(part) or b"" for part in parts))
        if self._h11.states == {h11.SERVER: h11.DONE, h11.CLIENT: h11.DONE}:
            self._h11.start_next_cycle()
        else:
            transport.close()
