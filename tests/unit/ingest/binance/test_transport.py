"""Both clients on a server that sends bytes as it likes: cut anywhere, fragmented, compressed, wrong."""

import asyncio
import base64
import hashlib
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.frames import Close, Frame, Opcode

from ingest.binance.transport import PING_FLOOD, WRITE_BUFFER_LIMIT, CloseInfo, OpenFailed, SendBudget, Socket, opener
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
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


@pytest.fixture(params=["websockets", "picows"])
def opened(request: pytest.FixtureRequest) -> Opening:
    async def open_socket(url: str, **changes: object) -> Run:
        settings = BinanceSettings(transport=request.param, **{"open_timeout_seconds": 5.0, **changes})  # type: ignore[arg-type]
        metrics = Metrics(process=False)
        return Run(await opener(settings, metrics, None).open(url), metrics)

    return open_socket


SHORT, LONG = b'{"a":1}', b'{"b":"%s"}' % (b"x" * 300)
BYE = wire(Close(1000, "bye").serialize(), Opcode.CLOSE)


async def test_messages_that_come_with_the_handshake_are_not_lost(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + wire(LONG)[:20], wire(LONG)[20:] + BYE)

    async with peer(script) as url:
        run = await opened(url)
        await asyncio.sleep(0.05)
        assert await run.pump() == CloseInfo("closed_by_exchange", 1000, "bye")
        assert run.messages == [SHORT, LONG]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_it_does_not_matter_where_the_stream_is_cut(opened: Opening, size: int) -> None:
    async def script(peer: Peer) -> None:
        data = peer.response + wire(SHORT) + wire(b"p", Opcode.PING) + wire(LONG) + wire(b"") + wire(LONG) + BYE
        await peer.send(*(data[at : at + size] for at in range(0, len(data), size)))

    async with peer(script) as url:
        run = await opened(url)
        assert (await run.pump()).code == 1000
        assert run.messages == [SHORT, LONG, b"", LONG]


async def test_messages_of_one_read_are_delivered_together_and_in_order(opened: Opening) -> None:
    texts = [b"%d" % number for number in range(50)]

    async def script(peer: Peer) -> None:
        await peer.send(peer.response)
        await asyncio.sleep(0.05)
        await peer.send(b"".join(map(wire, texts)), BYE)

    async with peer(script) as url:
        run = await opened(url)
        await run.pump()
        assert run.reads == [texts]


async def test_fragments_become_one_message_and_keep_their_place(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(
            peer.response + wire(SHORT) + wire(LONG[:5], fin=False),
            wire(b"p", Opcode.PING) + wire(LONG[5:9], Opcode.CONT, fin=False),
            wire(LONG[9:], Opcode.CONT) + wire(SHORT) + wire(b"\xff", Opcode.BINARY) + BYE,
        )

    async with peer(script) as url:
        run = await opened(url)
        await run.pump()
        assert run.messages == [SHORT, LONG, SHORT, b"\xff"]


async def test_pings_are_answered_at_once_with_their_payload_and_counted(opened: Opening) -> None:
    answers = []

    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + wire(b"one", Opcode.PING) + wire(SHORT) + wire(b"", Opcode.PING))
        answers.extend([await peer.frame(), await peer.frame()])
        await peer.send(BYE)

    async with peer(script) as url:
        run = await opened(url)
        await run.pump()
        assert answers == [(Opcode.PONG, b"one"), (Opcode.PONG, b"")]
        assert run.messages == [SHORT, SHORT]
        assert run.metrics.registry.get_sample_value("binance_server_ping_answer_seconds_count") == 2


async def test_our_pings_are_answered_by_the_pong_with_their_payload_only(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response)
        opcode, payload = await peer.frame()
        assert opcode is Opcode.PING
        await peer.send(wire(b"other", Opcode.PONG))
        await asyncio.sleep(0.1)
        await peer.send(wire(payload, Opcode.PONG))

    async with peer(script) as url, asyncio.TaskGroup() as group:
        run = await opened(url)
        pumping = group.create_task(run.pump())
        pong = await run.socket.ping()
        assert pong is not None
        assert 0.1 <= await asyncio.wait_for(pong, 5.0) < 5.0
        run.socket.abort()
        assert (await pumping).reason == "ours"
        assert await run.socket.ping() is None
        await run.socket.send(b"after the end")


