"""REST answers about the streams besides the trades: missing numbers, and snapshots of books. Parsing is pure.

Answers have the shapes of [rest]; a page is ascending, possibly with holes. Of bars only those are used that another
one follows: the last one of an answer may still be open.
"""

import itertools
from datetime import UTC, datetime
from typing import Any

import msgspec

from ingest.binance.history import EARLIEST_US, TradeElement
from ingest.binance.rest import RestClient
from ingest.binance.stream_messages import number_of_bar
from ingest.binance.weight import Urgency
from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, BookSnapshot
from ingest.core.streams import AGG_TRADE, DEPTH, MONTHS, Stream
from ingest.core.trade import WireInt, WireText

_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StreamPage(msgspec.Struct, frozen=True):
    """One page of history. A page with a damaged element is refused as a whole, and so is never seen here."""

    trades: list[Any]
    rejected: list[tuple[int | None, bytes, Reject]] = []


class _Aggregate(msgspec.Struct, gc=False):
    a: WireInt
    p: WireText
    q: WireText
    f: WireInt
    l: WireInt  # noqa: E741 -- the exchange's name
    T: WireInt
    m: bool


_Kline = tuple[
    WireInt, WireText, WireText, WireText, WireText, WireText, WireInt, WireText, WireInt, WireText, WireText, Any
]
_aggregates = msgspec.json.Decoder(list[_Aggregate]).decode
_blocks = msgspec.json.Decoder(list[TradeElement]).decode
_klines = msgspec.json.Decoder(list[_Kline]).decode
_snapshot = msgspec.json.Decoder(BookSnapshot).decode


def start_of_bar(stream: Stream, number: int) -> int:
    """A time in milliseconds after the bar before this one has opened, and not after this one opens."""
    if stream.stride_us:
        return number * stream.stride_us // 1000
    year, month = divmod(number, MONTHS)
    return int(datetime(1970 + year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


def parse_page(stream: Stream, symbol: str, body: bytes) -> StreamPage:
    """Read a page. Raises ``Reject`` where it cannot be used."""
    try:
        events = _events(stream, symbol, body)
    except _DAMAGED as error:
        raise Reject("malformed_json", f"{error}"[:200], symbol=symbol) from error
    if any(later.trade_id <= earlier.trade_id for earlier, later in itertools.pairwise(events)):
        raise Reject("not_an_event", "numbers do not ascend", symbol=symbol)
    if events and all(event.trade_time_us < EARLIEST_US for event in events):
        raise Reject("implausible_time", "times are not in microseconds", symbol=symbol)
    return StreamPage(events)


def _events(stream: Stream, symbol: str, body: bytes) -> list[Any]:
    if stream.name == AGG_TRADE.name:
        return [AggTrade(symbol, e.a, e.p, e.q, e.f, e.l, e.T, e.m) for e in _aggregates(body)]
    if stream.record == "TradeV2":
        return [BlockTrade(symbol, e.id, e.price, e.qty, e.time, e.isBuyerMaker) for e in _blocks(body)]
    interval = stream.name.removeprefix("kline_")
    return [_bar(stream, symbol, interval, one) for one in _klines(body)[:-1]]


def _bar(stream: Stream, symbol: str, interval: str, one: Any) -> Bar:
    opens, first, high, low, last, volume, closes, quote, count, taker, taker_quote, _ = one
    figures = (first, high, low, last, volume, quote, taker, taker_quote)
    return Bar(symbol, interval, number_of_bar(stream, opens), opens, closes, figures, count)


def parse_snapshot(body: bytes) -> BookSnapshot:
    """Read an answer of ``depth``. Raises ``Reject``."""
    try:
        found: BookSnapshot = _snapshot(body)
    except _DAMAGED as error:
        raise Reject("malformed_json", f"{error}"[:200]) from error
    if max(len(found.bids), len(found.asks)) > DEPTH.most_levels:
        raise Reject("too_large", f"more than {DEPTH.most_levels} levels")
    return found


class StreamHistory:
    """The history of one numbered stream, as ``service.backfill`` asks it."""

    def __init__(self, rest: RestClient, stream: Stream) -> None:
        self._rest = rest
        self._stream = stream

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> StreamPage:
        """Return events of a symbol in ascending order, from this number on or later. Raises ``Retry``."""
        stream, repair = self._stream, self._stream.repair
        if repair is None:
            raise RuntimeError(f"{stream.name} has no history")
        first = start_of_bar(stream, from_id) if repair.starts_at == "startTime" else from_id
        query = {"symbol": symbol, repair.starts_at: str(first), "limit": str(min(limit + 1, repair.page))}
        if repair.starts_at == "startTime":
            query["interval"] = stream.name.removeprefix("kline_")
        page, _ = await self._rest.get(
            repair.path, query, lambda body: parse_page(stream, symbol, body), weight=repair.weight,
            urgency=Urgency.STREAMS,
        )  # fmt: skip
        return page


class Snapshots:
    """Snapshots of books."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    async def book(self, symbol: str) -> BookSnapshot:
        """Return the best levels of a book. Raises ``Retry``."""
        request = DEPTH.snapshot
        if request is None:
            raise RuntimeError("depth has no snapshot")
        found, _ = await self._rest.get(
            request.path, {"symbol": symbol, "limit": str(request.page)}, parse_snapshot, weight=request.weight,
            urgency=Urgency.STREAMS,
        )  # fmt: skip
        return found
