import asyncio
import json
import socket
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest

from ingest.binance.feed import Feed
from ingest.core.errors import Stop
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_exchange import Client, Collector, frame, scripted_exchange, until
from tests.unit.ingest.binance.feeding import (
    all_of,
    feeding,
)

pytestmark = pytest.mark.usefixtures("client")


async def test_many_streams_go_into_the_url_and_the_rest_into_small_requests() -> None:
    symbols = [f"LONGSYMBOL{n:04}USDT" for n in range(1000)]
    async with scripted_exchange() as exchange, feeding(exchange, *symbols) as run:
        await until(lambda: all(run.feed.receiving(symbol) for symbol in symbols))
        client = exchange.clients[0]
        assert len(client.streams) == 1000
        assert client.socket.request is not None
        assert 7000 < len(client.socket.request.path) <= 7500
        assert 1 < len(client.messages) <= 8
        assert max(client.message_sizes) <= 4096


async def test_more_streams_than_one_connection_takes_are_spread_over_several() -> None:
    symbols = [f"S{n}" for n in range(25)]
    async with scripted_exchange() as exchange, feeding(exchange, *symbols, streams_per_connection=10) as run:
        await until(lambda: all(run.feed.receiving(symbol) for symbol in symbols))
        assert sorted(len(client.streams) for client in exchange.clients) == [5, 10, 10]
        assert sorted(status.name for status in run.feed.status()) == ["g0a", "g1a", "g2a"]


async def test_symbols_come_and_go_at_run_time_without_a_new_connection_until_one_is_full() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT", streams_per_connection=2) as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        await run.feed.add_symbols(["BUSDT"])
        await until(lambda: run.feed.receiving("BUSDT"))
        assert len(exchange.clients) == 1
        await run.feed.add_symbols(["CUSDT", "AUSDT"])
        await until(lambda: run.feed.receiving("CUSDT"))
        assert len(exchange.clients) == 2
        await run.feed.remove_symbols(["AUSDT"])
        assert not run.feed.receiving("AUSDT")
        await until(lambda: exchange.clients[0].streams == {"busdt@trade"})
        await run.feed.remove_symbols(["CUSDT"])
        await until(lambda: exchange.clients[1].closed_with[0] == 1000)
        assert len(exchange.live) == 1
        await exchange.trade("BUSDT")
        await until(lambda: run.sink.ids("BUSDT"))


@pytest.mark.parametrize("answer", ['{"error":{"code":2,"msg":"no"},"id":1}', '{"code":2,"msg":"error"}', None])
async def test_a_request_that_is_refused_or_not_answered_ends_the_connection_and_is_tried_again(
    answer: str | None,
) -> None:
    patience = 1.5 if answer is None else 10.0
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT", open_timeout_seconds=patience) as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        exchange.reply = lambda client, message: answer
        await run.feed.add_symbols(["BUSDT"])
        await until(lambda: len(exchange.clients) >= 2 and run.feed.receiving("BUSDT"))
        assert run.reconnects() == {"protocol_error": 1}
        assert exchange.clients[1].in_url == ["ausdt@trade", "busdt@trade"]


async def test_damaged_frames_go_to_the_sink_and_the_connection_lives() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT") as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        client = exchange.clients[0]
        for text in ("{", frame("AUSDT", 1, t="1"), '{"e":"news"}', "[]", '{"result":null,"id":99}', b"\xff\xfe"):
            await exchange.send(client, text)
        await exchange.trade("AUSDT")
        await until(lambda: run.sink.trades)
        assert [error.reason for _, _, error in run.sink.rejected] == ["malformed_json", "wrong_type", "malformed_json"]
        assert run.value("binance_unknown_events_total") == 3
        assert run.reconnects() == {}
        assert len(exchange.clients) == 1


async def test_a_frame_beyond_the_limit_ends_the_connection_with_1009() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT", max_frame_bytes=4096) as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        await exchange.send(exchange.clients[0], "x" * 5000)
        await until(lambda: run.reconnects() == {"frame_too_large": 1})
        await until(lambda: exchange.clients[0].closed_with[0] == 1009)


