import asyncio
import tracemalloc
import zlib

import pytest
from websockets.frames import Close, Opcode

from ingest.binance.transport import PING_FLOOD, WRITE_BUFFER_LIMIT, CloseInfo, OpenFailed, SendBudget
from tests.unit.ingest.binance.peers import (
    LONG,
    SHORT,
    Opening,
    Peer,
    peer,
    wire,
)


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
