"""What each stream besides ``@trade`` sends: events made of the ledger, the book, the candles and the block trades."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ingest.simulator.block_trades import BlockTrades
from ingest.simulator.books import Books
from ingest.simulator.klines import INTERVALS, Candle, Candles, bounds, zone_us
from ingest.simulator.ledger import Aggregate, SymbolLedger, decimal
from ingest.simulator.rest_market import DayWindow, average_price, depth, top_text

MOST = 1000
"""Events of one stream in one turn."""
_KLINE = re.compile(rf"kline_({'|'.join(INTERVALS)})(?:@([+-]\d\d:\d\d))?")
Render = Callable[[int], bytes]
"""From the microseconds per unit of time to an event."""


class Made(NamedTuple):
    """An event that is to be sent."""

    render: Render
    last: int = 0
    """The last number it has: an aggregate's id, a block trade's, a book update's, the time at which a bar opens."""
    final: bool = False
    """Whether a bar is closed by it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What events are made of."""

    books: Books
    candles: Callable[[SymbolLedger], Candles]
    blocks: Callable[[SymbolLedger], BlockTrades]
    now_us: Callable[[], int]
    """The market's time: of a replay the recorded one."""
    settled_us: Callable[[], int]
    """Nothing that is traded from now on has an earlier time."""
    recorded: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Rows of the ledger that come from a recording, by the name of their stream."""


@dataclass(slots=True)
class Feed:
    """One subscribed stream; what the fields mean depends on its kind."""

    name: str
    symbol: SymbolLedger
    cursor: int = 0
    last: object = None
    window: DayWindow | None = None
    waiting: bool = False
    """Whether it has something to send in the next turn although nothing is traded meanwhile."""


Make = Callable[[Sources, Feed], Iterator[Made]]


class Kind(NamedTuple):
    """A kind of stream: seconds between two of its turns (0: whenever something is traded), and what makes events."""

    every: float
    begin: Callable[[Sources, SymbolLedger], int]
    """Where its cursor is at the first subscription."""
    make: Make


def kind_of(stream: str) -> Kind | None:
    """The kind of a stream by what follows the symbol in its name; None for one that is never sent."""
    found = _KLINE.fullmatch(stream)
    if found is None:
        return _KINDS.get(stream)
    zone = zone_us(found[2]) if found[2] else 0
    return Kind(1.0 if found[1] == "1s" else 2.0, _from_start, _klines(found[1], zone or 0))


def aggregate_text(one: Aggregate, unit: int) -> str:
    """The fields that an aggregate has in its event and in REST."""
    return (
        f'"a":{one.agg_id},"p":"{decimal(one.price)}","q":"{decimal(one.quantity)}","f":{one.first_id},'
        f'"l":{one.last_id},"T":{one.time_us // unit},"m":{"true" if one.buyer_is_maker else "false"},"M":true'
    )


def depth_text(symbol: str, event_us: int, first: int, last: int, changes: dict[int, int], unit: int) -> bytes:
    """A depth event: on both sides the best price is first."""
    keys = sorted(changes, reverse=True)
    levels = [
        [f'["{decimal(abs(k))}","{decimal(changes[k])}"]' for k in keys if (k > 0) is bid] for bid in (True, False)
    ]
    return (
        f'{{"e":"depthUpdate","E":{event_us // unit},"s":"{symbol}","U":{first},"u":{last},'
        f'"b":[{",".join(levels[0])}],"a":[{",".join(levels[1])}]}}'
    ).encode()


def _from_start(sources: Sources, symbol: SymbolLedger) -> int:
    return 0


def _from_newest_aggregate(sources: Sources, symbol: SymbolLedger) -> int:
    newest = symbol.aggregates(1, newest=True)
    return newest[-1].agg_id + 1 if newest else 0


def _from_book(sources: Sources, symbol: SymbolLedger) -> int:
    return sources.books.of(symbol).update_id


def _from_blocks(sources: Sources, symbol: SymbolLedger) -> int:
    return sources.blocks(symbol).next_id


def _aggregates(sources: Sources, feed: Feed) -> Iterator[Made]:
    """An aggregate is sent once another one follows, or it has not grown since the last turn; then it is complete."""
    symbol, now_us = feed.symbol, sources.now_us()
    found = symbol.aggregates(MOST, from_agg=feed.cursor)
    feed.waiting = len(found) == MOST
    if found and not feed.waiting:
        if found[-1] == feed.last:
            symbol.seal()
        else:
            feed.last = found.pop()
            feed.waiting = True
    for one in found:
        feed.cursor = one.agg_id + 1
        yield Made(
            lambda unit, one=one: (  # type: ignore[misc]
                f'{{"e":"aggTrade","E":{max(now_us, one.time_us) // unit},"s":"{symbol.symbol}",'
                f"{aggregate_text(one, unit)}}}"
            ).encode(),
            one.agg_id,
        )


def _blocks(sources: Sources, feed: Feed) -> Iterator[Made]:
    """Prices and quantities are not padded, as in the documentation's example."""
    now_us = sources.now_us()
    for one in sources.blocks(feed.symbol).page(feed.cursor, MOST):
        feed.cursor = one.block_id + 1
        yield Made(
            lambda unit, one=one: (  # type: ignore[misc]
                f'{{"e":"blockTrade","E":{max(now_us, one.time_us) // unit},"s":"{feed.symbol.symbol}",'
                f'"t":{one.block_id},"p":"{bare(one.price)}","q":"{bare(one.quantity)}","T":{one.time_us // unit},'
                f'"m":{"true" if one.buyer_is_maker else "false"}}}'
            ).encode(),
            one.block_id,
        )


