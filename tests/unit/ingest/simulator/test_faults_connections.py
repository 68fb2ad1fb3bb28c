import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from ingest.simulator.injection import KINDS, FaultError
from tests.unit.ingest.simulator.client import RawClient, connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until
from tests.unit.ingest.simulator.faulty_exchange import (
    ids,
    inject,
)


async def test_reset_and_close(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as first, connected(exchange, "/ws") as second:
        inject(exchange, "reset", connection="oldest")
        with pytest.raises(ConnectionClosedError) as lost:
            await first.recv()
        assert lost.value.rcvd is None
        assert isinstance(lost.value.__cause__, ConnectionResetError)
        inject(exchange, "close", code=1012, reason="restart")
        await second.wait_closed()
        assert (second.close_code, second.close_reason) == (1012, "restart")


async def test_a_stall_of_everything_or_one_symbol_loses_data_while_pings_live(simulator: Start) -> None:
    path = "/stream?streams=btcusdt@trade/ethusdt@trade"
    async with simulator() as exchange, connected(exchange, path) as connection:
        inject(exchange, "stall", symbol="ETHUSDT", seconds=600)
        trade(exchange, "ETHUSDT")
        heard = trade(exchange)
        assert (await receive(connection))[0]["data"]["t"] == heard[0]
        inject(exchange, "stall", seconds=600)
        trade(exchange)
        pong = await connection.ping()
        async with asyncio.timeout(20):
            await pong
        inject(exchange, "clear")
        after = trade(exchange)
        assert (await receive(connection))[0]["data"]["t"] == after[0]


async def test_a_black_hole_neither_answers_nor_ends_until_its_time_is_up(simulator: Start) -> None:
    async with simulator() as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
        await client.event()
        await until(lambda: exchange.streams.sessions)
        inject(exchange, "black_hole", seconds=0.3)
        trade(exchange)
        client.protocol.send_ping(b"?")
        client.write()
        assert await client.event() is None
        assert exchange.counters["pings_received"] == 0


async def test_server_shutdown_in_each_shape(simulator: Start) -> None:
    async with (
        simulator() as exchange,
        connected(exchange, "/ws/btcusdt@trade") as raw,
        connected(exchange, "/stream?streams=btcusdt@trade&timeUnit=MICROSECOND") as combined,
    ):
        inject(exchange, "server_shutdown", lead_s=0.05)
        async with connected(exchange, "/ws/btcusdt@trade") as later:
            (notice,) = await receive(raw)
            assert notice == {"e": "serverShutdown", "E": notice["E"]}
            (wrapped,) = await receive(combined)
            assert wrapped == {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": wrapped["data"]["E"]}}
            assert wrapped["data"]["E"] // 1000 == notice["E"]
            made = trade(exchange)
            assert await ids(raw, 1) == made  # data go on during the lead
            await raw.wait_closed()
            await combined.wait_closed()
            assert (raw.close_code, combined.close_code) == (1001, 1001)
            assert await ids(later, 1) == made  # whoever came after the notice stays
            inject(exchange, "server_shutdown", lead_s=0, nested=True)
            assert set((await receive(later))[0]["event"]) == {"e", "E"}
            await later.wait_closed()


@pytest.mark.parametrize("status", [403, 418, 429, 451, 500, 503, 504])
async def test_refused_handshakes_and_then_none(simulator: Start, status: int) -> None:
    async with simulator() as exchange:
        inject(exchange, "handshake", status=status, attempts=1, retry_after=7)
        with pytest.raises(InvalidStatus) as refused:
            async with connected(exchange, "/ws"):
                pass
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["Retry-After"] == "7"
        assert refused.value.response.body
        async with connected(exchange, "/ws"):
            assert exchange.counters[f"handshakes_{status}"] == 1


async def test_a_handshake_that_hangs(simulator: Start) -> None:
    async with simulator() as exchange:
        inject(exchange, "handshake_hang")
        with pytest.raises(TimeoutError):
            async with connected(exchange, "/ws", open_timeout=0.5):
                pass
        async with connected(exchange, "/ws"):
            assert exchange.counters["handshakes_hung"] == 1


async def test_connects_are_refused_for_a_while(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws/btcusdt@trade") as connection:
        inject(exchange, "refuse_connects", seconds=600)
        with pytest.raises(ConnectionRefusedError):
            async with connected(exchange, "/ws"):
                pass
        made = trade(exchange)
        assert await ids(connection, 1) == made
        inject(exchange, "refuse_connects", seconds=0)
        await until(lambda: exchange.streams.listening)
        async with connected(exchange, "/ws"):
            pass


async def test_what_was_sent_before_is_replayed_to_the_next_connection(simulator: Start) -> None:
    async with simulator() as exchange:
        made = trade(exchange, count=5)
        inject(exchange, "replay", trades=3)
        async with (
            connected(exchange, "/ws/btcusdt@trade") as first,
            connected(exchange, "/ws/btcusdt@trade") as second,
        ):
            made += trade(exchange)
            assert await ids(first, 4) == made[2:]
            assert await ids(second, 1) == made[-1:]


async def test_frames_that_are_no_trades(simulator: Start) -> None:
    async with (
        simulator() as exchange,
        connected(exchange, "/ws/btcusdt@trade", max_size=None, compression="deflate") as raw,
        connected(exchange, "/stream?streams=btcusdt@trade", max_size=None) as combined,
    ):
        inject(exchange, "huge_frame", size=300_000)
        inject(exchange, "deflate_bomb", size=2**20)
        inject(exchange, "unknown_event", count=2)
        inject(exchange, "error_object", code=-7, text="no")
        inject(exchange, "array")
        inject(exchange, "text", text="\udcff?")
        inject(exchange, "binary")
        huge, bomb, unknown, again, error, array = await receive(raw, 6)
        assert 299_000 < len(json.dumps(huge)) < 301_000
        assert len(bomb["x"]) == 2**20
        assert unknown == again
        assert error == {"error": {"code": -7, "msg": "no"}}
        assert array[0]["e"] == "24hrMiniTicker"
        assert await raw.recv(decode=False) == b"\xff?"
        assert await raw.recv() == b"\x00\x01\x02"
        assert [set(event) for event in await receive(combined, 3)] == [{"stream", "data"}] * 3


async def test_clock_skew_of_the_exchange_or_of_event_times_alone(one: Any) -> None:
    async with one as (exchange, connection):
        inject(exchange, "clock_skew", ms=5_000, event_only=True)
        trade(exchange)
        (event,) = await receive(connection)
        assert event["E"] - event["T"] in (5_001, 5_002)  # 1.5 ms later, in whole ones
        inject(exchange, "clock_skew", ms=-3_600_000)
        trade(exchange)
        (late,) = await receive(connection)
        assert 3_590_000 < event["T"] - late["T"] < 3_610_000


async def test_ids_jump_and_begin_anew(one: Any) -> None:
    async with one as (exchange, connection):
        (before,) = trade(exchange)
        inject(exchange, "giant_jump", ids=10**12)
        (far,) = trade(exchange)
        assert far == before + 10**12 + 1
        assert exchange.ledger.symbols["BTCUSDT"].voids == [(before + 1, far - 1)]
        inject(exchange, "id_reset", to=5)
        assert trade(exchange, count=2) == [5, 6]
        assert await ids(connection, 4) == [before, far, 5, 6]


async def test_layouts_change_on_the_run(one: Any) -> None:
    async with one as (exchange, connection):
        for name, keys in (
            ("orders", "eEstpqbaTmM"),
            ("no_m", "eEstpqTm"),
            ("reversed", "MmTqptsEe"),
            ("current", "eEstpqTmM"),
        ):
            inject(exchange, "layout", name=name)
            made = trade(exchange)
            (event,) = await receive(connection)
            assert "".join(event) == keys
            assert event["t"] == made[0]
        inject(exchange, "layout", name="extra")
        trade(exchange)
        assert {"X", "st", "Ω"} < set((await receive(connection))[0])


async def test_symbols_come_go_and_take_a_break(one: Any) -> None:
    async with one as (exchange, _):
        rest = exchange.exchange.rest

        def status(symbol: str) -> Any:
            answer = rest.handle("GET", "/api/v3/exchangeInfo", f"symbol={symbol}", {}, "::1")
            assert answer is not None
            body = json.loads(answer.body)
            return body["symbols"][0]["status"] if answer.status == 200 else body["code"]

        inject(exchange, "symbol_status", symbol="BTCUSDT", status="BREAK")
        assert status("BTCUSDT") == "BREAK"
        inject(exchange, "list_symbol", symbol="NEW/USDT")
        assert status("NEWUSDT") == "TRADING"
        made = trade(exchange, "NEWUSDT")
        inject(exchange, "delist", symbol="NEWUSDT")
        assert status("NEWUSDT") == -1121
        assert exchange.ledger.all_symbols["NEWUSDT"].last_id == made[-1]
        exchange.driver.set_pace(10_000)
        exchange.driver.start()
        await until(lambda: exchange.ledger.symbols["ETHUSDT"].sent_trades > 100)
        assert exchange.ledger.symbols["BTCUSDT"].sent_trades == 0
        assert exchange.ledger.all_symbols["NEWUSDT"].last_id == made[-1]


async def test_what_cannot_be_done_is_refused_and_not_counted(one: Any) -> None:
    async with one as (exchange, _):
        for kind, options in (
            ("nonsense", {}),
            ("gap", {"count": 0}),
            ("gap", {"symbol": "NOSUCH"}),
            ("gap", {"connection": "newest", "symbol": "NOSUCH"}),
            ("gap", {"connection": 10**6}),
            ("malformed", {"form": "round"}),
            ("duplicate", {"times": "twice"}),
            ("duplicate", {"times": 0}),
            ("gap", {"times": 2}),
            ("bad_decimal", {"field": "T"}),
            ("close", {"connection": "some"}),
            ("stall", {"seconds": "long"}),
            ("id_reset", {"to": -1}),
            ("void", {"count": 2**63}),
            ("huge_frame", {"size": "large"}),
            ("huge_frame", {"size": 2**40}),
            ("deflate_bomb", {"size": 1e300}),
            ("fragments", {"parts": 10**9}),
            ("duplicate", {"times": 10**9}),
            ("unknown_event", {"count": 10**9}),
            ("reset", {"colour": "blue"}),
            ("handshake", {"status": 200}),
            ("layout", {"name": "round"}),
            ("symbol_status", {"symbol": "BTCUSDT", "status": "SLEEPING"}),
            ("list_symbol", {"symbol": "BTCUSDT"}),
            ("rest_weight", {"limit": 0}),
            ("rest_status", {"status": 503, "path": "historicalTrades"}),
            ("rest_hang", {"path": "api/v3/ping"}),
        ):
            with pytest.raises(FaultError):
                exchange.injector.inject(kind, options)
        assert {name for name in exchange.counters if name.startswith("fault_")} == {f"fault_{kind}" for kind in KINDS}
        assert not any(exchange.counters[f"fault_{kind}"] for kind in KINDS)