@pytest.mark.parametrize(
    ("bad", "reason", "code"),
    [
        (wire(SHORT, mask=True), "protocol_error", 1002),
        (b"\x83\x00", "protocol_error", 1002),  # an opcode that does not exist
        (b"\xc1\x01x", "protocol_error", 1002),  # compressed without having been negotiated
        (wire(SHORT, Opcode.CONT), "protocol_error", 1002),
        (wire(SHORT, fin=False) + wire(SHORT), "protocol_error", 1002),
        (wire(b"x" * 4097), "frame_too_large", 1009),
        (wire(b"x" * 100_000)[:100], "frame_too_large", 1009),
        (wire(b"x" * 3000, fin=False) + wire(b"x" * 3000, Opcode.CONT), "frame_too_large", 1009),
    ],
    ids=[
        "masked",
        "unknown opcode",
        "compressed",
        "continues nothing",
        "new message within a message",
        "too large",
        "will be too large",
        "too large in fragments",
    ],
)
async def test_a_frame_that_must_not_be_ends_the_connection_with_the_code_that_says_so(
    opened: Opening, bad: bytes, reason: str, code: int
) -> None:
    received = []

    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + bad + wire(LONG))
        received.append(await peer.frame())

    async with peer(script) as url:
        run = await opened(url, max_frame_bytes=4096)
        ending = await run.pump()
        assert (ending.reason, ending.code) == (reason, code)
        assert run.messages == [SHORT]
        await until(lambda: bool(received))
        assert received[0][0] is Opcode.CLOSE
        assert int.from_bytes(received[0][1][:2], "big") == code


@pytest.mark.parametrize(
    ("payload", "ending"),
    [
        (b"", CloseInfo("closed_by_exchange", 1005)),
        (Close(1011, "").serialize(), CloseInfo("closed_by_exchange", 1011)),
        (Close(4001, "x" * 120).serialize(), CloseInfo("closed_by_exchange", 4001, "x" * 120)),
    ],
)
async def test_a_close_frame_may_have_no_reason_and_no_code(opened: Opening, payload: bytes, ending: CloseInfo) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(payload, Opcode.CLOSE))

    async with peer(script) as url:
        assert await (await opened(url)).pump() == ending


async def test_nothing_after_a_close_frame_is_delivered_and_the_close_is_answered(opened: Opening) -> None:
    received = []

    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + BYE + wire(LONG))
        received.append(await peer.frame())
        peer.writer.close()

    async with peer(script) as url:
        run = await opened(url)
        assert await run.pump() == CloseInfo("closed_by_exchange", 1000, "bye")
        assert run.messages == [SHORT]
        await until(lambda: bool(received))
        assert received[0][0] is Opcode.CLOSE


@pytest.mark.parametrize(("last", "reason"), [(BYE, "closed_by_exchange"), (b"\x83\x00", "protocol_error")])
async def test_a_server_that_ends_and_does_not_hang_up_is_left(opened: Opening, last: bytes, reason: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + last)

    async with peer(script, hang=True) as url:
        run = await opened(url)
        assert (await run.pump()).reason == reason


async def test_closing_ourselves_reads_what_is_under_way_and_returns_when_it_is_over(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response)
        opcode, payload = await peer.frame()
        assert (opcode, payload) == (Opcode.CLOSE, Close(1000, "so long").serialize())
        await peer.send(wire(SHORT) + wire(LONG), wire(payload, Opcode.CLOSE))
        peer.writer.close()

    async with peer(script) as url, asyncio.TaskGroup() as group:
        run = await opened(url)
        pumping = group.create_task(run.pump())
        await asyncio.sleep(0)
        await asyncio.wait_for(run.socket.close(1000, "so long"), 5.0)
        assert await pumping == CloseInfo("ours", 1000)
        assert run.messages == [SHORT, LONG]


async def test_closing_does_not_wait_for_ever_for_an_answer(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response)

    async with peer(script, hang=True) as url:
        for pumped in (True, False):
            async with asyncio.TaskGroup() as group:
                run = await opened(url)
                pumping = group.create_task(run.pump()) if pumped else None
                await asyncio.sleep(0.01)
                await asyncio.wait_for(run.socket.close(1000, ""), 10.0)
                if pumping is not None:
                    assert (await pumping).reason == "ours"


