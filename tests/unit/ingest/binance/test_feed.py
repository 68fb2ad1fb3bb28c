import asyncio
import socket
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest

from ingest.binance import rotating_connection
from tests.harness.scripted_exchange import Client, scripted_exchange, until
from tests.unit.ingest.binance.feeding import (
    Running,
    all_of,
    feeding,
)

pytestmark = pytest.mark.usefixtures("client")


def heard_by(run: Running, after: int, connections: int) -> bool:
    """Whether so many connections have delivered trades beyond an id."""
    return len({name for name, trade in run.sink.trades if trade.trade_id > after}) >= connections


def reset(client: Client) -> None:
    """Close with RST."""
    raw = client.socket.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.socket.transport.abort()


async def test_trades_arrive_in_order_and_in_batches_from_the_combined_stream_in_microseconds() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT", "ETHUSDT") as run:
        await until(lambda: run.feed.receiving("BTCUSDT"))
        client = exchange.clients[0]
        assert client.path == "/stream"
        assert client.query == {"streams": ["btcusdt@trade/ethusdt@trade"], "timeUnit": ["MICROSECOND"]}
        await exchange.trade("BTCUSDT", 500)
        await until(lambda: len(run.sink.trades) == 500)
        assert [trade.trade_id for _, trade in run.sink.trades] == list(range(1, 501))
        assert len(run.sink.batches) < 500
        assert run.value("binance_messages_received_total", symbol="BTCUSDT") == 500
        assert run.value("ingest_messages_received_total") == 500
        assert run.value("binance_connection_status", connection="g0a") == 1
        assert run.value("binance_streams") == 2
        assert run.feed.last_received() == {"BTCUSDT": 500}
    await client.socket.wait_closed()
    assert client.socket.close_code == 1000


async def test_a_scheduled_rotation_under_load_loses_nothing_and_says_why_it_closes() -> None:
    symbols = [f"S{n}USDT" for n in range(20)]
    async with (
        scripted_exchange() as exchange,
        feeding(exchange, *symbols, lifetime=1.0, connection_lifetime_jitter=0.0) as run,
    ):
        await until(lambda: run.feed.receiving("S0USDT"))
        async with exchange.market(symbols, 2000):
            await until(lambda: run.value("binance_connection_rotations_total", reason="scheduled") >= 3)
        for symbol in symbols:
            everything = set(range(1, exchange.next_ids[symbol] + 1))
            await until(lambda symbol=symbol, everything=everything: run.sink.ids(symbol) == everything)  # type: ignore[misc]
        assert run.reconnects() == {}
        await until(lambda: exchange.clients[0].closed_with[0])
        closed = [client.closed_with for client in exchange.clients if client.closed_with[0]]
        assert set(closed) == {(1000, "Periodic rotation")}
        assert {connection for connection, _ in run.sink.trades} == {"g0a", "g0b"}


async def test_however_long_a_lifetime_is_set_the_limit_of_the_exchange_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 22 * 3600 < rotating_connection.EXCHANGE_LIFETIME - rotating_connection.LIFETIME_MARGIN < 24 * 3600
    monkeypatch.setattr(rotating_connection, "EXCHANGE_LIFETIME", 60.0)
    monkeypatch.setattr(rotating_connection, "LIFETIME_MARGIN", 59.5)
    async with (
        scripted_exchange() as exchange,
        feeding(exchange, "BTCUSDT", lifetime=24 * 3600.0) as run,
    ):
        await until(lambda: run.feed.receiving("BTCUSDT"))
        async with exchange.market(["BTCUSDT"], 200):
            await until(lambda: run.value("binance_connection_rotations_total", reason="scheduled") >= 1)
        await all_of(run, exchange, "BTCUSDT")
        assert run.reconnects() == {}


async def test_connections_that_began_together_do_not_rotate_together() -> None:
    symbols = [f"S{n}USDT" for n in range(12)]
    async with (
        scripted_exchange() as exchange,
        feeding(exchange, *symbols, lifetime=1000.0, streams_per_connection=1, connection_lifetime_jitter=0.1) as run,
    ):
        await until(lambda: all(run.feed.receiving(symbol) for symbol in symbols))
        slots = [one for group in run.feed._slots.values() for one in group]
        ages = sorted(one._rotate_at - one.current.opened_at for one in slots if one.current is not None)
        assert len(ages) == 12
        assert 900.0 <= ages[0] < 940.0
        assert 960.0 < ages[-1] <= 1000.0
        assert len({round(age) for age in ages}) >= 10


async def test_a_rotation_without_a_successor_keeps_the_old_socket_and_tries_again() -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT") as run:
        await until(lambda: run.feed.receiving("BTCUSDT"))
        exchange.refuse = HTTPStatus.SERVICE_UNAVAILABLE
        run.feed.rotate("operator")
        await until(lambda: run.value("binance_rotation_failures_total") >= 3)
        await exchange.trade("BTCUSDT", 5)
        await until(lambda: len(run.sink.trades) == 5)
        exchange.refuse = None
        await until(lambda: run.value("binance_connection_rotations_total", reason="operator") == 1)
        await exchange.trade("BTCUSDT", 5)
        await until(lambda: run.sink.ids("BTCUSDT") == set(range(1, 11)))
        await until(lambda: exchange.clients[0].closed_with == (1000, "Periodic rotation"))


