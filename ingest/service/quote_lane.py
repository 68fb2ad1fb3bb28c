"""The lane of quotes: the latest one by update id, and which times had no listener."""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Protocol

from ingest.core.errors import Reject
from ingest.core.latest import Latest
from ingest.core.market_events import Quote
from ingest.core.trade import Position
from ingest.service.span_lane import SpanLane

TICK_SECONDS: Final = 0.1
"""How often the lanes of books and quotes are looked at."""
SILENT_SECONDS: Final = 1.0
SILENT_QUOTES: Final = 250.0
"""A connection on which so many quotes were due in a silence of at least a second did not deliver meanwhile. In the
recordings at most 69 were due in any silence (BTCUSDT, 73,174 quotes)."""
RATE_SECONDS: Final = 30.0
"""Over which a connection's rate is averaged."""


class Flow:
    """How many quotes a connection delivers a second, and for how long it has been silent.

    Silence is counted in the lane's ticks: a process that was paused has read nothing, and has missed nothing.
    """

    __slots__ = ("at", "rate", "ticks", "wall_us")

    def __init__(self, at: float, wall_us: int) -> None:
        self.at = at
        self.wall_us = wall_us
        self.rate = 0.0
        self.ticks = 0

    def heard(self, count: int, now: float, wall_us: int) -> bool:
        """Note quotes; returns whether so many were due before them that the connection cannot have delivered."""
        silence = self.ticks * TICK_SECONDS
        stalled = silence >= SILENT_SECONDS and silence * self.rate >= SILENT_QUOTES
        if not stalled:
            self.rate = self.rate * math.exp(-(now - self.at) / RATE_SECONDS) + count / RATE_SECONDS
        self.at, self.wall_us, self.ticks = now, wall_us, 0
        return stalled


class Source(Protocol):
    """A connection, as far as it says when it listened; times are those of the loop."""

    name: str
    live_at: float | None
    """When every stream was subscribed; None before."""
    last_frame_at: float

    @property
    def symbols(self) -> set[str]:
        """What it is subscribed to."""


class QuoteLane(SpanLane):
    """All quotes of a shard.

    A connection that opens beside another one counts as listening once the other one was heard after it: only then has
    no time passed without a listener. Until then its quotes are those of the other one, and are not used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sources: dict[str, Source] = {}
        self._proven: set[str] = set()
        self._flows: dict[str, Flow] = {}

    def opened(self, source: Source) -> None:
        """A connection was opened."""
        self._sources[source.name] = source
        self._flows.pop(source.name, None)
        if not self._beside(source):
            self._proven.add(source.name)

    def _beside(self, source: Source) -> list[Source]:
        """The other connections of the same group of symbols."""
        group = source.name[:-1]
        return [one for name, one in self._sources.items() if name[:-1] == group and one is not source]

    def ended(self, source: Source, wall_us: int) -> None:
        """A connection has ended; ``wall_us``: when it was heard last, by the wall clock."""
        if self._sources.get(source.name) is not source:
            return
        others = self._beside(source)
        for other in others:
            self._prove(other)
        del self._sources[source.name]
        self._flows.pop(source.name, None)
        was_proven = source.name in self._proven
        self._proven.discard(source.name)
        continued = any(other.name in self._proven for other in others)
        if was_proven and not continued:
            for symbol in source.symbols:
                state: Latest | None = self.states.get(symbol)
                if state is not None:
                    state.lost(wall_us, "connection")
            self._proven.update(other.name for other in others)

    def _prove(self, source: Source) -> bool:
        if source.name in self._proven:
            return True
        live_at = source.live_at
        proven = live_at is not None and any(
            other.last_frame_at > live_at for other in self._beside(source) if other.name in self._proven
        )
        if proven:
            self._proven.add(source.name)
        return proven

    def usable(self, connection: str, events: list[Quote]) -> list[Quote]:
        """All quotes of a connection that is known to have listened without a gap since the one before."""
        source = self._sources.get(connection)
        if source is None:
            return events
        now, flow = self._monotonic(), self._flows.get(connection)
        if flow is None:
            flow = self._flows[connection] = Flow(now, self._now_us)
        since_us = flow.wall_us
        if flow.heard(len(events), now, self._now_us):
            self._missed(source, source.symbols, since_us, "connection")
        return events if self._prove(source) else []

    def tick(self) -> None:
        """Count how long each connection is silent; every ``TICK_SECONDS``."""
        for flow in self._flows.values():
            flow.ticks += 1

    def _missed(self, source: Source, symbols: Iterable[str], since_us: int | None, reason: str) -> None:
        """A connection has not delivered what it should have, unless another one has meanwhile."""
        if source.name not in self._proven or any(other.name in self._proven for other in self._beside(source)):
            return
        for symbol in symbols:
            state: Latest | None = self.states.get(symbol)
            if state is not None:
                state.lost(since_us, reason)

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Keep the bytes of an unusable message. It may have been a quote, and nothing else would show that."""
        super().on_rejected(connection, raw, error)
        source = self._sources.get(connection)
        if source is not None:
            self._missed(source, source.symbols if error.symbol is None else [error.symbol], None, "unrepresentable")

    def make(self, symbol: str) -> Latest:
        """A new symbol's state."""
        return Latest(
            symbol, release=self._release, contradicted=self.contradicted, jump_limit=self.stream.jump_limit,
            held=self.memory,
        )  # fmt: skip

    def contradicted(self, state: Latest, event: Quote, source: str) -> None:
        """Keep a quote that is not used. It stood for another one, and nothing else would show that."""
        super().contradicted(state, event, source)
        if source not in self._sources:
            state.lost(None, "unrepresentable")

    def take(self, state: Latest, event: Quote, now: float) -> int:
        """Give a quote to its symbol's state."""
        return state.take(event, now, self._connection)

    def _release(self, state: Latest, quote: Quote, broken: bool) -> bool:  # noqa: FBT001 -- of the core's callback
        if not self.room():
            self._counters.count("shed")
            return False
        value = self.encoded(quote)
        if value is None:
            return False
        if broken:
            self._broke(state, quote)
        if crossed(quote):
            self._counters.count("crossed")
        self.put(quote.symbol, "update", quote.trade_id, quote.trade_id, value, self._now_us)
        return True

    def _broke(self, state: Latest, quote: Quote) -> None:
        last_id = state.last_id or 0
        why = {"last_update_id": last_id, "first_update_id": quote.trade_id}
        self.declare(state.symbol, last_id, quote.trade_id, state.since_us, state.reason, why)

    def begin(self, state: Latest, position: Position | None, next_id: int | None) -> None:
        """Let a symbol's quotes be written from now on; ``position.unsynced``: some that were taken were dropped."""
        if position is not None and position.unsynced:
            state.forget()
        state.activate(None if next_id is None else next_id - 1, None if position is None else position.last_time_us)


def crossed(quote: Quote) -> bool:
    """Whether the best bid is not below the best ask. A side without orders has the price 0 [wss]."""
    bid, ask = quote.bid_price, quote.ask_price
    # The exchange pads prices: of two with as many characters the text says which is higher.
    if len(bid) < len(ask) or (len(bid) == len(ask) and bid < ask):
        return False
    return Decimal(bid) >= Decimal(ask) > 0
