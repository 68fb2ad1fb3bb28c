"""What must hold whatever the exchange sends: no crash, and nothing believed that a plain JSON parser reads otherwise.

Each oracle takes bytes and raises ``AssertionError``. Hypothesis feeds them in the tests, atheris in ``make fuzz``.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.binance.aggregates import LONGEST_PAGE, parse_aggregates, trades_from_aggregates
from ingest.binance.connection import Connection
from ingest.binance.frame_scanner import end_of_frame, extract_text_frames
from ingest.binance.history import parse_page
from ingest.binance.listings import parse_activity, parse_exchange_info
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


def short(error: Exception, most: int) -> None:
    """Its text fits a line of the log."""
    assert len(str(error)) < most


def says(error: Exception, text: str) -> None:
    """What its text must contain."""
    assert text in str(error)


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
    names = [one.get("symbol") for one in sent["symbols"] if isinstance(one, dict)]
    assert set(infos) <= {name for name in names if isinstance(name, str)}


def check_last_ids(data: bytes) -> None:
    """A body of ``ticker/24hr``."""
    try:
        found = parse_activity(data)
    except Reject as error:
        refused(error)
        return
    sent = plain(data)
    assert isinstance(sent, list)
    stated = [(one.get("symbol"), one.get("lastId")) for one in sent if isinstance(one, dict)]
    assert all((name, each.last_id) in stated for name, each in found.items())


def check_aggregates(data: bytes) -> None:
    """A body of ``aggTrades``."""
    try:
        found = parse_aggregates(data)
    except Reject as error:
        refused(error)
        return
    sent = plain(data)
    assert isinstance(sent, list)
    assert len(found) == len(sent) <= LONGEST_PAGE
    for each, one in zip(found, sent, strict=True):
        assert _same([each.price, each.quantity, each.first_id, each.last_id], [one[key] for key in "pqfl"])
    for trade in trades_from_aggregates("BTCUSDT", found, 0, 2**63 - 1):
        assert any(one["f"] == one["l"] == trade.trade_id and one["p"] == trade.price for one in sent)


def check_wire(data: bytes) -> None:
    """Bytes of a WebSocket server (the first is the limit): those frames that a plain reader of RFC 6455 finds."""
    limit, stream = (data[0] * 8, data[1:]) if data else (0, b"")
    payloads: list[bytes] = []
    end = extract_text_frames(stream, 0, limit, payloads)
    at, expected = 0, []
    while (frame := _plain_frame(stream, at)) is not None:
        begin, stop, first, masked = frame
        assert end_of_frame(stream, at) == stop
        if first != 0x81 or masked or stop > len(stream) or stop - begin > limit or begin - at > 4:
            break
        expected.append(stream[begin:stop])
        at = stop
    assert payloads == expected
    assert end == at


def _plain_frame(data: bytes, at: int) -> tuple[int, int, int, bool] | None:
    """Begin and end of the payload, first byte, masked or not; None where the header is not complete."""
    if len(data) < at + 2:
        return None
    length, masked = data[at + 1] & 0x7F, data[at + 1] >= 0x80
    size = {126: 2, 127: 8}.get(length, 0)
    if len(data) < at + 2 + size:
        return None
    if size:
        length = int.from_bytes(data[at + 2 : at + 2 + size], "big")
    begin = at + 2 + size + (4 if masked else 0)
    return begin, begin + length, data[at], masked


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
    "aggregates": check_aggregates,
    "reply": check_reply,
    "wire": check_wire,
}
