"""TCP connections to a named host: its addresses are raced, failures are remembered, a proxy is used where one is set.

One unreachable address must never keep the others from being tried (RFC 8305, "Happy Eyeballs"). ``asyncio`` has the
algorithm, ``uvloop`` does not, and neither remembers what failed after the TCP handshake; so both transports and the
REST client get their sockets here.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ingest.binance.name_lookup import Found, NameLookup
from ingest.core.proxies import ProxyRules, ProxyServer, proxy_rules, unused_proxies
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

RACE_SECONDS = 0.25
"""The next address is tried as well when the one before has not answered for this long (RFC 8305, section 5)."""
PENALTY_SECONDS = 60.0
"""How long an address that failed after its TCP handshake is tried last."""


class Address(NamedTuple):
    """One resolved address of a host."""

    family: int
    sockaddr: Any

    def __str__(self) -> str:
        return str(self.sockaddr[0])


class Dialed(NamedTuple):
    """A connected, non-blocking socket and the address that it is connected to (the proxy's, through a proxy)."""

    sock: socket.socket
    address: Address

    def hang_up(self) -> None:
        """End the connection without closing the socket: a transport may own it by now."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


Connect = Callable[[Address], Awaitable[socket.socket]]
_Attempt = asyncio.Task[Any]
_FIRST = asyncio.FIRST_COMPLETED


class Dialer:
    """Opens TCP connections. ``blame`` and ``praise`` report what happened to a connection after it was opened."""

    def __init__(self, proxies: ProxyRules | None = None, *, race_seconds: float = RACE_SECONDS) -> None:
        self._proxies = proxies or ProxyRules()
        self._race_seconds = race_seconds
        self._names = NameLookup()
        self._last_until: dict[Address, float] = {}
        self._preferred: dict[tuple[str, int], Address] = {}

    async def connect(self, host: str, port: int) -> Dialed:
        """Connect to ``host``, through the proxy where the rules name one. Safe to cancel.

        Raises ``OSError``: ``socket.gaierror`` where the name does not resolve. The caller sets the time-out.
        """
        proxy = self._proxies.for_host(host)
        key = (proxy.host, proxy.port) if proxy is not None else (host, port)
        addresses = self._ordered(key, _addresses(host, await self._names.find(*key)))
        connect: Connect = _connect if proxy is None else _through(proxy, host, port)
        dialed = await race(addresses, connect, self._race_seconds)
        self._preferred[key] = dialed.address
        return dialed

    def blame(self, address: Address) -> None:
        """A connection to this address failed before it was of any use: try the others first for a while."""
        self._last_until[address] = asyncio.get_running_loop().time() + PENALTY_SECONDS

    def praise(self, address: Address) -> None:
        """A connection to this address works."""
        self._last_until.pop(address, None)

    def _ordered(self, key: tuple[str, int], addresses: Sequence[Address]) -> list[Address]:
        now = asyncio.get_running_loop().time()
        self._last_until = {address: until for address, until in self._last_until.items() if until > now}
        preferred = self._preferred.get(key)
        return sorted(
            _interleaved(addresses), key=lambda address: (self._last_until.get(address, 0.0), address != preferred)
        )


def make_dialer(settings: BinanceSettings, environment: Mapping[str, str]) -> Dialer:
    """Build the dialer that the settings describe, and say which proxy it uses or which ones it does not."""
    rules = proxy_rules(settings.proxy, environment)
    if rules.proxy is not None:
        log.info("the exchange is reached through %s", rules.proxy, extra={"proxy": str(rules.proxy)})
    elif unused := unused_proxies(settings.proxy, environment):
        log.warning(
            "%s is set and not used: set K2_BINANCE_PROXY to reach the exchange through a proxy", ", ".join(unused),
            extra={"variables": unused},
        )  # fmt: skip
    return Dialer(rules)


async def race(addresses: Sequence[Address], connect: Connect, delay: float) -> Dialed:
    """Connect to the addresses in order, each ``delay`` seconds after the one before or when that has failed.

    The first connection is returned, the other attempts are cancelled. Raises ``OSError`` when all have failed.
    """
    waiting = list(reversed(addresses))
    attempts: dict[_Attempt, Address] = {}
    winner: _Attempt | None = None
    try:
        async with asyncio.TaskGroup() as group:
            while winner is None:
                if waiting:
                    address = waiting.pop()
                    attempts[group.create_task(_outcome(connect, address))] = address
                running = [attempt for attempt in attempts if not attempt.done()]
                if running:
                    await asyncio.wait(running, timeout=delay if waiting else None, return_when=_FIRST)
                winner = next((attempt for attempt in attempts if _connected(attempt)), None)
                if not waiting and all(attempt.done() for attempt in attempts):
                    break
            for attempt in attempts:
                attempt.cancel()
    finally:
        for attempt in attempts:
            if attempt is not winner and _connected(attempt):
                attempt.result().close()
    if winner is None:
        raise _all_failed([(address, attempt.result()) for attempt, address in attempts.items()])
    return Dialed(winner.result(), attempts[winner])


async def _outcome(connect: Connect, address: Address) -> Any:
    """Return the socket or the ``OSError``: an exception would end the other attempts."""
    try:
        return await connect(address)
    except OSError as error:
        return error


def _connected(attempt: _Attempt) -> bool:
    return (
        attempt.done()
        and not attempt.cancelled()
        and attempt.exception() is None
        and isinstance(attempt.result(), socket.socket)
    )


def _all_failed(errors: Sequence[tuple[Address, OSError]]) -> OSError:
    if len(errors) == 1:
        return errors[0][1]
    text = "; ".join(f"{address}: {error}" for address, error in errors)
    kind = TimeoutError if all(isinstance(error, TimeoutError) for _, error in errors) else OSError
    return kind(f"none of {len(errors)} addresses answers ({text})"[:300])


def _addresses(host: str, found: Found) -> list[Address]:
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
    return list(dict.fromkeys(addresses))


def _interleaved(addresses: Sequence[Address]) -> Iterator[Address]:
    """Alternate the address families, beginning with the resolver's favourite."""
    families = list(dict.fromkeys(address.family for address in addresses))
    columns = [[address for address in addresses if address.family == family] for family in families]
    return (address for row in itertools.zip_longest(*columns) for address in row if address is not None)


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0.0)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _through(proxy: ProxyServer, host: str, port: int) -> Connect:
    """Make a tunnel to ``host`` through one address of the proxy."""
    # Imported only where a proxy is set.
    from python_socks import ProxyError, ProxyType
    from python_socks.async_.asyncio import Proxy

    async def connect(address: Address) -> socket.socket:
        client = Proxy(
            ProxyType.HTTP if proxy.scheme == "http" else ProxyType.SOCKS5,
            host=str(address),
            port=proxy.port,
            username=proxy.username,
            password=proxy.password,
            rdns=True,
        )
        try:
            return await client.connect(host, port)
        except (ProxyError, TimeoutError) as error:
            raise ConnectionRefusedError(f"proxy {proxy}: {error}") from error

    return connect