async def test_a_missing_pong_brings_a_new_connection_first_and_then_drops_the_old() -> None:
    async with (
        scripted_exchange() as exchange,
        feeding(exchange, "AUSDT", ping_interval_seconds=0.3, ping_timeout_seconds=1.0) as run,
    ):
        await until(lambda: run.value("binance_pongs_total") >= 1)
        assert run.value("binance_last_pong_timestamp_seconds", connection="g0a") > 1e9
        exchange.clients[0].socket.protocol.send_pong = lambda data: None  # type: ignore[method-assign]
        deaf = exchange.clients[0].socket
        original = deaf.protocol.recv_frame

        def ignore_pings(received: Any) -> None:
            if received.opcode.name != "PING":
                original(received)

        deaf.protocol.recv_frame = ignore_pings  # type: ignore[method-assign,assignment]
        async with exchange.market(["AUSDT"], 300):
            await until(lambda: run.value("binance_connection_rotations_total", reason="pong_timeout") >= 1)
        assert run.value("binance_pong_timeouts_total") >= 1
        await all_of(run, exchange, "AUSDT")
        assert run.reconnects() == {}


async def test_the_pings_of_the_exchange_are_answered_with_their_payload_while_trades_pour_in() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT") as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        async with exchange.market(["AUSDT"], 2000):
            for number in range(10):
                waiter = await exchange.clients[0].socket.ping(f"{number}")
                await asyncio.wait_for(waiter, 30.0)
        assert run.value("binance_server_ping_answer_seconds_count") == 10


async def test_our_own_messages_leave_room_for_pongs_within_any_second() -> None:
    arrivals: list[float] = []
    loop = asyncio.get_running_loop()
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT") as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        client = exchange.clients[0]

        def note(_client: Client, message: dict[str, Any]) -> str:
            arrivals.append(loop.time())
            return json.dumps({"result": None, "id": message["id"]})

        exchange.reply = note
        for number in range(8):
            await run.feed.add_symbols([f"B{number}"])
            await until(partial(run.feed.receiving, f"B{number}"))
            if number % 3 == 0:
                pong = await client.socket.ping()
                await pong
                arrivals.append(loop.time())
    for start in arrivals:  # sent in any second, and a busy machine may bring them a little closer together
        assert sum(start <= at < start + 0.8 for at in arrivals) <= 5


async def test_another_address_of_the_same_exchange_is_used_while_the_first_is_down() -> None:
    async with scripted_exchange() as first, scripted_exchange() as second:
        first.refuse, first.refuse_headers = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1000000000"}
        async with feeding(first, "AUSDT", websocket_fallback_urls=(second.url,)) as run:
            await until(lambda: run.feed.receiving("AUSDT"))
            assert (first.attempts, len(second.live)) == (1, 1)
            assert run.reconnects() == {"handshake_refused": 1}


async def test_a_403_is_held_against_the_names_in_the_url_first_and_then_against_the_address() -> None:
    async with scripted_exchange() as first, scripted_exchange() as second:
        first.refuse = HTTPStatus.FORBIDDEN
        async with feeding(first, "SELECTUSDT", websocket_fallback_urls=(second.url,)) as run:
            await until(lambda: run.feed.receiving("SELECTUSDT"))
            assert (first.attempts, len(second.live)) == (2, 1)
            assert first.paths[0][1] == ["selectusdt@trade"]
            assert first.paths[1][1] == []


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (HTTPStatus.BAD_REQUEST, {}, 3, 60),
        (HTTPStatus.SERVICE_UNAVAILABLE, {}, 3, 60),
        (HTTPStatus.MOVED_PERMANENTLY, {"Location": "ws://localhost:1/"}, 3, 60),
        (HTTPStatus.TOO_MANY_REQUESTS, {}, 1, 1),
        (HTTPStatus.IM_A_TEAPOT, {"Retry-After": "60"}, 1, 1),
        (HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "60"}, 1, 1),
    ],
)
async def test_a_refused_handshake_is_tried_again_and_a_ban_is_respected(
    status: HTTPStatus, headers: dict[str, str], least: int, most: int
) -> None:
    async with scripted_exchange() as exchange:
        exchange.refuse, exchange.refuse_headers = status, headers
        async with feeding(exchange, "AUSDT") as run:
            await until(lambda: exchange.attempts >= least)
            await asyncio.sleep(0.5)
            assert exchange.attempts <= most
            # the exchange counts a request when it comes, the feed when the answer has come: one may be on its way
            await until(lambda: run.reconnects() == {"handshake_refused": exchange.attempts})
            if most > 1:
                exchange.refuse = None
                await until(lambda: run.feed.receiving("AUSDT"))


