"""Each fault does what it says, over real sockets, and is counted; ledger and REST stay right unless they must not."""

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

from ingest.simulator.app import Simulator
from tests.unit.ingest.simulator.client import RawClient, connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until
from tests.unit.ingest.simulator.faulty_exchange import (
    ids,
    inject,
)


def history(exchange: Simulator, **query: Any) -> Any:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    answer = exchange.exchange.rest.handle("GET", "/api/v3/historicalTrades", text, {}, "::1")
    assert answer is not None
    return json.loads(answer.body)


async def test_a_gap_is_left_out_of_the_stream_only(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "gap", count=2)
        made = trade(exchange, count=4)
        assert await ids(connection, 2) == made[2:]
        assert [row["id"] for row in history(exchange, symbol="BTCUSDT", fromId=made[0])] == made


async def test_a_void_is_nowhere(one: Any) -> None:
    async with one as (exchange, connection):
        before = trade(exchange)
        outcome = inject(exchange, "void", symbol="BTCUSDT", count=3)
        after = trade(exchange)
        assert (outcome["first"], outcome["last"]) == (before[0] + 1, before[0] + 3)
        assert after == [before[0] + 4]
        assert await ids(connection, 2) == before + after
        assert [row["id"] for row in history(exchange, symbol="BTCUSDT", fromId=before[0])] == before + after
        assert exchange.ledger.symbols["BTCUSDT"].voids == [(before[0] + 1, before[0] + 3)]


async def test_duplicates_same_and_altered(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "duplicate", count=1, times=2)
        (first, second) = trade(exchange, count=2)
        same = await receive(connection, 4)
        assert [event["t"] for event in same] == [first, first, first, second]
        assert same[0] == same[1] == same[2]
        inject(exchange, "altered_duplicate")
        trade(exchange)
        right, wrong = await receive(connection, 2)
        assert right["t"] == wrong["t"]
        assert (right["p"], wrong["p"]) == ("61837.63000000", "1.00000000")


async def test_reordering_and_a_last_trade_that_nothing_overtakes(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "reorder")
        first, second, third = trade(exchange, count=3)
        assert await ids(connection, 3) == [second, first, third]
        inject(exchange, "reorder")
        last = trade(exchange)
        assert await ids(connection, 1) == last  # after a second


@pytest.mark.parametrize("form", ["cut", "trailing", "utf8", "empty", "array", "number"])
async def test_malformed_frames(simulator: Start, form: str) -> None:
    async with simulator() as exchange, RawClient.open(exchange, "/stream?streams=btcusdt@trade") as client:
        await client.event()
        await until(lambda: exchange.streams.sessions)
        inject(exchange, "malformed", form=form)
        good = trade(exchange, count=2)[1]
        data = bytes((await client.frame(Opcode.TEXT)).data)
        try:
            assert not isinstance(json.loads(data), dict)
        except ValueError:
            pass
        else:
            assert form in ("array", "number")
        assert json.loads(bytes((await client.frame(Opcode.TEXT)).data))["data"]["t"] == good


async def test_fragments(simulator: Start) -> None:
    async with simulator() as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
        await client.event()
        await until(lambda: exchange.streams.sessions)
        inject(exchange, "fragments", parts=3)
        (made,) = trade(exchange)
        frames = [await client.frame(Opcode.TEXT), await client.frame(Opcode.CONT), await client.frame(Opcode.CONT)]
        while not frames[-1].fin:
            frames.append(await client.frame(Opcode.CONT))
        assert json.loads(b"".join(bytes(frame.data) for frame in frames))["t"] == made


async def test_fields_missing_mistyped_and_impossible(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "missing_field", field="q")
        inject(exchange, "mistyped_field", field="t")
        inject(exchange, "mistyped_field", field="m", value="yes")
        inject(exchange, "bad_decimal", field="q", value="-1.5")
        made = trade(exchange, count=4)
        missing, mistyped, flag, negative = await receive(connection, 4)
        assert "q" not in missing
        assert mistyped["t"] == str(made[1])
        assert flag["m"] == "yes"
        assert negative["q"] == "-1.5"
        right = history(exchange, symbol="BTCUSDT", fromId=made[0])
        assert [row["qty"] for row in right] == ["0.02000000"] * 4


async def test_a_decimal_that_is_wrong_at_the_exchange_itself(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "bad_decimal", value="0.123456789", truth=True)
        made = trade(exchange)
        assert (await receive(connection))[0]["p"] == "0.123456789"
        assert history(exchange, symbol="BTCUSDT", fromId=made[0])[0]["price"] == "0.123456789"


async def test_a_fault_may_strike_one_connection_and_one_symbol_only(simulator: Start) -> None:
    path = "/stream?streams=btcusdt@trade/ethusdt@trade"
    async with simulator() as exchange, connected(exchange, path) as old, connected(exchange, path) as new:
        for kind in ("gap", "reorder"):
            inject(exchange, kind, symbol="ETHUSDT", connection="newest")
            btc, eth = trade(exchange), trade(exchange, "ETHUSDT", 2)
            await old_and_new(old, new, btc, eth, eth[1:] if kind == "gap" else eth[::-1])


async def old_and_new(
    old: ClientConnection, new: ClientConnection, btc: list[int], eth: list[int], struck: list[int]
) -> None:
    assert [event["data"]["t"] for event in await receive(old, 3)] == btc + eth
    assert [event["data"]["t"] for event in await receive(new, 1 + len(struck))] == btc + struck
