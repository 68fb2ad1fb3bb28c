"""What must hold whatever the exchange sends: no crash, and nothing believed that a plain JSON parser reads otherwise.

Each oracle takes bytes and raises ``AssertionError``. Hypothesis feeds them in the tests, atheris in ``make fuzz``.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.binance.connection import Connection
from ingest.binance.history import parse_activity, parse_exchange_info, parse_page
from ingest.binance.messages import Reply, Unknown, decode
from ingest.binance.transport import CloseInfo, Deliver
from ingest.core.errors import Reject
from ingest.core.trade import Trade
from ingest.metrics import REJECT_REASONS, Metrics
from ingest.settings import BinanceSettings

UNREADABLE = object()
FRAME_KEYS = ("s", "t", "p", "q", "T", "m")
ELEMENT_KEYS = ("id", "price", "qty", "time", "isBuyerMaker")


def plain(data: bytes) -> Any:
    """What the standard library reads, or ``UNREADABLE``; more tolerant than ours, as it is only asked for values."""
    try:
        return json.loads(data.decode("utf-8", "replace"), strict=False, parse_int=_integer)
    except (ValueError, RecursionError):
        return UNREADABLE


def _integer(text: str) -> int | str:
    return int(text) if len(text) < 40 else text


def refused(error: Reject) -> None:
    """A refusal has a reason that is counted, and says no more than a log line holds."""
    assert error.reason in REJECT_REASONS
    assert len(error.detail) < 300


def check_frame(data: bytes) -> None:
    """A frame of a stream."""
    try:
        event = decode(data)
    except Reject as error:
        refused(error)
        return
    if isinstance(event, Trade):
        outer = plain(data)
        assert isinstance(outer, dict), "a trade out of what is no object"
        layers = [layer for layer in (outer, outer.get("data"), outer.get("event")) if isinstance(layer, dict)]
        assert any(
            layer.get("e") == "trade" and _same(_values(event), [layer.get(key) for key in FRAME_KEYS])
            for layer in layers
        ), f"{event} is not what was sent"
        assert 0 <= event.trade_id < 2**63
        assert 0 <= event.trade_time_us < 2**63
    elif isinstance(event, Unknown):
        assert len(event.kind) <= 40


def check_page(data: bytes) -> None:
    """A body of ``historicalTrades``."""
    try:
        page = parse_page("BTCUSDT", data)
    except Reject as error:
        refused(error)
        return
    sent = plain(data)
    assert isinstance(sent, list), "a page out of what is no array"
    assert len(page.trades) + len(page.rejected) == len(sent), "an element was lost"
    ids = [trade.trade_id for trade in page.trades]
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))
    for trade in page.trades:
        assert trade.symbol == "BTCUSDT"
        assert any(
            isinstance(one, dict) and _same(_values(trade)[1:], [one.get(key) for key in ELEMENT_KEYS]) for one in sent
        ), f"{trade} is not what was sent"
    for _, raw, why in page.rejected:
        refused(why)
        assert raw in data


def check_exchange_info(data: bytes) -> None:
    """A body of ``exchangeInfo``."""
    try:
        infos, weight = parse_exchange_info(data)
    except Reject as error:
        refused(error)
        return
    assert weight is None or 0 < weight < 10**9
    sent = plain(data)
    assert isinstance(sent, dict)
    assert {one.get("symbol") for one in sent["symbols"]} == set(infos)


def check_last_ids(data: bytes) -> None:
    """A body of ``ticker/24hr``."""
    try:
        found = parse_activity(data)
    except Reject as error:
        refused(error)
        return
    sent = plain(data)
    assert isinstance(sent, list)
    assert {name: each.last_id for name, each in found.items()} == {one["symbol"]: one["lastId"] for one in sent}


def check_reply(data: bytes) -> None:
    """An answer to a request for streams: it is confirmed by its own number and nothing else, and crashes nothing."""
    asyncio.run(confirmed(data))


async def confirmed(data: bytes) -> None:
    """See ``check_reply``."""
    refusals: list[Reject] = []
    sink = _Sink(refusals)
    socket = _Socket()
    connection = Connection(
        "g0a", socket, _SETTINGS, Metrics(process=False), sink, time,
        desired_symbols=lambda: socket.wanted, on_trouble=lambda _connection, _trouble: None,
    )  # fmt: skip
    await connection.open("ws://exchange")
    running = asyncio.ensure_future(connection.run())  # noqa: TID251 - ended below, whatever happens
    await asyncio.wait_for(connection.live.wait(), 5.0)
    socket.wanted = ["AUSDT", "BUSDT"]
    connection.changed()
    await asyncio.wait_for(socket.asked.wait(), 5.0)
    number = json.loads(socket.sent[0])["id"]
    socket.deliver([data])
    for _ in range(3):
        await asyncio.sleep(0)
    subscribed = "BUSDT" in connection.subscribed
    ended = not connection.delivers
    assert not (subscribed and ended)
    if subscribed:
        event = decode(data)
        assert isinstance(event, Reply), f"{event} was taken for a confirmation"
        assert event.id == number
        sent = plain(data)
        assert isinstance(sent, dict)
        assert (sent.get("id"), type(sent.get("id"))) == (number, int)
        assert "error" not in sent
    socket.over.set()
    ending = await asyncio.wait_for(running, 5.0)
    assert ending.reason == ("protocol_error" if ended else "connection_lost")
    for error in refusals:
        refused(error)


def _values(trade: Trade) -> list[Any]:
    return [
        trade.symbol, trade.trade_id, trade.price, trade.quantity, trade.trade_time_us, trade.buyer_is_maker,
    ]  # fmt: skip


def _same(ours: list[Any], sent: list[Any]) -> bool:
    return all(mine == other and type(mine) is type(other) for mine, other in zip(ours, sent, strict=True))


_SETTINGS = BinanceSettings(open_timeout_seconds=60.0)


class _Sink:
    def __init__(self, refusals: list[Reject]) -> None:
        self._refusals = refusals

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        assert trades

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        self._refusals.append(error)


class _Socket:
    """Connector and socket in one: what is delivered is up to the oracle."""

    def __init__(self) -> None:
        self.wanted = ["AUSDT"]
        self.sent: list[bytes] = []
        self.asked = asyncio.Event()
        self.over = asyncio.Event()
        self.deliver: Deliver = lambda _frames: None

    async def open(self, url: str) -> "_Socket":
        return self

    async def pump(self, deliver: Deliver) -> CloseInfo:
        self.deliver = deliver
        await self.over.wait()
        return CloseInfo("connection_lost")

    async def send(self, message: bytes) -> None:
        self.sent.append(message)
        self.asked.set()

    async def ping(self) -> Awaitable[float] | None:
        return None

    async def close(self, code: int, reason: str) -> None:
        self.over.set()

    def abort(self) -> None:
        raise AssertionError("an exception reached the read loop")


ORACLES: dict[str, Callable[[bytes], None]] = {
    "frame": check_frame,
    "page": check_page,
    "exchange-info": check_exchange_info,
    "last-ids": check_last_ids,
    "reply": check_reply,
}

SEEDS: dict[str, list[bytes]] = {
    "frame": [
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161254123456,"s":"BTCUSDT","t":5123456789,'
        b'"p":"61234.56000000","q":"0.01200000","T":1723161254122000,"m":true,"M":true}}',
        b'{"e":"trade","E":1723161254123456,"s":"BTCUSDT","t":1,"p":"1.0","q":"2","T":1723161254122000,"m":false}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        b'{"event":{"e":"serverShutdown","E":1770123456789}}',
        b'[{"e":"24hrMiniTicker"}]',
    ],
    "page": [
        b'[{"id":7,"price":"61234.56000000","qty":"0.01000000","quoteQty":"612.3","time":1723161254122000,'
        b'"isBuyerMaker":true,"isBestMatch":true},{"id":8,"price":"1","qty":"1","time":1723161254122001,'
        b'"isBuyerMaker":false}]',
        b'{"code":-1121,"msg":"Invalid symbol."}',
    ],
    "exchange-info": [
        b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000}],'
        b'"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":['
        b'{"filterType":"PRICE_FILTER","tickSize":"0.01"},{"filterType":"LOT_SIZE","stepSize":"0.00001"}]}]}',
    ],
    "last-ids": [b'[{"symbol":"BTCUSDT","lastId":5123456789},{"symbol":"ETHUSDT","lastId":-1}]'],
    "reply": [
        b'{"result":null,"id":1}',
        b'{"result":["ausdt@trade"],"id":1}',
        b'{"code":2,"msg":"Invalid request","id":1}',
        b'{"error":{"code":2,"msg":"invalid stream"},"id":1}',
    ],
}
"""Bytes to begin with."""