async def test_a_lost_connection_is_told_from_a_closed_one(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + wire(LONG)[:50])
        peer.writer.close()

    async with peer(script) as url:
        run = await opened(url)
        ending = await run.pump()
        assert (ending.reason, ending.code) == ("connection_lost", 1006)
        assert run.messages == [SHORT]


@pytest.mark.parametrize("takeover", ["", "; server_no_context_takeover"])
async def test_compressed_messages_are_inflated_up_to_the_limit(opened: Opening, takeover: str) -> None:
    async def script(peer: Peer) -> None:
        assert b"permessage-deflate" in peer.request
        extension = f"Sec-WebSocket-Extensions: permessage-deflate{takeover}\r\n\r\n".encode()
        await peer.send(peer.response[:-2] + extension)
        compressor = zlib.compressobj(wbits=-15)
        for payload in (LONG, LONG, b"x" * 5000):
            if takeover:
                compressor = zlib.compressobj(wbits=-15)
            data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await peer.send(b"\xc1" + bytes((len(data),)) + data + wire(SHORT) * (payload is LONG))

    async with peer(script) as url:
        run = await opened(url, compression=True, max_frame_bytes=4096)
        ending = await run.pump()
        assert (ending.reason, ending.code) == ("frame_too_large", 1009)
        assert run.messages == [LONG, SHORT, LONG, SHORT]


async def test_a_compression_bomb_costs_less_than_five_megabytes(opened: Opening) -> None:
    inflated = 50 * 2**20
    compressor = zlib.compressobj(wbits=-15)
    bomb = (compressor.compress(bytes(inflated)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(bomb) < 60_000, "the frame itself is no larger than is allowed"

    async def script(peer: Peer) -> None:
        await peer.send(peer.response[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        await peer.send(b"\xc1\x7e" + len(bomb).to_bytes(2) + bomb)

    async with peer(script) as url:
        run = await opened(url, compression=True, max_frame_bytes=65_536)
        tracemalloc.start()
        try:
            ending = await run.pump()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (ending.reason, ending.code, run.messages) == ("frame_too_large", 1009, [])
        assert peak < 5 * 2**20


@pytest.mark.parametrize(
    ("response", "reason", "status", "after"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno", "handshake_refused", 403, 7.0),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: ws://localhost:1/\r\nContent-Length: 0\r\n\r\n",
            "handshake_refused",
            301,
            0,
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "handshake_refused", None, 0),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "handshake_refused", None, 0),
        (b"x" * 70_000, "handshake_refused", None, 0),
        (b"", "connection_lost", None, 0),
    ],
)
async def test_a_handshake_that_fails_says_how(
    opened: Opening, response: bytes, reason: str, status: int | None, after: float
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(*(response[at : at + 40_000] for at in range(0, len(response), 40_000)))
        peer.writer.close()

    async with peer(script) as url:
        with pytest.raises(OpenFailed) as caught:
            await opened(url)
        assert (caught.value.reason, caught.value.status, caught.value.after) == (reason, status, after)


async def test_a_flood_of_pings_ends_the_connection(opened: Opening) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT))
        await asyncio.sleep(0.05)
        await peer.send(wire(b"p", Opcode.PING) * 5000)
        await peer.reader.read()

    async with peer(script) as url:
        run = await opened(url)
        ending = await run.pump()
    assert (ending.reason, ending.detail) == ("protocol_error", PING_FLOOD)


def test_pongs_that_are_never_read_end_the_connection_before_they_fill_the_memory() -> None:
    now = 0.0
    budget = SendBudget(lambda: now)
    for _ in range(1000):
        now += 0.1
        assert not budget.note_pong(WRITE_BUFFER_LIMIT)
    assert budget.note_pong(WRITE_BUFFER_LIMIT + 1)


@pytest.mark.parametrize("fin", [True, False], ids=["whole", "fragment"])
async def test_a_frame_beyond_the_limit_is_never_handed_on_and_no_error_of_ours(
    opened: Opening, fin: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.response + wire(SHORT) + wire(b"x" * 5_000_000, fin=fin))

    async with peer(script) as url:
        run = await opened(url, max_frame_bytes=4096)
        ending = await run.pump()
    assert ending.reason == "frame_too_large"
    assert run.messages == [SHORT]
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
