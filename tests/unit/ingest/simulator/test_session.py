"""The rules of a connection, over real sockets and with short times."""

import asyncio
import json

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from ingest.simulator.rules import Rules
from tests.unit.ingest.simulator.client import RawClient, ask, connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until

FAR = 600.0


async def ended(connection: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(20):
        await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


async def test_pings_are_distinct_and_a_client_that_answers_stays(simulator: Start) -> None:
    rules = Rules(ping_interval_s=0.02, pong_timeout_s=FAR, messages=10_000)
    async with simulator(rules=rules) as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
        await client.event()
        payloads = [bytes((await client.frame(Opcode.PING)).data) for _ in range(5)]
        assert len(set(payloads)) == 5
        assert all(payload.isdigit() and len(payload) == 13 for payload in payloads)
        client.protocol.send_pong(payloads[-1])
        client.write()
        await until(lambda: exchange.counters["pongs_received"])
        assert exchange.counters["pong_timeouts"] == exchange.counters["pongs_unsolicited"] == 0


async def test_a_pong_that_comes_twice_is_not_wrong_and_old_pings_are_forgotten(simulator: Start) -> None:
    rules = Rules(ping_interval_s=0.002, messages=10_000)
    async with simulator(rules=rules) as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
        await client.event()
        for _ in range(40):
            payload = (await client.frame(Opcode.PING)).data
            client.protocol.send_pong(payload)
            client.protocol.send_pong(payload)
            client.write()
        await until(lambda: exchange.counters["pongs_received"] >= 80)
        assert exchange.counters["pongs_wrong"] == 0
        (session,) = exchange.streams.sessions.values()
        assert len(session._pings) < 40 + 10


async def test_a_pong_that_takes_too_long_is_counted_as_slow(simulator: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(ping_interval_s=FAR, pong_timeout_s=FAR)
    for limit, slow in ((60.0, 0), (0.1, 1)):
        monkeypatch.setattr("ingest.simulator.session.SLOW_PONG_SECONDS", limit)
        async with simulator(rules=rules) as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
            await client.event()
            await until(lambda exchange=exchange: exchange.streams.sessions)  # type: ignore[misc]
            (session,) = exchange.streams.sessions.values()
            session._ping()
            payload = (await client.frame(Opcode.PING)).data
            await asyncio.sleep(0.15)
            client.protocol.send_pong(payload)
            client.write()
            await until(lambda exchange=exchange: exchange.counters["pongs_received"])  # type: ignore[misc]
            assert exchange.counters["pongs_slow"] == slow


async def test_an_unanswered_ping_ends_the_connection(simulator: Start) -> None:
    rules = Rules(ping_interval_s=0.02, pong_timeout_s=0.1)
    async with simulator(rules=rules) as exchange, RawClient.open(exchange, "/ws/btcusdt@trade") as client:
        await client.event()
        close = await client.frame(Opcode.CLOSE)
        assert bytes(close.data) == b"\x03\xf0Pong timeout"  # 1008


async def test_empty_pongs_do_not_keep_it_alive_and_wrong_ones_end_it(simulator: Start) -> None:
    rules = Rules(ping_interval_s=0.05, pong_timeout_s=0.3, messages=10_000)
    async with simulator(rules=rules) as exchange:
        async with RawClient.open(exchange, "/ws/btcusdt@trade") as client:
            await client.event()
            await client.frame(Opcode.PING)
            client.protocol.send_pong(b"")
            client.write()
            assert bytes((await client.frame(Opcode.CLOSE)).data)[2:] == b"Pong timeout"
        async with RawClient.open(exchange, "/ws/btcusdt@trade") as client:
            await client.event()
            await client.frame(Opcode.PING)
            client.protocol.send_pong(b"something else")
            client.write()
            assert bytes((await client.frame(Opcode.CLOSE)).data)[2:] == b"Pong payload mismatch"


async def test_the_lax_switch_tolerates_wrong_pongs(simulator: Start) -> None:
    rules = Rules(strict_pong=False, ping_interval_s=0.05, pong_timeout_s=FAR, messages=10_000)
    async with simulator(rules=rules) as exchange, RawClient.open(exchange, "/ws") as client:
        await client.event()
        await client.frame(Opcode.PING)
        client.protocol.send_pong(b"something else")
        client.write()
        await until(lambda: exchange.counters["pongs_unsolicited"])
        await client.frame(Opcode.PING)


async def test_a_pong_that_nobody_waits_for_may_say_anything(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as connection:
        await connection.pong(b"a heartbeat of my own")
        assert await ask(connection, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
        assert exchange.counters["pongs_unsolicited"] == 1


@pytest.mark.parametrize("kind", ["text", "ping", "pong"])
async def test_six_messages_of_any_kind_in_a_second_are_one_too_many(simulator: Start, kind: str) -> None:
    async with simulator(rules=Rules(message_window_s=FAR)) as exchange, connected(exchange, "/ws") as connection:
        for number in range(6):
            match kind:
                case "text":
                    await connection.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
                case "ping":
                    waiter = await connection.ping()
                    assert waiter is not None
                case _:
                    await connection.pong(b"")
        assert await ended(connection) == (1008, "Too many requests")
        assert exchange.counters["too_many_requests"] == 1


async def test_five_messages_are_not(simulator: Start) -> None:
    async with simulator(rules=Rules(message_window_s=FAR)) as exchange, connected(exchange, "/ws") as connection:
        for number in range(5):
            assert (await ask(connection, "LIST_SUBSCRIPTIONS", request_id=number))["id"] == number


async def test_repeated_closes_ban_the_address_if_switched_on(simulator: Start) -> None:
    async with simulator(rules=Rules(messages=1, message_window_s=FAR, ban_after=1)) as exchange:
        async with connected(exchange, "/ws") as connection:
            await connection.pong()
            await connection.pong()
            assert (await ended(connection))[0] == 1008
        with pytest.raises(InvalidStatus) as refused:
            async with connected(exchange, "/ws"):
                pass
        assert refused.value.response.status_code == 418
        assert 0 < int(refused.value.response.headers["Retry-After"]) <= 120


async def test_the_lifetime_ends_with_1001(simulator: Start) -> None:
    async with simulator(rules=Rules(lifetime_s=0.05)) as exchange, connected(exchange, "/ws") as connection:
        assert await ended(connection) == (1001, "")


async def test_the_lifetime_may_end_with_a_reset_or_a_notice(simulator: Start) -> None:
    rules = Rules(lifetime_s=0.05, lifetime_end="reset")
    async with simulator(rules=rules) as exchange, connected(exchange, "/ws") as connection:
        assert (await ended(connection))[0] == 1006
    rules = Rules(lifetime_s=0.05, lifetime_end="notice", notice_lead_s=0.05)
    async with simulator(rules=rules) as exchange, connected(exchange, "/ws") as connection:
        assert (await receive(connection))[0]["e"] == "serverShutdown"
        assert await ended(connection) == (1001, "")


async def test_connects_per_address_are_limited(simulator: Start) -> None:
    async with simulator(rules=Rules(connects=2)) as exchange:
        for _ in range(2):
            async with connected(exchange, "/ws"):
                pass
        with pytest.raises(InvalidStatus) as refused:
            async with connected(exchange, "/ws"):
                pass
        assert refused.value.response.status_code == 429
        assert b"-1003" in refused.value.response.body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/wss/btcusdt@trade", 404),
        ("/stream?streams=btcusdt@trade&timeUnit=SECOND", 400),
        ("/stream?streams=" + "/".join(f"s{number}@trade" for number in range(4)), 400),
        ("/stream?streams=" + "a" * 8000 + "@trade", 414),
    ],
)
async def test_handshakes_that_are_refused(simulator: Start, path: str, status: int) -> None:
    async with simulator(rules=Rules(streams=3)) as exchange:
        with pytest.raises(InvalidStatus) as refused:
            async with connected(exchange, path):
                pass
        assert refused.value.response.status_code == status


@pytest.mark.parametrize("path", ["/ws/0", "/ws/btcusdt", "/ws/a@b@c/0/!x", "/stream?streams=nonsense"])
async def test_any_name_in_the_path_is_accepted_and_subscriptions_come_by_message(simulator: Start, path: str) -> None:
    """As ccxt does: it connects to /ws/0."""
    async with simulator() as exchange, connected(exchange, path) as connection:
        assert await ask(connection, "SUBSCRIBE", ["btcusdt@trade"]) == {"result": None, "id": 1}
        (trade_id,) = trade(exchange)
        (event,) = await receive(connection)
        assert event.get("data", event)["t"] == trade_id


async def test_what_is_no_handshake_is_answered_and_counted(simulator: Start) -> None:
    async with simulator() as exchange:
        host, port = str(exchange.ready["ws_url"]).removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 426")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        assert exchange.counters["handshakes_malformed"] == 1


async def test_raw_combined_units_and_percent_encoding(simulator: Start) -> None:
    async with (
        simulator(symbols="BTCUSDT,ETHUSDT,币安人生/USDT") as exchange,
        connected(exchange, "/ws/btcusdt%40trade") as raw,
        connected(exchange, "/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=microsecond") as combined,
        connected(
            exchange, "/stream?timeUnit=MICROSECOND&streams=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade"
        ) as other,
        connected(exchange, "/ws/btcusdt@trade/ethusdt@trade") as several,
    ):
        ids = [*trade(exchange), *trade(exchange, "ETHUSDT"), *trade(exchange, "币安人生USDT")]
        (plain,) = await receive(raw)
        first, second = await receive(combined, 2)
        assert plain["t"] == ids[0]
        assert [first["stream"], second["stream"]] == ["btcusdt@trade", "ethusdt@trade"]
        assert first["data"] | {"E": 0, "T": 0} == plain | {"E": 0, "T": 0}
        assert (first["data"]["T"] // 1000, first["data"]["E"] // 1000) == (plain["T"], plain["E"])
        assert (await receive(other))[0]["data"]["s"] == "币安人生USDT"
        assert [event["s"] for event in await receive(several, 2)] == ["BTCUSDT", "ETHUSDT"]


async def test_subscribing_and_properties_on_a_bare_path(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as connection:
        assert await ask(connection, "SUBSCRIBE", ["btcusdt@trade", "BTCUSDT@trade", "nosuch@trade"]) == {
            "result": None,
            "id": 1,
        }
        trade(exchange)
        assert (await receive(connection))[0]["e"] == "trade"
        await ask(connection, "SET_PROPERTY", ["combined", True], "two")
        ids = trade(exchange)
        (event,) = await receive(connection)
        assert (event["stream"], event["data"]["t"]) == ("btcusdt@trade", ids[0])
        await ask(connection, "UNSUBSCRIBE", ["btcusdt@trade"])
        trade(exchange)
        assert (await ask(connection, "LIST_SUBSCRIPTIONS"))["result"] == ["BTCUSDT@trade", "nosuch@trade"]


async def test_a_control_message_above_4096_bytes_gets_no_answer(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as connection:
        message = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": "long"}
        text = json.dumps(message)
        await connection.send(text + " " * (4097 - len(text)))
        await until(lambda: exchange.counters["control_dropped"])
        trade(exchange)
        assert await ask(connection, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
        await connection.send(text + " " * (4096 - len(text)))
        assert await receive(connection) == [{"result": None, "id": "long"}]


async def test_a_fragmented_control_message_is_one_message(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as connection:
        await connection.send(['{"method":', '"LIST_SUBSCRIPTIONS",', '"id":7}'])
        assert await receive(connection) == [{"result": [], "id": 7}]


@pytest.mark.parametrize("compress", [False, True])
async def test_permessage_deflate_both_ways(simulator: Start, compress: bool) -> None:
    async with (
        simulator(rules=Rules(compress=compress)) as exchange,
        connected(exchange, "/ws/btcusdt@trade", compression="deflate") as connection,
    ):
        assert "permessage-deflate" in connection.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
        for _ in range(3):
            ids = trade(exchange, count=5)
            assert [event["t"] for event in await receive(connection, 5)] == ids
        assert (await ask(connection, "LIST_SUBSCRIPTIONS"))["result"] == ["btcusdt@trade"]


async def test_deflate_can_be_declined(simulator: Start) -> None:
    async with (
        simulator(rules=Rules(negotiate_deflate=False)) as exchange,
        connected(exchange, "/ws", compression="deflate") as connection,
    ):
        assert "Sec-WebSocket-Extensions" not in connection.response.headers  # type: ignore[union-attr]


async def test_a_client_that_does_not_read_is_cut_off(simulator: Start) -> None:
    async with (
        simulator(rules=Rules(backlog_bytes=1000)) as exchange,
        RawClient.open(exchange, "/ws/btcusdt@trade") as client,
    ):
        await client.event()
        await until(lambda: exchange.streams.sessions)
        for _ in range(100):
            trade(exchange, count=1000)
            if exchange.counters["slow_clients_cut"]:
                break
            await asyncio.sleep(0)
        assert exchange.counters["slow_clients_cut"] == 1
        await until(lambda: not exchange.streams.sessions)


async def test_stopping_says_goodbye(simulator: Start) -> None:
    async with simulator() as exchange, connected(exchange, "/ws") as connection:
        exchange.stopping.set()
        assert await ended(connection) == (1001, "")


async def test_a_client_may_close(simulator: Start) -> None:
    async with simulator() as exchange:
        async with connected(exchange, "/ws/btcusdt@trade"):
            pass
        await until(lambda: not exchange.streams.sessions)
        assert list(exchange.streams.listeners("btcusdt@trade")) == []
        assert exchange.counters["closed_by_client"] == 1
