"""What the lanes of books and quotes share: budget, encoding, dead letters and their part of every hand-over.

Their records are never read again by number: what cannot be kept is declared as a break. Under pressure quotes give way
first, then books; trades never wait for them.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from ingest.core.batch import SpanKind
from ingest.core.errors import Reject
from ingest.core.held_events import HeldBytes
from ingest.core.market_events import Break
from ingest.core.pending_batches import PendingBatches
from ingest.core.streams import Priority, Stream, split_name
from ingest.core.trade import DeadLetter, Position
from ingest.service.lane_counters import StreamCounters

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = {Priority.SHED_FIRST: 24 * 1024 * 1024, Priority.SHED_LAST: 48 * 1024 * 1024}
"""Memory of books and quotes together on their way to Kafka, beyond which a stream gives way."""
TRADES_SHARE: Final = {Priority.SHED_FIRST: 0.5, Priority.SHED_LAST: 0.75}
"""And the share of the trades' own room, beyond which it does."""
HELD_EVENTS: Final = 100_000
"""Events of one stream that wait, of all symbols together: a standby's, and those beyond a gap."""
HELD_BYTES_OF_A_TRADE: Final = {Priority.SHED_FIRST: 250, Priority.SHED_LAST: 500}
"""And their memory: so many bytes for each trade that may be in memory. Books may take as much as the trades do."""


class Held(Protocol):
    """One symbol's state."""

    symbol: str
    halted: bool
    waiting: dict[int, Any]

    def drop_oldest(self) -> bool:
        """Make room for one event."""

    def committed(self, last_id: int) -> int:
        """Learn how far the writer is."""

    def deactivate(self) -> None:
        """Hold everything."""