async def test_a_successor_that_delivers_nothing_is_dropped_and_the_old_socket_kept() -> None:
    async def mute(client: Client) -> None:
        if client.number == 1:
            client.muted.add("*")

    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT") as run:
        exchange.on_open = mute
        await until(lambda: run.feed.receiving("BTCUSDT"))
        async with exchange.market(["BTCUSDT"], 200):
            run.feed.rotate("operator")
            await until(lambda: run.value("binance_rotation_failures_total") >= 1)
            await until(lambda: run.value("binance_connection_rotations_total", reason="operator") == 1)
        await all_of(run, exchange, "BTCUSDT")
        await until(lambda: exchange.clients[1].closed_with[0] == 1000)


@pytest.mark.parametrize(
    "notice",
    [
        '{"e":"serverShutdown","E":1770123456789}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        '{"event":{"e":"serverShutdown","E":1770123456789}}',
    ],
)
async def test_a_shutdown_notice_opens_the_new_connection_before_the_old_one_goes(notice: str) -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT") as run:
        await until(lambda: run.feed.receiving("BTCUSDT"))
        async with exchange.market(["BTCUSDT"], 500):
            await until(lambda: run.sink.trades)
            await exchange.send(exchange.clients[0], notice)
            await until(lambda: run.value("binance_connection_rotations_total", reason="server_shutdown") == 1)
        await all_of(run, exchange, "BTCUSDT")
        assert run.reconnects() == {}


@pytest.mark.parametrize(
    ("kill", "reason"),
    [
        (reset, "connection_lost"),
        (lambda client: client.socket.transport.close(), "connection_lost"),
        (lambda client: asyncio.get_running_loop().call_soon(client.socket.protocol.send_close, 1001), ""),
    ],
)
async def test_an_unasked_end_is_followed_by_a_new_connection(kill: Any, reason: str) -> None:
    if not reason:
        pytest.skip("covered by the close-code test below")
    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT") as run:
        await until(lambda: run.feed.receiving("BTCUSDT"))
        kill(exchange.clients[0])
        await until(lambda: len(exchange.live) == 1 and len(exchange.clients) == 2)
        await exchange.trade("BTCUSDT")
        await until(lambda: run.sink.trades)
        assert run.reconnects() == {reason: 1}


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011])
async def test_a_close_by_the_exchange_is_a_reconnect_whatever_the_code(code: int) -> None:
    async with scripted_exchange() as exchange, feeding(exchange, "BTCUSDT") as run:
        await until(lambda: run.feed.receiving("BTCUSDT"))
        await exchange.clients[0].socket.close(code, "bye")
        await until(lambda: len(exchange.clients) == 2 and run.feed.receiving("BTCUSDT"))
        assert run.reconnects() == {"closed_by_exchange": 1}


async def test_closes_right_after_opening_back_off_and_stay_within_the_budget_of_attempts() -> None:
    async def close(client: Client) -> None:
        await client.socket.close(1000)

    async with scripted_exchange() as exchange:
        exchange.on_open = close
        async with feeding(exchange, "BTCUSDT", backoff_maximum_seconds=600, backoff_initial_seconds=0.01) as run:
            await until(lambda: exchange.attempts >= 2)
            await asyncio.sleep(1.5)
            assert exchange.attempts <= 12
            # the feed counts an attempt when it begins, the exchange when the request has come
            await until(lambda: run.value("binance_connection_attempts_total") == exchange.attempts)
    async with scripted_exchange() as exchange:
        exchange.on_open = close
        async with feeding(exchange, "BTCUSDT", connection_attempts_per_5_minutes=4, backoff_maximum_seconds=0.02):
            await until(lambda: exchange.attempts == 4)
            await asyncio.sleep(0.5)
            assert exchange.attempts == 4


async def test_a_permanent_pair_covers_the_loss_of_either_without_a_hole() -> None:
    async with (
        scripted_exchange() as exchange,
        feeding(exchange, "BTCUSDT", dual_connections=True) as run,
    ):
        await until(lambda: len(exchange.live) == 2)
        async with exchange.market(["BTCUSDT"], 1000):
            for round_ in range(4):
                both = partial(heard_by, run, exchange.next_ids["BTCUSDT"], 2)
                await until(both)  # what is on the way to one that is reset is lost: the other must have begun by then
                opened = len(exchange.clients)
                reset(exchange.live[round_ % 2])
                await until(lambda seen=opened: len(exchange.clients) > seen and len(exchange.live) == 2)  # type: ignore[misc]
        await all_of(run, exchange, "BTCUSDT")
        assert run.reconnects() == {"connection_lost": 4}
