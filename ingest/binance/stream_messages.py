"""Frame bytes of the streams besides the trades into their events. Pure.

A frame costs one typed decode. What that refuses is looked at again like a frame of trades: a reply, a notice, or
damage, which ``Reject`` describes with the symbol where it can be read from the name of the stream.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from ingest.binance import messages
from ingest.binance.messages import Unknown
from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, DepthUpdate, Quote
from ingest.core.streams import AGG_TRADE, BLOCK_TRADE, BOOK_TICKER, DEPTH, TRADE, Stream, bar_number
from ingest.core.trade import Trade, WireInt, WireText

_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_T = TypeVar("_T")
_IdOrNone = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]


class Passing(msgspec.Struct, frozen=True):
    """An event of the stream that states nothing final: a bar that is still open."""


Decode = Callable[[bytes], Any]


class _BarBody(msgspec.Struct, gc=False):
    t: WireInt
    T: WireInt
    i: WireText
    f: _IdOrNone
    L: _IdOrNone
    o: WireText
    c: WireText
    h: WireText
    l: WireText  # noqa: E741 -- the exchange's name
    v: WireText
    n: WireInt
    x: bool
    q: WireText
    V: WireText
    Q: WireText


class _Bar(msgspec.Struct, gc=False, tag_field="e", tag="kline"):
    s: WireText
    k: _BarBody
    E: WireInt = 0


class _Wrapped(msgspec.Struct, Generic[_T]):
    data: _T
    stream: str = ""


class _Name(msgspec.Struct):
    stream: str = ""


_name = msgspec.json.Decoder(_Name).decode


class StreamFormat(msgspec.Struct, frozen=True):
    """How a stream's frames are read: ``decode`` raises ``Reject`` and nothing else; ``event`` is what it returns."""

    stream: Stream
    event: type[Any]
    decode: Decode


def number_of_bar(stream: Stream, open_us: int) -> int:
    """A bar's number (see ``core.streams.bar_number``). Raises ``Reject`` for a time that is none."""
    try:
        opens = _EPOCH + timedelta(microseconds=open_us)
    except OverflowError as error:
        raise Reject("implausible_time", f"opening time {open_us}") from error
    return bar_number(stream.stride_us, opens.year, opens.month, open_us)


def format_of(stream: Stream) -> StreamFormat:
    """The format of a stream."""
    if stream is TRADE:
        return StreamFormat(stream, Trade, messages.decode)
    if stream.stride_us or stream.name.startswith("kline"):
        return StreamFormat(stream, Bar, _bar_decoder(stream))
    kinds: dict[str, type[Any]] = {
        AGG_TRADE.name: AggTrade, BLOCK_TRADE.name: BlockTrade, BOOK_TICKER.name: Quote, DEPTH.name: DepthUpdate,
    }  # fmt: skip
    event = kinds[stream.name]
    typed = msgspec.json.Decoder(_Wrapped[event]).decode  # type: ignore[valid-type]
    check = _check_depth if stream is DEPTH else None

    def decode(frame: bytes) -> Any:
        try:
            found = typed(frame).data
        except _DAMAGED as error:
            return _other(stream, frame, error)
        if check is not None:
            check(found)
        return found

    return StreamFormat(stream, event, decode)


def _check_depth(update: DepthUpdate) -> None:
    if update.first_id > update.trade_id:
        raise Reject(
            "implausible_range", f"U {update.first_id} above u {update.trade_id}", symbol=update.symbol,
            trade_id=update.trade_id,
        )  # fmt: skip
    if max(len(update.bids), len(update.asks)) > DEPTH.most_levels:
        raise Reject("too_large", f"more than {DEPTH.most_levels} levels", symbol=update.symbol)


def _bar_decoder(stream: Stream) -> Decode:
    typed = msgspec.json.Decoder(_Wrapped[_Bar]).decode

    def decode(frame: bytes) -> Any:
        try:
            found = typed(frame).data
        except _DAMAGED as error:
            return _other(stream, frame, error)
        body = found.k
        if not body.x:
            return Passing()
        if stream.wire != f"kline_{body.i}":
            raise Reject("wrong_type", f"interval {body.i} in {stream.wire}", symbol=found.s)
        figures = (body.o, body.h, body.l, body.c, body.v, body.q, body.V, body.Q)
        number = number_of_bar(stream, body.t)
        return Bar(found.s, body.i, number, body.t, body.T, figures, body.n, body.f, body.L, found.E)

    return decode


def _other(stream: Stream, frame: bytes, error: Exception) -> Any:
    """What else a frame may be. Raises ``Reject`` for a damaged frame of the stream itself."""
    event = messages.decode(frame)
    try:
        name = _name(frame).stream
    except _DAMAGED:
        name = ""
    symbol, _, wire = name.partition("@")
    if isinstance(event, Unknown) and wire == stream.wire:
        reason = "missing_field" if "missing required field" in str(error) else "wrong_type"
        raise Reject(reason, f"{error}"[:200], symbol=symbol.upper()[:64]) from error
    return event
