"""The end of another instance's process is noticed at once; another end of a connection is not taken for it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from ingest.binance.name_lookup import Found, NameLookup
from ingest.control.server import Process, StatusServer, this_process
from ingest.http.limits import Limits
from ingest.metrics import Metrics
from ingest.service.peer_link import MOST_BYTES, open_link
from ingest.service.peer_watch import PeerWatch
from tests.unit.ingest.control.conftest import FakeProbe


def status_server(port: int = 0, *, instance: str = "green", held: int = 8) -> StatusServer:
    return StatusServer(
        "127.0.0.1",
        port,
        registry=CollectorRegistry(),
        probe=FakeProbe(),
        process=this_process(instance),
        limits=Limits(held=held),
    )


def port_of(server: StatusServer) -> int:
    return int(server.url.rpartition(":")[2])


class Watched:
    """A watch of addresses by ``blue``, and what it reported."""

    def __init__(self, *urls: str) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.metrics = Metrics(process=False)
        self.watch = PeerWatch(
            urls,
            instance="blue",
            metrics=self.metrics,
            on_ended=self.ended.put_nowait,
            uniform=lambda _, high: high / 50,
        )

    async def until(self, url: str, state: str) -> None:
        async with asyncio.timeout(10):
            while state not in str(self.watch.states[url]):  # noqa: ASYNC110 (the state is the test's matter)
                await asyncio.sleep(0.005)

    @property
    def connected(self) -> float | None:
        return self.metrics.registry.get_sample_value("ingest_peers_connected")


@contextlib.asynccontextmanager
async def watching(*urls: str) -> AsyncIterator[Watched]:
    watched = Watched(*urls)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched.watch.run())
        yield watched
        task.cancel()


async def first(watched: Watched) -> str:
    async with asyncio.timeout(10):
        return await watched.ended.get()


async def test_the_end_of_a_process_is_reported_at_once() -> None:
    with status_server() as server:
        url = server.url
        async with watching(url) as watched:
            await watched.until(url, "green")
            assert watched.connected == 1
            await asyncio.to_thread(server.__exit__, None, None, None)
            assert await first(watched) == "green"
            assert watched.connected == 0


async def test_a_process_that_was_replaced_has_ended() -> None:
    with status_server() as server:
        url, port = server.url, port_of(server)
        async with watching(url) as watched:
            await watched.until(url, "green")
            await asyncio.to_thread(server.__exit__, None, None, None)
            with status_server(port):
                assert await first(watched) == "green"
                await watched.until(url, "green")


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server; yields its address as that of a peer."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Cutting:
    """A TCP proxy that can cut its connections, with a reset or without."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)

    async def finish(self) -> None:
        """Wait until no connection is left: a task that is cancelled while it connects leaves a socket behind."""
        while self._tasks:
            await self.cut(reset=False)
            await asyncio.sleep(0.01)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._pairs.append((writer, far_writer))
        try:
            far_writer.write(await reader.readuntil(b"\r\n\r\n"))
            while data := await far_reader.read(4096):
                writer.write(data)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in (writer, far_writer):
                one.close()
                with contextlib.suppress(ConnectionError):
                    await one.wait_closed()

    async def cut(self, *, reset: bool) -> None:
        pairs, self._pairs = self._pairs, []  # those of the next call stay
        for writer, far_writer in pairs:
            if reset:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
            far_writer.close()
            for one in (writer, far_writer):
                with contextlib.suppress(ConnectionError):
                    await one.wait_closed()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_is_cut_is_not_the_end_of_its_process(
    reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.service.peer_watch.CONFIRM_SECONDS", 10.0)  # the test's process may be slow
    with status_server() as server:
        cutting = Cutting(port_of(server))
        async with serving(cutting) as url:
            async with watching(url) as watched:
                for _ in range(3):
                    await watched.until(url, "green")
                    watched.watch.states[url] = dict.fromkeys(watched.watch.states[url], "?")
                    await cutting.cut(reset=reset)
                await watched.until(url, "green")
                assert watched.ended.empty()
            await cutting.finish()


async def test_a_displaced_connection_is_not_the_end_of_its_process() -> None:
    with status_server(held=1) as server:
        url = server.url
        async with watching(url) as watched:
            await watched.until(url, "green")
            watched.watch.states[url] = dict.fromkeys(watched.watch.states[url], "?")
            link = await open_link("127.0.0.1", port_of(server), 5.0)
            await watched.until(server.url, "green")
            assert await link.closed() is False  # displaced in turn
            await link.aclose()
            assert watched.ended.empty()


async def test_a_peer_that_is_not_there_is_tried_again_and_never_reported() -> None:
    with status_server() as server:
        port = port_of(server)
    url = f"http://127.0.0.1:{port}"
    async with watching(url) as watched:
        await watched.until(url, "not reached")
        with status_server(port):
            await watched.until(url, "green")
            assert watched.ended.empty()


async def test_its_own_address_is_left_alone() -> None:
    with status_server(instance="blue") as own, status_server() as other:
        async with watching(own.url, other.url) as watched:
            await watched.until(own.url, "this instance")
            await watched.until(other.url, "green")
            assert watched.connected == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered with 404"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}\n", "names no process"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"x":' + b"[" * 3000 + b"\n", "names no process"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2 * MOST_BYTES, "too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "before its first line"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"),
        (b"", "not an HTTP answer"),
    ],
)
async def test_an_answer_that_is_another_one_is_shown(answer: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with serving(serve) as url, watching(url) as watched:
        await watched.until(url, said)
        assert watched.ended.empty()


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_peer_that_says_nothing_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.service.peer_watch.ANSWER_SECONDS", 0.1)
    async with watching(silent) as watched:
        await watched.until(silent, "TimeoutError")


async def test_which_process_serves_there() -> None:
    with status_server(instance="green") as server:
        links = [await open_link("127.0.0.1", port_of(server), 5.0) for _ in range(2)]
        assert {link.process for link in links} == {Process("green", links[0].process.process)}
        for link in links:
            await link.aclose()


async def test_every_address_of_a_name_is_watched_and_an_open_connection_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod's name has the addresses of the next process and of the one before during an update."""
    monkeypatch.setattr("ingest.service.peer_watch.LOOK_UP_SECONDS", 0.01)
    addresses = ["127.0.0.1", "127.0.0.2"]

    async def find(_: object, host: str, port: int) -> Found:
        assert host == "slots.example"
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(NameLookup, "find", find)
    with status_server(instance="blue") as own:
        port = port_of(own)
        registry, probe = CollectorRegistry(), FakeProbe()
        with StatusServer("127.0.0.2", port, registry=registry, probe=probe, process=this_process("before")) as before:
            url = f"http://slots.example:{port}"
            async with watching(url) as watched:
                await watched.until(url, "before")
                await watched.until(url, "this instance")
                assert watched.connected == 1
                addresses.clear()  # it is being stopped: its name goes first, the process later
                await watched.until(url, "no such name")
                assert watched.watch.states[url]["127.0.0.2"] == "before"
                await asyncio.to_thread(before.__exit__, None, None, None)
                assert await first(watched) == "before"


async def test_a_peer_that_resets_at_once_and_an_error_of_the_watch_never_end_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that is killed resets what waits to be accepted; no error here may reach what records."""
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # inherited: closing resets

        def reset_all() -> None:
            for _ in range(20):
                listener.accept()[0].close()

        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with watching(url) as watched:
            await asyncio.to_thread(reset_all)
            await watched.until(url, "not reached")
            assert watched.ended.empty()
    broken = RuntimeError("unforeseen")
    with status_server() as server:
        monkeypatch.setattr("ingest.service.peer_watch.open_link", lambda *_: (_ for _ in ()).throw(broken))
        async with watching(server.url) as watched:
            await watched.until(server.url, "connecting")
            await asyncio.sleep(0.05)
            monkeypatch.undo()
            await watched.until(server.url, "green")
            failures = watched.metrics.registry.get_sample_value(
                "ingest_observer_failures_total", {"observer": "peers"}
            )
            assert failures is not None
            assert failures >= 1


async def test_a_process_that_refuses_a_call_and_answers_the_next_has_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server with too many requests answers 503 for a moment."""
    monkeypatch.setattr("ingest.service.peer_watch.CONFIRM_SECONDS", 5.0)
    line = Process("green", "1")
    answers = [line, None, None, line]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        process = answers.pop(0) if answers else None
        if process is None:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + msgspec.json.encode(process) + b"\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with serving(serve) as url, watching(url) as watched:
        await watched.until(url, "answered with 503")
        assert not answers
        assert watched.ended.empty()


async def test_a_peer_that_sends_without_end_is_left() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + msgspec.json.encode(Process("green", "1")) + b"\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x" * 1000)
                await writer.drain()

    async with serving(serve) as url, watching(url) as watched:
        await watched.until(url, "has ended")
        assert watched.ended.empty()