def bare(units: int) -> str:
    """A decimal without padding."""
    return decimal(units).rstrip("0").rstrip(".")


def _book_ticker(sources: Sources, feed: Feed) -> Iterator[Made]:
    book = sources.books.of(feed.symbol)
    for quote in book.quotes(feed.cursor, MOST):
        feed.cursor = quote.update_id
        text = (
            f'{{"u":{quote.update_id},"s":"{feed.symbol.symbol}","b":"{decimal(quote.bid)}",'
            f'"B":"{decimal(quote.bid_quantity)}","a":"{decimal(quote.ask)}","A":"{decimal(quote.ask_quantity)}"}}'
        ).encode()
        yield Made(lambda _, text=text: text, quote.update_id)  # type: ignore[misc]
    feed.waiting = feed.cursor < book.update_id and any(True for _ in book.quotes(feed.cursor, 1))


def _depth(sources: Sources, feed: Feed) -> Iterator[Made]:
    book = sources.books.of(feed.symbol)
    feed.cursor = max(feed.cursor, book.floor_id)  # what is forgotten is lost: the next event does not follow the last
    first, last = feed.cursor + 1, book.update_id
    if last < first:
        return
    changes = book.changes(feed.cursor, last)
    feed.cursor = last
    now_us, symbol = sources.now_us(), feed.symbol.symbol
    yield Made(lambda unit: depth_text(symbol, now_us, first, last, changes, unit), last)


def _partial(levels: int) -> Make:
    def make(sources: Sources, feed: Feed) -> Iterator[Made]:
        text = depth(sources.books.of(feed.symbol), levels)
        if text != feed.last:
            feed.last = text
            yield Made(lambda _: text.encode())

    return make


def _ticker(keys: str) -> Make:
    def make(sources: Sources, feed: Feed) -> Iterator[Made]:
        if (feed.last or 0) == feed.symbol.sent_trades:
            return
        feed.last = feed.symbol.sent_trades
        feed.window = window = feed.window or DayWindow(feed.symbol)
        mini = len(keys) < len(_FULL)
        now_us, top = sources.now_us(), top_text(sources.books.of(feed.symbol))

        def render(unit: int) -> bytes:
            values = json.loads(window.body(now_us, unit, mini=False, top=top))
            fields = ",".join(f'"{key}":{json.dumps(values[_TICKER[key]])}' for key in keys)
            kind = "24hrMiniTicker" if mini else "24hrTicker"
            return f'{{"e":"{kind}","E":{now_us // unit},"s":"{feed.symbol.symbol}",{fields}}}'.encode()

        yield Made(render)

    return make


def _average(sources: Sources, feed: Feed) -> Iterator[Made]:
    now_us = sources.now_us()

    def render(unit: int) -> bytes:
        values = json.loads(average_price(feed.symbol, now_us, unit))
        return (
            f'{{"e":"avgPrice","E":{now_us // unit},"s":"{feed.symbol.symbol}","i":"{values["mins"]}m",'
            f'"w":"{values["price"]}","T":{values["closeTime"]}}}'
        ).encode()

    if feed.symbol.sent_trades:
        yield Made(render)


def _klines(interval: str, zone: int) -> Make:
    """Every candle once it is closed, one after the other, and what has changed of the one that is open."""

    def make(sources: Sources, feed: Feed) -> Iterator[Made]:
        if not feed.symbol.sent_trades:
            return
        now_us, settled_us = sources.now_us(), sources.settled_us()
        candles, symbol = sources.candles(feed.symbol), feed.symbol.symbol

        def made(candle: Candle, *, closed: bool) -> Made:
            return Made(
                lambda unit: candle.event(symbol, interval, now_us, unit, closed=closed), candle.open_us, closed
            )

        opened, closed = bounds(now_us, interval, zone)
        last = feed.last if isinstance(feed.last, Candle) else None
        for _ in range(MOST):
            if last is None or last.open_us >= opened or settled_us <= last.close_us:
                break
            yield made(candles.candle(last.open_us, last.close_us), closed=True)
            after = bounds(last.close_us + 1, interval, zone)
            last = None if after[0] >= opened else candles.candle(*after)
            feed.last = last
        if last is None or last.open_us == opened:
            candle = candles.candle(opened, closed)
            if candle != last:
                yield made(replace(candle), closed=False)
            feed.last = replace(candle)

    return make


_FULL = "pPwxcQbBaAohlvqOCFLn"
_TICKER = {
    "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice", "c": "lastPrice",
    "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty", "o": "openPrice", "h": "highPrice",
    "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime", "C": "closeTime", "F": "firstId",
    "L": "lastId", "n": "count",
}  # fmt: skip

_KINDS: dict[str, Kind] = {
    "aggTrade": Kind(0.0, _from_newest_aggregate, _aggregates),
    "blockTrade": Kind(0.0, _from_blocks, _blocks),
    "bookTicker": Kind(0.0, _from_book, _book_ticker),
    "depth": Kind(1.0, _from_book, _depth),
    "depth@100ms": Kind(0.1, _from_book, _depth),
    **{f"depth{levels}": Kind(1.0, _from_start, _partial(levels)) for levels in (5, 10, 20)},
    **{f"depth{levels}@100ms": Kind(0.1, _from_start, _partial(levels)) for levels in (5, 10, 20)},
    "miniTicker": Kind(1.0, _from_start, _ticker("cohlvq")),
    "ticker": Kind(1.0, _from_start, _ticker(_FULL)),
    "avgPrice": Kind(1.0, _from_start, _average),
}
