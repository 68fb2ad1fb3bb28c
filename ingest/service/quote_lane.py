"""The lane of quotes: the latest one by update id, and which times had no listener."""

from typing import Any, Protocol

from ingest.core.latest import Latest
from ingest.core.market_events import Quote
from ingest.core.trade import Position
from ingest.service.span_lane import SpanLane


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

    def opened(self, source: Source) -> None:
        """A connection was opened."""
        self._sources[source.name] = source
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
        return events if source is None or self._prove(source) else []

    def make(self, symbol: str) -> Latest:
        """A new symbol's state."""
        return Latest(symbol, release=self._release)

    def take(self, state: Latest, event: Quote, now: float) -> int:
        """Give a quote to its symbol's state."""
        del now
        return state.take(event)

    def _release(self, state: Latest, quote: Quote, broken: bool) -> bool:  # noqa: FBT001 -- of the core's callback
        if not self.room():
            self._counters.count("shed")
            return False
        value = self.encoded(quote)
        if value is None:
            return False
        if broken:
            self._broke(state, quote)
        self.put(quote.symbol, "update", quote.trade_id, quote.trade_id, value, self._now_us)
        return True

    def _broke(self, state: Latest, quote: Quote) -> None:
        last_id = state.last_id or 0
        why = {"last_update_id": last_id, "first_update_id": quote.trade_id}
        self.declare(state.symbol, last_id, quote.trade_id, state.since_us, state.reason, why)

    def begin(self, state: Latest, position: Position | None, next_id: int | None) -> None:
        """Let a symbol's quotes be written from now on."""
        state.activate(None if next_id is None else next_id - 1, None if position is None else position.last_time_us)
