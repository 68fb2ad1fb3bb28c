"""Several addresses of one name, some of them dead: on both event loops, both transports and REST."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx2
import pytest
import uvloop

from ingest.binance.dialer import Address, Dialer, race
from ingest.binance.http_client import DialerBackend, http_client
from ingest.binance.transport import OpenFailed, opener
from ingest.core.proxies import ProxyRules, ProxyServer, parse_proxy, proxy_rules, unused_proxies
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_exchange import scripted_exchange, until
from tests.harness.scripted_http import Answer, scripted_http

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
TRANSPORTS = pytest.mark.parametrize("transport", ["websockets", "picows"])
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(loop: Loop, test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(test, 30.0))


@contextlib.contextmanager
def black_hole(port: int, host: str = "127.0.0.2") -> Iterator[None]:
    """Make connections to ``host:port`` hang: a listener whose backlog is full drops what comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect((host, port))
        yield


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let ``exchange.test`` resolve to these addresses, in this order."""
    real = socket.getaddrinfo

    def set_addresses(*hosts: str) -> None:
        def resolve(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
            if host != "exchange.test":
                return real(host, port, *rest, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return set_addresses


@LOOPS
@TRANSPORTS
def test_a_stream_opens_although_the_first_address_drops_packets(
    loop: Loop, transport: Any, name: Callable[..., None]
) -> None:
    async def test() -> None:
        async with scripted_exchange() as exchange:
            port = int(exchange.url.rpartition(":")[2])
            name("127.0.0.2", "127.0.0.1")
            with black_hole(port):
                client = opener(settings(transport), Metrics(process=False), None)
                (await client.open(f"ws://exchange.test:{port}/stream?streams=a@trade")).abort()
                await until(lambda: not exchange.live)

    run(loop, test())


@LOOPS
@TRANSPORTS
def test_an_address_that_accepts_and_never_answers_is_tried_last_afterwards(
    loop: Loop, transport: Any, name: Callable[..., None]
) -> None:
    async def test() -> None:
        async with scripted_exchange() as exchange:
            port = int(exchange.url.rpartition(":")[2])
            name("127.0.0.2", "127.0.0.1")
            with socket.socket() as mute:
                mute.bind(("127.0.0.2", port))
                mute.listen()
                client = opener(settings(transport, open_timeout_seconds=0.5), Metrics(process=False), None)
                url = f"ws://exchange.test:{port}/stream?streams=a@trade"
                with pytest.raises(OpenFailed):
                    await client.open(url)
                (await client.open(url)).abort()
                await until(lambda: not exchange.live)

    run(loop, test())


@LOOPS
def test_rest_gets_through_and_remembers_an_address_that_never_answers(loop: Loop, name: Callable[..., None]) -> None:
    async def test() -> None:
        async with scripted_http(lambda _request: Answer(b"{}")) as server:
            port = int(server.url.rpartition(":")[2])
            name("127.0.0.2", "127.0.0.1")
            with black_hole(port):
                async with http_client(DialerBackend(Dialer()), ssl_context=None, timeout_seconds=5.0) as client:
                    assert (await client.get(f"http://exchange.test:{port}/")).status_code == 200
            backend = DialerBackend(Dialer())
            with socket.socket() as mute:
                mute.bind(("127.0.0.2", port))
                mute.listen()
                async with http_client(backend, ssl_context=None, timeout_seconds=0.5) as client:
                    with pytest.raises(httpx2.ReadTimeout):
                        await client.get(f"http://exchange.test:{port}/")
                    backend.blame("exchange.test")
                    assert (await client.get(f"http://exchange.test:{port}/")).status_code == 200

    run(loop, test())


async def test_the_addresses_are_raced_in_order_and_the_losers_are_closed() -> None:
    made: list[socket.socket] = []
    begun: list[str] = []

    async def connect(address: Address) -> socket.socket:
        begun.append(str(address))
        await asyncio.sleep({"slow": 0.2, "never": 1000.0, "good": 0.05}[str(address)])
        sock = socket.socket()
        made.append(sock)
        return sock

    addresses = [Address(socket.AF_INET, (each, 1)) for each in ("never", "slow", "good")]
    dialed = await race(addresses, connect, 0.05)
    assert begun == ["never", "slow", "good"]
    assert str(dialed.address) == "good"
    assert [sock.fileno() >= 0 for sock in made] == [True]
    dialed.sock.close()


async def test_every_address_failing_says_what_each_of_them_did() -> None:
    async def connect(address: Address) -> socket.socket:
        raise ConnectionRefusedError(f"refused by {address}")

    addresses = [Address(socket.AF_INET, (each, 1)) for each in ("one", "two")]
    with pytest.raises(OSError, match=r"none of 2 addresses answers \(one: refused by one; two: refused by two\)"):
        await race(addresses, connect, 0.0)


def settings(transport: Any, **changes: Any) -> BinanceSettings:
    return BinanceSettings(transport=transport, **changes)


# Proxies


class Relay:
    """A proxy: HTTP CONNECT or SOCKS5, with credentials where it is given some."""

    def __init__(self, *, socks: bool, credentials: bytes | None) -> None:
        self.socks = socks
        self.credentials = credentials
        self.targets: list[str] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = await (self._socks(reader, writer) if self.socks else self._http(reader, writer))
            if target is None:
                return
            self.targets.append(target)
            onward = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, onward[1]))
                group.create_task(self._pump(onward[0], writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if self.credentials is not None and base64.b64encode(self.credentials).decode() not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return head.split(" ")[1]

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x00" if self.credentials is None else b"\x05\x02")
        if self.credentials is not None:
            _, size = await reader.readexactly(2)
            user = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            if user + b":" + password != self.credentials:
                writer.write(b"\x01\x01")
                return None
            writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        assert kind == 3, "the proxy resolves the name"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return f"{host.decode()}:{port}"

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def relay(*, socks: bool, credentials: bytes | None = None) -> Any:
    proxy = Relay(socks=socks, credentials=credentials)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.url = f"{'socks5' if socks else 'http'}://{{}}127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


@LOOPS
@TRANSPORTS
@pytest.mark.parametrize("socks", [False, True], ids=["http", "socks5"])
@pytest.mark.parametrize("credentials", [None, b"us er:p@ss"], ids=["open", "credentials"])
def test_streams_and_rest_go_through_the_proxy_which_resolves_the_name(
    loop: Loop, transport: Any, socks: bool, credentials: bytes | None
) -> None:
    async def test() -> None:
        async with (
            relay(socks=socks, credentials=credentials) as proxy,
            scripted_exchange() as exchange,
            scripted_http(lambda _request: Answer(b"{}")) as server,
        ):
            url = proxy.url.format("us%20er:p%40ss@" if credentials else "")
            dialer = Dialer(proxy_rules(url, {}))
            ws_port, port = exchange.url.rpartition(":")[2], server.url.rpartition(":")[2]
            client = opener(settings(transport), Metrics(process=False), None, dialer)
            (await client.open(f"ws://nowhere.test:{ws_port}/stream?streams=a@trade")).abort()
            await until(lambda: not exchange.live)
            async with http_client(DialerBackend(dialer), ssl_context=None, timeout_seconds=5.0) as rest:
                assert (await rest.get(f"http://nowhere.test:{port}/")).status_code == 200
            assert proxy.targets == [f"nowhere.test:{ws_port}", f"nowhere.test:{port}"]

    run(loop, test())


@TRANSPORTS
@pytest.mark.parametrize("socks", [False, True], ids=["http", "socks5"])
async def test_wrong_credentials_are_a_failure_that_names_the_proxy_and_no_password(
    transport: Any, socks: bool
) -> None:
    async with relay(socks=socks, credentials=b"user:right") as proxy:
        dialer = Dialer(proxy_rules(proxy.url.format("user:hunter2@"), {}))
        client = opener(settings(transport), Metrics(process=False), None, dialer)
        with pytest.raises(OpenFailed, match=r"proxy (http|socks5)://127\.0\.0\.1") as caught:
            await client.open("ws://nowhere.test:1/stream")
    assert "hunter2" not in str(caught.value)


def test_no_proxy_is_respected_and_unused_variables_are_named() -> None:
    rules = proxy_rules("http://p:1", {"NO_PROXY": "localhost,.internal, binance.vision"})
    assert rules.for_host("stream.binance.com") == ProxyServer("http", "p", 1)
    for host in ("localhost", "a.internal", "data-stream.binance.vision"):
        assert rules.for_host(host) is None
    assert ProxyRules().for_host("stream.binance.com") is None
    assert unused_proxies(None, {"https_proxy": "http://x:1", "ALL_PROXY": "y"}) == ["HTTPS_PROXY", "ALL_PROXY"]
    assert unused_proxies("http://p:1", {"HTTPS_PROXY": "http://x:1"}) == []


@pytest.mark.parametrize(
    "url", ["p:1", "https://p:1", "http://p", "http://p:1/path", "http://u@p:1", "http://p:x", "ftp://p:1", "", " "]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"allowed is|needs a password") as caught:
        parse_proxy(url)
    assert not url.strip() or url not in str(caught.value)


def test_a_proxy_is_shown_without_its_credentials() -> None:
    assert str(parse_proxy("socks5://user:pass@[::1]:1080")) == "socks5://[::1]:1080"
