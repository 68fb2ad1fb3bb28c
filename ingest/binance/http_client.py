"""The one factory of HTTP clients for the exchange: the same TLS context, proxy and addresses as the streams."""

import asyncio
import ssl
from collections.abc import Iterable

import anyio
import anyio.abc
import httpcore2
import httpx2
from httpcore2._backends.anyio import AnyIOStream

from ingest.binance.dialer import Address, Dialer

LIMITS = httpx2.Limits(max_connections=24, max_keepalive_connections=8, keepalive_expiry=30.0)
HEADERS = {
    "X-MBX-TIME-UNIT": "MICROSECOND",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a body limit means something only before inflation
}


class DialerBackend(httpcore2.AsyncNetworkBackend):
    """Gives the HTTP client the sockets of a ``Dialer``."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._latest: dict[str, Address] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See ``httpcore2.AsyncNetworkBackend``. The local address and the socket options are the system's."""
        del local_address, socket_options
        try:
            async with asyncio.timeout(timeout):
                dialed = await self._dialer.connect(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host}:{port}: {error}" if str(error) else f"{host}:{port}") from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        self._latest[host] = dialed.address
        return AnyIOStream(await anyio.abc.SocketStream.from_socket(dialed.sock))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore2's interface
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: the exchange is reached by TCP."""
        del timeout, socket_options
        raise httpcore2.ConnectError(f"{path}: Unix sockets are not used")

    async def sleep(self, seconds: float) -> None:
        """See ``httpcore2.AsyncNetworkBackend``."""
        await anyio.sleep(seconds)

    def blame(self, host: str) -> None:
        """A request to this host failed without an answer: prefer its other addresses for a while."""
        address = self._latest.get(host)
        if address is not None:
            self._dialer.blame(address)


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's transport on a network backend of our own, for which it has no parameter."""

    def __init__(self, backend: DialerBackend, context: ssl.SSLContext | None) -> None:
        # verify=False without a context: only plain addresses are asked then (see RestClient).
        super().__init__(verify=context if context is not None else False, trust_env=False, limits=LIMITS)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=LIMITS.max_connections,
            max_keepalive_connections=LIMITS.max_keepalive_connections,
            keepalive_expiry=LIMITS.keepalive_expiry,
            network_backend=backend,
        )


def http_client(
    backend: DialerBackend, *, ssl_context: ssl.SSLContext | None, timeout_seconds: float
) -> httpx2.AsyncClient:
    """Build the client: nothing from the environment, no redirect followed, one time-out for each step."""
    return httpx2.AsyncClient(
        transport=_Transport(backend, ssl_context),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(timeout_seconds),
        headers=HEADERS,
    )
