"""Both clients on a server that sends bytes as it likes: cut anywhere, fragmented, compressed, wrong."""

import asyncio

import pytest
from websockets.frames import Close, Opcode

from ingest.binance.transport import CloseInfo
from tests.harness.scripted_exchange import until
from tests.unit.ingest.binance.peers import (
    LONG,
    SHORT,
    Opening,
    Peer,
    peer,
    wire,
)

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
