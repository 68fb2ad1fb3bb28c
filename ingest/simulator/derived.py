"""The other streams of a symbol: aggregate trades, best prices, depth and tickers, all made from the ledger.

They are there for clients that cross-check trades with them. The book is as made up as that of REST, and agrees with
it: its quantities depend on nothing but the price, so a move of the price is the only thing that changes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ingest.simulator.frames import COMBINED, MICROSECONDS, frame, wrapped
from ingest.simulator.klines import INTERVALS, Candle, Candles, bounds, zone_us
from ingest.simulator.ledger import Ledger, SymbolLedger, decimal
from ingest.simulator.rest_market import DayWindow, average_price, best, depth, last_price, level, units
from ingest.simulator.rules import ExchangeClock
from ingest.simulator.streams import Streams

Render = Callable[[int], bytes]
"""From the microseconds per unit of time to an event."""

_MOST = 1000  # events of one stream in one poll
_MOST_LEVELS = 5000  # of one depth event
_KLINE = re.compile(rf"kline_({'|'.join(INTERVALS)})(?:@([+-]\d\d:\d\d))?")
_Kind = tuple[float, Callable[["_Feed", int], Iterator[Render]]]


@dataclass(slots=True)
class _Feed:
    """One subscribed stream; what the fields mean depends on its kind."""

    symbol: SymbolLedger
    due: float = 0.0
    cursor: int = 0
    price: int = 0
    last: object = None
    window: DayWindow | None = None


class Derived:
    """Sends what is due of all subscribed streams that are not plain trades."""

    def __init__(
        self, ledger: Ledger, streams: Streams, clock: ExchangeClock, candles: Callable[[SymbolLedger], Candles]
    ) -> None:
        self._candles = candles
        self._ledger = ledger
        self._streams = streams
        self._clock = clock
        self._feeds: dict[str, _Feed] = {}
        streams.on_subscribed.append(lambda _, added: self._begin(added))

    def poll(self, now: float) -> None:
        """Send what is due; to be called every few milliseconds."""
        names = self._streams.others
        for name, feed in list(self._feeds.items()):
            relisted = self._ledger.symbols.get(feed.symbol.symbol, feed.symbol) is not feed.symbol
            if name not in names or relisted:
                del self._feeds[name]
        self._begin(names)  # a symbol may have been listed since
        for name, feed in self._feeds.items():
            if now >= feed.due:
                every, make = self._kind(name)
                feed.due = now + every
                for render in make(feed, self._clock.now_us()):
                    self._send(name, render)

    def _begin(self, names: Iterable[str]) -> None:
        """A feed for each new name that one can be made for; all others are accepted and never send."""
        for name in names:
            owner, _, kind = name.partition("@")
            known = kind in _KINDS or _KLINE.fullmatch(kind) is not None
            if name not in self._feeds and known and owner == owner.lower():
                symbol = self._ledger.symbols.get(owner.upper())
                if symbol is not None:
                    self._feeds[name] = _new(symbol)

    def _kind(self, name: str) -> _Kind:
        kind = name.partition("@")[2]
        found = _KLINE.fullmatch(kind)
        if found is None:
            return _KINDS[kind]
        interval, zone = found[1], zone_us(found[2]) if found[2] else 0
        return 1.0 if interval == "1s" else 2.0, _klines(self._candles, interval, zone or 0)

    def _send(self, name: str, render: Render) -> None:
        frames: dict[int, bytes] = {}
        for session in self._streams.listeners(name):
            variant = session.variant & (COMBINED | MICROSECONDS)
            if variant not in frames:
                payload = render(1 if variant & MICROSECONDS else 1000)
                frames[variant] = frame(wrapped(name, payload) if variant & COMBINED else payload)
            session.push(frames[variant])


def _new(symbol: SymbolLedger) -> _Feed:
    newest = symbol.aggregates(1, newest=True)
    return _Feed(symbol, cursor=newest[-1].agg_id + 1 if newest else 0, price=last_price(symbol))


def _aggregates(feed: _Feed, now_us: int) -> Iterator[Render]:
    """An aggregate is sent once another one follows, or it has not grown since the last poll."""
    found = feed.symbol.aggregates(_MOST, from_agg=feed.cursor)
    if found and len(found) < _MOST and found[-1] != feed.last:
        feed.last = found.pop()
    for one in found:
        feed.cursor = one.agg_id + 1
        yield lambda unit, one=one: (  # type: ignore[misc]
            f'{{"e":"aggTrade","E":{max(now_us, one.time_us) // unit},"s":"{feed.symbol.symbol}","a":{one.agg_id},'
            f'"p":"{decimal(one.price)}","q":"{decimal(one.quantity)}","f":{one.first_id},"l":{one.last_id},'
            f'"T":{one.time_us // unit},"m":{"true" if one.buyer_is_maker else "false"},"M":true}}'
        ).encode()


def _book_ticker(feed: _Feed, now_us: int) -> Iterator[Render]:
    top = best(feed.symbol)
    if top != feed.last:
        feed.last = top
        bid, bid_quantity, ask, ask_quantity = top
        text = (
            f'{{"u":{_update_id(feed.symbol)},"s":"{feed.symbol.symbol}","b":"{bid}","B":"{bid_quantity}",'
            f'"a":"{ask}","A":"{ask_quantity}"}}'
        ).encode()
        yield lambda _: text


def _depth(feed: _Feed, now_us: int) -> Iterator[Render]:
    """What lies between the old price and the new one has changed sides; nothing else ever changes."""
    symbol, price, before = feed.symbol, last_price(feed.symbol), feed.price
    update_id = _update_id(symbol)
    first = (feed.last if isinstance(feed.last, int) else update_id) + 1
    if not before or price == before or first > update_id:
        feed.price, feed.last = price, update_id if feed.last is None else feed.last
        return
    tick = units(symbol.tick_size)
    low, high = sorted((before, price))
    low = max(low, high - tick * _MOST_LEVELS)
    moved = [level(symbol, at) for at in range(low + tick, high + 1, tick)]
    gone = ",".join(f'["{at}","{decimal(0)}"]' for at, _ in moved)
    come = ",".join(f'["{at}","{quantity}"]' for at, quantity in moved)
    bids, asks = (come, gone) if price > before else (gone, come)
    feed.price, feed.last = price, update_id
    yield lambda unit: (
        f'{{"e":"depthUpdate","E":{now_us // unit},"s":"{symbol.symbol}","U":{first},"u":{update_id},'
        f'"b":[{bids}],"a":[{asks}]}}'
    ).encode()


def _partial(levels: int) -> Callable[[_Feed, int], Iterator[Render]]:
    def make(feed: _Feed, now_us: int) -> Iterator[Render]:
        text = depth(feed.symbol, levels)
        if text != feed.last:
            feed.last = text
            yield lambda _: text.encode()

    return make


def _ticker(keys: str) -> Callable[[_Feed, int], Iterator[Render]]:
    def make(feed: _Feed, now_us: int) -> Iterator[Render]:
        if (feed.last or 0) == feed.symbol.sent_trades:
            return
        feed.last = feed.symbol.sent_trades
        feed.window = window = feed.window or DayWindow(feed.symbol)
        mini = len(keys) < len(_FULL)

        def render(unit: int) -> bytes:
            values = json.loads(window.body(now_us, unit, mini=False))
            fields = ",".join(f'"{key}":{json.dumps(values[_TICKER[key]])}' for key in keys)
            kind = "24hrMiniTicker" if mini else "24hrTicker"
            return f'{{"e":"{kind}","E":{now_us // unit},"s":"{feed.symbol.symbol}",{fields}}}'.encode()

        yield render

    return make


def _average(feed: _Feed, now_us: int) -> Iterator[Render]:
    def render(unit: int) -> bytes:
        values = json.loads(average_price(feed.symbol, now_us, unit))
        return (
            f'{{"e":"avgPrice","E":{now_us // unit},"s":"{feed.symbol.symbol}","i":"{values["mins"]}m",'
            f'"w":"{values["price"]}","T":{values["closeTime"]}}}'
        ).encode()

    if feed.symbol.sent_trades:
        yield render


def _klines(
    candles: Callable[[SymbolLedger], Candles], interval: str, zone: int
) -> Callable[[_Feed, int], Iterator[Render]]:
    """What has changed of the candle that is open, and once what became of one that is closed."""

    def make(feed: _Feed, now_us: int) -> Iterator[Render]:
        if not feed.symbol.sent_trades:
            return
        opened, closed = bounds(now_us, interval, zone)
        last = feed.last if isinstance(feed.last, Candle) else None
        if last is not None and last.open_us < opened:
            ended = candles(feed.symbol).candle(last.open_us, last.close_us)
            yield lambda unit: ended.event(feed.symbol.symbol, interval, now_us, unit, closed=True)
        candle = candles(feed.symbol).candle(opened, closed)
        if candle != last:
            yield lambda unit: candle.event(feed.symbol.symbol, interval, now_us, unit, closed=False)
        feed.last = replace(candle)

    return make


def _update_id(symbol: SymbolLedger) -> int:
    return symbol.sent_trades * 4 + 1  # as in REST


_FULL = "pPwxcQbBaAohlvqOCFLn"
_TICKER = {
    "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice", "c": "lastPrice",
    "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty", "o": "openPrice", "h": "highPrice",
    "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime", "C": "closeTime", "F": "firstId",
    "L": "lastId", "n": "count",
}  # fmt: skip

_KINDS: dict[str, _Kind] = {
    "aggTrade": (0.0, _aggregates),
    "bookTicker": (0.0, _book_ticker),
    "depth": (1.0, _depth),
    "depth@100ms": (0.1, _depth),
    **{f"depth{levels}": (1.0, _partial(levels)) for levels in (5, 10, 20)},
    **{f"depth{levels}@100ms": (0.1, _partial(levels)) for levels in (5, 10, 20)},
    "miniTicker": (1.0, _ticker("cohlvq")),
    "ticker": (1.0, _ticker(_FULL)),
    "avgPrice": (1.0, _average),
}
"""Seconds between two events, and what makes them."""