class SpanLane:
    """Base of the lanes of books and quotes. All calls come from the event loop's thread."""

    def __init__(
        self,
        *,
        stream: Stream,
        outbox: PendingBatches,
        counters: StreamCounters,
        room_for: Callable[[], float],
        held_bytes: int,
        dead_letter_max_bytes: int,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
    ) -> None:
        """``room_for``: the share of the trades' room that is in use; ``held_bytes``: for events that wait, at most."""
        self.stream = stream
        self.outbox = outbox
        self._counters = counters
        self._trades_share = room_for
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._encoder: Any = None
        self._connection = ""
        """Where the events come from that are taken."""
        self._now_us = 0
        self._held = 0
        self._held_bytes = held_bytes
        self.memory = HeldBytes()
        """What the events that wait take."""
        self._active = False
        self._positions: dict[str, Position] = {}
        """Of a standby: how far the writer is, by symbol."""
        self._halts_logged: set[str] = set()
        self.states: dict[str, Any] = {}
        """Symbol -> its state."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when a full batch waits."""

    @property
    def held(self) -> int:
        """Events that wait, of all symbols together."""
        return self._held

    @property
    def active(self) -> bool:
        """Whether this instance writes."""
        return self._active

    def use(self, encoder: Any) -> None:
        """Encode with this from now on."""
        self._encoder = encoder

    def name_of(self, symbol: str) -> str:
        """What batches and positions call the sequence of a symbol."""
        return self.stream.sequence_name(symbol)

    # --- events ---

    def on_trades(self, connection: str, trades: list[Any]) -> None:
        """Take the events of one wake-up of a connection (under the name that all feeds call)."""
        self._arrived()
        self._connection = connection
        now, states = self._monotonic(), self.states
        for event in self.usable(connection, trades):
            state = states.get(event.symbol)
            if state is not None:
                self._held += self.take(state, event, now)
                if self._held > HELD_EVENTS or self.memory.total > self._held_bytes:
                    self._make_room(state)
                if state.halted and event.symbol not in self._halts_logged:
                    self._on_halt(event.symbol, event.trade_id)
        if self.outbox.ready():
            self.on_ready()

    def usable(self, connection: str, events: list[Any]) -> list[Any]:
        """The events of a connection that may be used now: all, unless a stream's contract says otherwise."""
        del connection
        return events

    def take(self, state: Any, event: Any, now: float) -> int:
        """Give an event to its symbol's state; returns by how many more events are held."""
        raise NotImplementedError

    def _arrived(self) -> None:
        self._now_us = self._time_ns() // 1000
        if self._encoder is not None:
            self._encoder.received(self._now_us)

    def _make_room(self, state: Held) -> None:
        """Drop the oldest events of the symbol that just held one more."""
        while (self._held > HELD_EVENTS or self.memory.total > self._held_bytes) and state.drop_oldest():
            self._held -= 1
            self._counters.count("shed")

    def _on_halt(self, symbol: str, number: int) -> None:
        self._halts_logged.add(symbol)
        self._counters.halted("id_reset")
        log.error(
            "ids went back: nothing is written for this symbol's %s until they continue; a sequence "
            "that began again needs another topic", self.stream.name,
            extra={"symbol": symbol, "stream": self.stream.name, "update_id": number},
        )  # fmt: skip

    def contradicted(self, state: Any, event: Any, source: str) -> None:
        """Keep an event that is not used: its id is far from the last one, and other events go on from there."""
        detail = (
            f"{self.stream.name} id {event.trade_id} is too far from those before and after it "
            f"(jump limit {state.guard.limit}): one such message "
            "needs no action, many are a fault of the exchange or of what lies between"
        )
        error = Reject("out_of_sequence", detail, symbol=event.symbol, trade_id=event.trade_id)
        self.on_rejected(source or "memory", repr(event).encode(), error)

    def on_rejected(self, connection: str, raw: bytes, error: Reject) -> None:
        """Keep the bytes of an unusable message; what it would have stated shows as missing."""
        self._counters.rejected(error.reason)
        log.warning(
            "rejected a message: %s", error,
            extra={"connection": connection, "symbol": error.symbol, "update_id": error.trade_id},
        )  # fmt: skip
        if self._active:
            letter = DeadLetter(
                reason=error.reason, source=connection, raw=raw[: self._dead_letter_max_bytes],
                detail=error.detail[:500], symbol=error.symbol, trade_id=error.trade_id,
            )  # fmt: skip
            if not self.outbox.add_dead_letter(letter):
                self._counters.letter_dropped()

    # --- records ---

    def room(self) -> bool:
        """Whether one more record may be queued."""
        priority = self.stream.priority
        return self.outbox.span_bytes < QUEUE_BYTES[priority] and self._trades_share() < TRADES_SHARE[priority]

    def put(self, symbol: str, kind: SpanKind, first_id: int, last_id: int, value: bytes, time_us: int) -> None:
        """Queue a record."""
        self.outbox.add_span((self.name_of(symbol), kind, first_id, last_id, value, time_us))

    def encoded(self, event: Any) -> bytes | None:
        """The record of an event; None where there is no exact one, which is counted and kept as a dead letter."""
        if self._encoder is None:
            raise RuntimeError(f"{event.symbol} {event.trade_id}: no encoder yet")
        try:
            value: bytes = self._encoder.encode(event, self._now_us)
        except Reject as error:
            located = Reject(error.reason, error.detail, symbol=event.symbol, trade_id=event.trade_id)
            self.on_rejected("encoder", repr(event).encode(), located)
            return None
        return value

    def declare(self, symbol: str, last_id: int, first_id: int, since_us: int | None, reason: str, why: Any) -> None:
        """Queue a BREAK, before the record of ``first_id``."""
        found = Break(symbol, last_id, first_id, since_us, self._now_us, reason, json.dumps(why, sort_keys=True))
        self.put(symbol, "break", last_id + 1, first_id - 1, self._encoder.encode_break(found, self._now_us), 0)
        self._counters.count("break")
        log.warning(
            "a break of %s is declared", self.stream.name,
            extra={"symbol": symbol, "stream": self.stream.name, "last_id": last_id, "first_id": first_id,
                   "reason": reason},
        )  # fmt: skip

    # --- symbols and roles ---

    def make(self, symbol: str) -> Any:
        """A new symbol's state."""
        raise NotImplementedError

    def begin(self, state: Any, position: Position | None, next_id: int | None) -> None:
        """Let a symbol write from now on, behind its position and what is queued behind that."""
        raise NotImplementedError

    def add(self, symbol: str, last_id: int | None) -> None:
        """Record a symbol from now on (idempotent)."""
        if symbol in self.states:
            return
        state = self.states[symbol] = self.make(symbol)
        if last_id is not None and not self._active:
            state.committed(last_id)
        if self._active:
            position = self._positions.get(symbol)
            self.begin(state, position, None if last_id is None else last_id + 1)

    def remove(self, symbol: str) -> None:
        """Record a symbol no longer. What is queued of it is still written."""
        state = self.states.pop(symbol, None)
        if state is not None:
            self._held -= len(state.waiting)
            state.waiting.clear()
            state.guard.take_back()
        self._halts_logged.discard(symbol)

    def take_up(self, next_ids: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """Become the writer's source: continue behind what Kafka and the batches hold. Both by sequence name."""
        self._active = True
        self._arrived()
        for symbol, state in self.states.items():
            name = self.name_of(symbol)
            before = len(state.waiting)
            self.begin(state, positions.get(name), next_ids.get(name))
            self._held += len(state.waiting) - before

    def go_back(self, broken: Mapping[str, int], positions: Mapping[str, Position]) -> None:
        """After the producer was replaced nothing has to be read again: records stay here until they are committed."""

    def stand_by(self) -> None:
        """Another instance writes now: hold what comes."""
        self._active = False
        for state in self.states.values():
            state.deactivate()

    def pause(self) -> None:
        """Hold what comes until the role changes."""
        self.stand_by()

    def writer_at(self, news: Mapping[str, Position]) -> None:
        """Learn how far the writer is: new positions by sequence name."""
        for name, position in news.items():
            stream, symbol = split_name(name)
            if stream == self.stream.name:
                self._positions[symbol] = position
                state = self.states.get(symbol)
                if state is not None and not self._active:
                    self._held -= state.committed(position.last_id)

    def let_in(self) -> None:
        """Nothing waits for room: without it events are dropped and a break is declared."""

    def last_times(self, names: Iterable[str]) -> dict[str, int]:
        """The spans state their times themselves."""
        del names
        return {}

    def publish(self) -> None:
        """Move counts into the metrics."""
        self._counters.count("duplicate", sum(state.duplicates for state in self.states.values()))
        for state in self.states.values():
            state.duplicates = 0
        halted = [symbol for symbol, state in self.states.items() if state.halted]
        self._halts_logged.intersection_update(halted)
        self._counters.gauges(self._held, self.gaps(), len(halted))

    def gaps(self) -> int:
        """How many symbols wait for something that is missing."""
        return 0