async def test_nobody_listening_and_a_mute_server_are_waited_out() -> None:
    with socket.socket() as bound:  # nobody else gets the port, and nobody listens on it until the exchange does
        bound.bind(("127.0.0.1", 0))
        async with feeding(f"ws://127.0.0.1:{bound.getsockname()[1]}", "AUSDT") as run:
            await until(lambda: run.reconnects().get("refused", 0) >= 2)
            async with scripted_exchange(sock=bound):
                await until(lambda: run.feed.receiving("AUSDT"))
    with socket.socket() as mute:  # its backlog takes connections that nobody ever answers
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        async with feeding(f"ws://127.0.0.1:{mute.getsockname()[1]}", "AUSDT", open_timeout_seconds=0.2) as run:
            await until(lambda: run.reconnects().get("timeout", 0) >= 2)


async def test_a_name_that_resolves_again_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    real, away = socket.getaddrinfo, True

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        if away:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with scripted_exchange() as exchange:
        url = exchange.url.replace("127.0.0.1", "localhost")
        async with feeding(url, "AUSDT") as run:
            await until(lambda: run.reconnects().get("dns", 0) >= 3)
            assert exchange.attempts == 0
            away = False
            await until(lambda: run.feed.receiving("AUSDT"))
            await exchange.trade("AUSDT", 3)
            await until(lambda: run.sink.ids("AUSDT") == {1, 2, 3})


async def test_an_exception_of_the_sink_ends_the_feed_instead_of_losing_trades_in_silence() -> None:
    class Broken(Collector):
        def on_trades(self, connection: str, trades: list[Any]) -> None:
            raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)

    async def lose_one() -> None:
        async with feeding(exchange, "AUSDT", sink=Broken()) as run:
            await until(lambda: run.feed.receiving("AUSDT"))
            await exchange.trade("AUSDT")
            await asyncio.sleep(30.0)

    async with scripted_exchange() as exchange:
        with pytest.raises(ExceptionGroup) as caught:
            await lose_one()
        assert caught.group_contains(ZeroDivisionError)


async def test_a_rotation_needs_a_reason_that_has_a_series() -> None:
    feed = Feed(BinanceSettings(), 60, Metrics(process=False), Collector(), ssl_context=None)
    with pytest.raises(ValueError, match="allowed is scheduled"):
        feed.rotate("because")


async def test_a_transport_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError("no", name="picows")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(Stop, match="picows is not installed"):
        Feed(BinanceSettings(transport="picows"), 60, Metrics(process=False), Collector(), ssl_context=None)


async def test_trades_of_symbols_never_asked_for_are_dropped_and_counted() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "AUSDT") as run:
        await until(lambda: run.feed.receiving("AUSDT"))
        client = exchange.live[0]
        for number in range(3000):
            await exchange.send(client, frame(f"EVIL{number}", 1))
        await exchange.trade("AUSDT", 2)
        await until(lambda: run.sink.ids("AUSDT") == {1, 2})
        assert run.value("binance_unrequested_trades_total") == 3000
        assert {trade.symbol for _, trade in run.sink.trades} == {"AUSDT"}
        assert set(run.feed.current()[0].tracks) == {"AUSDT"}


async def test_the_successor_of_a_stalled_connection_goes_to_another_address() -> None:
    async with (
        scripted_exchange() as first,
        scripted_exchange() as second,
        feeding(first, "AUSDT", websocket_fallback_urls=(second.url,), rotation_overlap_seconds=0.2) as run,
    ):
        await until(lambda: run.feed.receiving("AUSDT"))
        assert run.feed.rotate("operator") == 1
        await until(lambda: first.attempts == 2 and len(first.live) == 1)
        assert run.feed.rotate("stalled") == 1
        await until(lambda: [connection.url for connection in run.feed.current()] == [second.url])
