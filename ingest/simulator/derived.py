"""The other streams of a symbol: aggregates, block trades, bars, best prices, depth and tickers, each when it is due.

Only what is subscribed is made. A stream has one sequence of events, however many connections have it: all of them get
the same ones.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ingest.simulator.derived_events import Feed, Kind, Made, Sources, kind_of
from ingest.simulator.exchange import Exchange
from ingest.simulator.frames import StreamEvent
from ingest.simulator.ledger import SymbolLedger

RESCAN_S = 1.0
"""How soon a symbol that is listed again has its streams."""


@dataclass(slots=True)
class _Traded:
    """The streams of a symbol that have something to send whenever it is traded."""

    symbol: SymbolLedger
    seen: int = -1
    waiting: bool = False
    feeds: dict[str, tuple[Kind, Feed]] = field(default_factory=dict)


class Derived:
    """Sends what is due of all subscribed streams that are not plain trades."""

    def __init__(self, exchange: Exchange, sources: Sources) -> None:
        self._exchange = exchange
        self._ledger = exchange.ledger
        self._streams = exchange.streams
        self.sources = sources
        self._feeds: dict[str, Feed] = {}
        self._traded: dict[str, _Traded] = {}
        self._timed: list[tuple[float, int, Kind, Feed]] = []
        self._made = 0
        self._rescan_at = 0.0
        self.recorded: set[str] = set()
        """Streams whose events come from a recording and are not made here."""
        self.lag_s: dict[tuple[str, str | None], float] = {}
        """How late the events of a kind are sent, of one symbol or of all (None)."""
        self._late: deque[tuple[float, StreamEvent]] = deque()
        self.sent: dict[str, tuple[int, int]] = {}
        """How many events each stream has had, and the last number that it reached."""
        self._streams.on_subscribed.append(lambda _, added: self._begin(added))

    def poll(self, now: float) -> None:
        """Send what is due; to be called every few milliseconds."""
        if now >= self._rescan_at:
            self._rescan_at = now + RESCAN_S
            self._forget()
            self._begin(self._streams.others)
        for traded in self._traded.values():
            if traded.waiting or traded.seen != traded.symbol.sent_trades:
                self._turn(traded)
        timed = self._timed
        while timed and timed[0][0] <= now:
            due, number, kind, feed = timed[0]
            if self._feeds.get(feed.name) is not feed:
                heapq.heappop(timed)
                continue
            heapq.heapreplace(timed, (max(due, now - kind.every) + kind.every, number, kind, feed))
            self._send(feed, kind.make(self.sources, feed))
        while self._late and self._late[0][0] <= now:
            self._exchange.publish(self._late.popleft()[1])

    def publish(self, event: StreamEvent) -> None:
        """Send an event, later if its stream lags."""
        events, _ = self.sent.get(event.stream, (0, 0))
        self.sent[event.stream] = (events + 1, event.last)
        lag = self._lag(event) if self.lag_s else 0.0
        if not lag and not self._late:
            self._exchange.publish(event)
            return
        due = self._streams.now() + lag
        if self._late and self._late[-1][0] > due:  # in the order of time, whatever the lag was before
            self._late = deque(sorted([*self._late, (due, event)], key=lambda one: one[0]))
        else:
            self._late.append((due, event))

    def _lag(self, event: StreamEvent) -> float:
        kind = event.kind
        return self.lag_s.get((kind, event.symbol.symbol), self.lag_s.get((kind, None), 0.0))

    def _turn(self, traded: _Traded) -> None:
        traded.seen = traded.symbol.sent_trades
        for kind, feed in traded.feeds.values():
            if feed.name in self._streams.others:
                self._send(feed, kind.make(self.sources, feed))
        traded.waiting = any(feed.waiting for _, feed in traded.feeds.values())

    def _send(self, feed: Feed, made: Iterable[Made]) -> None:
        for one in made:
            self.publish(StreamEvent(feed.symbol, feed.name, one.render, last=one.last, final=one.final))

    def _begin(self, names: Iterable[str]) -> None:
        """A feed for each new name that one can be made for; all others are accepted and never send."""
        for name in names:
            owner, _, stream = name.partition("@")
            if name in self._feeds or name in self.recorded or owner != owner.lower():
                continue
            symbol, kind = self._ledger.symbols.get(owner.upper()), kind_of(stream)
            if symbol is not None and kind is not None:
                feed = self._feeds[name] = Feed(name, symbol, kind.begin(self.sources, symbol))
                self._schedule(kind, feed)

    def _schedule(self, kind: Kind, feed: Feed) -> None:
        if kind.every:
            self._made += 1
            heapq.heappush(self._timed, (self._streams.now(), self._made, kind, feed))
            return
        traded = self._traded.get(feed.symbol.symbol)
        if traded is None or traded.symbol is not feed.symbol:
            traded = self._traded[feed.symbol.symbol] = _Traded(feed.symbol)
        traded.feeds[feed.name] = (kind, feed)
        traded.waiting = True

    def _forget(self) -> None:
        """Drop the feeds without a subscriber, and those of symbols that were taken off or listed again."""
        listed = self._ledger.symbols
        for name, feed in list(self._feeds.items()):
            if name in self._streams.others and listed.get(feed.symbol.symbol) is feed.symbol:
                continue
            del self._feeds[name]
            traded = self._traded.get(feed.symbol.symbol)
            if traded is not None:
                traded.feeds.pop(name, None)
                if not traded.feeds:
                    del self._traded[feed.symbol.symbol]
