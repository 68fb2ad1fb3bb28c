"""Compares what this shadow would have written with what the writer committed, record by record and in both directions.

Every field must agree. Both sides arrive in any order and wait until they meet. A record that does not meet its other
half is counted: ``never_received`` for a committed record that this instance did not receive, ``never_committed`` for
a received trade that the writer did not commit. It is counted after ``HORIZON_SECONDS`` where the other side has gone
past it, to a later id of the symbol or to what came later, and after ``LATE_SECONDS`` where that side may still be on
its way to it (a busy machine). Records from before either side began are not counted.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade, delivered_at
from ingest.metrics import Metrics

KEPT_EXAMPLES = 20
"""The first mismatches and the first missing records are kept for the report."""
MOST_SYMBOLS = 20_000
"""Symbols of the topic that are compared; records of further ones count as unreadable."""
HORIZON_SECONDS = 10.0
"""A record that has waited this long is counted as missing on the other side, if that has gone past it."""
LATE_SECONDS = 30.0
"""A record that has waited this long is counted as missing on the other side, whatever that has."""
ABREAST_SECONDS = 1.0
"""What came this much later than a record has been met: the other side has gone past that record."""
SETTLE_SECONDS = 5.0
"""A symbol of which a side has seen nothing is expected on that side this long after the side's first record."""
CLOCK_US = 5_000_000
"""Tolerance between two hosts' clocks, and between two deliveries of one trade."""
INGESTION = "ingestion_timestamp"
ABSENT = "absent"
RECEIVE, EVENT = "receive_timestamp", "event_timestamp"
"""Times of the delivery, compared with a tolerance where both sides received the trade from the stream."""
REQUIRED = frozenset({
    "message_id", "trade_id", "symbol", "exchange", "asset_class", "timestamp", "price", "quantity",
    "currency", "side", "trade_conditions", "source_sequence", "ingestion_timestamp", "platform_sequence",
    "vendor_data",
})  # fmt: skip
"""Fields that every version's records have. A newer version may add fields, none may lose one."""
TOGETHER_US = 200_000
"""Two sides that read a trade within so long of each other both have it from the stream, as a rule."""
UNSENT_SHARE, UNSENT_LEAST = 0.05, 200
"""So many records without the time of sending, of those that both sides read together, may come from history."""

Key = tuple[str, int]
T = TypeVar("T")


class Encoder(Protocol):
    """Encodes what the shadow would write."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        """Return the value; raises ``Reject``."""

    def received(self, receive_us: int) -> None:
        """Note when what is encoded from now on was read."""


Read = Callable[[bytes], Mapping[str, Any] | None]
"""Decodes a record's value; None if its schema is not known yet, ``ValueError`` if it is not a trade record."""


class Mismatch(msgspec.Struct, frozen=True):
    """One record that differs: field -> (ours, the writer's), as text."""

    symbol: str
    trade_id: int
    fields: dict[str, tuple[str, str]]


class _Received(msgspec.Struct, frozen=True):
    trade: Trade
    at_us: int
    read_us: int
    """When its bytes were read, as this side would write it: noted at once, the trade's own time is changed later."""


class _Side(Generic[T]):
    """One side's records that wait for the other side's."""

    def __init__(self, limit: int) -> None:
        self.waiting: dict[Key, tuple[float, T]] = {}
        self.first: dict[str, int] = {}
        """Symbol -> the first id seen on this side."""
        self.last: dict[str, int] = {}
        """Symbol -> the highest id seen on this side."""
        self.began: float | None = None
        self.reached = float("-inf")
        """When that came to the other side up to which this side is: of what has met, the latest."""
        self.missing = 0
        self.examples: list[Key] = []
        self._limit = limit
        self._overdue: dict[Key, None] = {}

    def note(self, key: Key, now: float) -> None:
        """Record that this side has seen the key."""
        self.began = now if self.began is None else self.began
        self.first.setdefault(key[0], key[1])
        self.last[key[0]] = max(key[1], self.last.get(key[0], -1))

    def meet(self, key: Key, now: float, other: "_Side[Any]") -> T | None:
        """Remove and return the waiting record, because its other half has come to ``other``."""
        found = self.waiting.pop(key, None)
        if found is None:
            return None
        other.reached = max(other.reached, found[0])
        self.reached = max(self.reached, now)
        return found[1]

    def was_overdue(self, key: Key) -> bool:
        """Whether the key has been counted as missing; a late arrival is not counted again."""
        return self._overdue.pop(key, 0) is None

    def add(self, key: Key, now: float, value: T) -> None:
        """Let a record wait."""
        self.waiting[key] = (now, value)

    def expire(self, now: float, other: "_Side[Any]") -> int:
        """Remove what has waited too long; return how much of it the other side should have had."""
        counted = 0
        while self.waiting:
            key = next(iter(self.waiting))
            arrived = self.waiting[key][0]
            horizon = HORIZON_SECONDS if other.has_passed(key, arrived) else LATE_SECONDS
            # The oldest alone is looked at: what waits behind a late one is counted once that is.
            if now - arrived < horizon and len(self.waiting) <= self._limit:
                break
            del self.waiting[key]
            if other.should_have(key, arrived):
                counted += 1
                self._count(key)
        return counted

    def has_passed(self, key: Key, arrived: float) -> bool:
        """Whether this side has seen a later id of the symbol, or what arrived later on the other side."""
        return self.last.get(key[0], -1) > key[1] or self.reached > arrived + ABREAST_SECONDS

    def should_have(self, key: Key, arrived: float) -> bool:
        """Whether this side must have seen a record that arrived on the other side then."""
        first = self.first.get(key[0])
        if first is not None:
            return key[1] > first
        return self.began is not None and arrived > self.began + SETTLE_SECONDS

    def _count(self, key: Key) -> None:
        self.missing += 1
        self._overdue[key] = None
        if len(self._overdue) > self._limit:
            del self._overdue[next(iter(self._overdue))]
        if len(self.examples) < KEPT_EXAMPLES:
            self.examples.append(key)


class Comparison:
    """Compares while this instance is a shadow. All calls on the loop."""

    def __init__(
        self,
        encoder: Encoder,
        read: Read,
        metrics: Metrics,
        *,
        limit: int,
        owns: Callable[[str], bool],
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
    ) -> None:
        """``limit``: records of each side that may wait for their other half.

        ``owns``: whether this shard records a symbol. All shards write to the topic; others' records are passed over.
        """
        self._owns = owns
        self._encode = encoder.encode
        self._received = encoder.received
        self._read = read
        self._metrics = metrics
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._ours: _Side[_Received] = _Side(limit)
        self._theirs: _Side[bytes] = _Side(limit)
        self._streamed = 0
        self._unsent = 0
        """Records of which one side lacks the time of sending, of those that both sides read at the same time."""
        self.compared = 0
        self.mismatched = 0
        self.unreadable = 0
        self.mismatches: list[Mismatch] = []

    @property
    def never_committed(self) -> int:
        """Trades received here that the writer has not committed in time."""
        return self._ours.missing

    @property
    def never_received(self) -> int:
        """Records of the writer that have not been received here in time."""
        return self._theirs.missing

    def offer(self, trades: list[Trade]) -> None:
        """Take what this instance has received."""
        now, now_us = self._monotonic(), self._time_ns() // 1000
        for trade in trades:
            key = (trade.symbol, trade.trade_id)
            self._ours.note(key, now)
            received = _Received(trade, now_us, trade.receive_time_us or now_us)
            value = self._theirs.meet(key, now, self._ours)
            if value is not None:
                self._compare(received, value)
            elif key in self._ours.waiting or trade.trade_id <= self._theirs.last.get(trade.symbol, -1):
                self._theirs.was_overdue(key)  # a second or a late delivery
            else:
                self._ours.add(key, now, received)
        self.expire()

    def committed(self, records: list[tuple[bytes, bytes]]) -> None:
        """Take what the writer has committed: (key, value)."""
        for key, value in records:
            symbol = key.decode("utf-8", "replace")
            if not self._owns(symbol):
                continue
            try:
                fields = self._read(value)
            except ValueError:
                self.unreadable += 1
                self._metrics.shadow_unreadable.inc()
                continue
            if fields is not None:
                self._one((symbol, int(fields["source_sequence"] or 0)), value)
        self.expire()

    def _one(self, key: Key, value: bytes) -> None:
        symbol, trade_id = key
        if symbol not in self._theirs.last and len(self._theirs.last) >= MOST_SYMBOLS:
            self.unreadable += 1
            self._metrics.shadow_unreadable.inc()
            return
        now = self._monotonic()
        self._theirs.note(key, now)
        received = self._ours.meet(key, now, self._theirs)
        if received is not None:
            self._compare(received, value)
        elif not self._ours.was_overdue(key) and trade_id >= self._ours.first.get(symbol, -1):
            self._theirs.add(key, now, value)

    def expire(self) -> None:
        """Count what has waited too long."""
        now = self._monotonic()
        self._metrics.shadow_never_committed.inc(self._ours.expire(now, self._theirs))
        self._metrics.shadow_never_received.inc(self._theirs.expire(now, self._ours))

    def _compare(self, received: _Received, value: bytes) -> None:
        self.compared += 1
        self._metrics.shadow_compared.inc()
        theirs = self._read(value)
        if theirs is None:
            raise ValueError("a record that was read once cannot be read again")
        ingestion_us = int(theirs[INGESTION])
        fields = self._fields(received.trade, value, theirs, ingestion_us) or {}
        # A trade is ingested after the exchange has sent it and before its commit is seen.
        earliest, latest = received.at_us - CLOCK_US, self._time_ns() // 1000 + CLOCK_US
        if not earliest <= ingestion_us <= latest:
            fields[INGESTION] = (f"{earliest} to {latest}", repr(ingestion_us))
        fields |= self._delivery(received, theirs, ingestion_us)
        if fields:
            self._differ(received.trade, fields)

    def _delivery(
        self, received: _Received, theirs: Mapping[str, Any], ingestion_us: int
    ) -> dict[str, tuple[str, str]]:
        """When the exchange sent it and when the writer read it, against the trade and what this side has."""
        trade, event, receive = received.trade, theirs.get(EVENT), theirs.get(RECEIVE)
        fields: dict[str, tuple[str, str]] = {}
        earliest, latest = trade.trade_time_us - CLOCK_US, ingestion_us + CLOCK_US
        if event is not None and trade.event_time_us:
            # Both from the stream: two deliveries of one trade.
            if abs(event - trade.event_time_us) > CLOCK_US:
                fields[EVENT] = (repr(trade.event_time_us), repr(event))
            earliest, latest = received.read_us - CLOCK_US, min(latest, received.read_us + CLOCK_US)
        elif event is not None and not earliest <= event <= latest:
            fields[EVENT] = (f"{earliest} to {latest}", repr(event))
        if receive is None:
            # A writer of an older version has no such field; one that has it always knows when it read a trade.
            if RECEIVE in theirs and trade.event_time_us and event is not None:
                fields[RECEIVE] = (repr(received.read_us), ABSENT)
        elif not earliest <= receive <= latest:
            fields[RECEIVE] = (f"{earliest} to {latest}", repr(receive))
        return fields | self._sent(received, theirs)

    def _sent(self, received: _Received, theirs: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """One side has the time of sending; the other has none, and came from the stream all the same."""
        ours, receive = received.trade.event_time_us or None, theirs.get(RECEIVE)
        if EVENT not in theirs or (ours is None and theirs[EVENT] is None):
            return {}
        if receive is not None and abs(receive - received.read_us) > TOGETHER_US:
            return {}
        self._streamed += 1
        if ours is not None and theirs[EVENT] is not None:
            return {}
        self._unsent += 1
        # A single one may have been read from history just after it was traded, on a reconnection.
        if self._unsent <= max(UNSENT_LEAST, UNSENT_SHARE * self._streamed):
            return {}
        return {EVENT: (repr(ours or ABSENT), repr(theirs[EVENT] or ABSENT))}

    def _fields(
        self, trade: Trade, value: bytes, theirs: Mapping[str, Any], ingestion_us: int
    ) -> dict[str, tuple[str, str]] | None:
        """The fields that differ; None if the records agree."""
        # Local times and those of another delivery are judged apart (``_delivery``): here they are taken over.
        self._received(theirs.get(RECEIVE) or 0)
        trade = delivered_at(trade, theirs.get(EVENT) or 0)
        try:
            ours_value = self._encode(trade, ingestion_us)
        except Reject as error:
            return {"record": (str(error), "committed")}
        if ours_value == value:
            return None
        try:
            ours = self._read(ours_value) or {}
        except ValueError as error:
            return {"record": (f"unreadable: {error}", "committed")}
        names = ours.keys() | theirs.keys()
        if ours_value[:5] != value[:5]:
            # The later schema may have more fields; none may be gone that the earlier one has, and no required one.
            earlier = ours if ours_value[:5] < value[:5] else theirs
            names = earlier.keys() | (names & REQUIRED)
        fields = {
            name: (repr(ours.get(name, ABSENT)), repr(theirs.get(name, ABSENT)))
            for name in sorted(names)
            if ours.get(name, ABSENT) != theirs.get(name, ABSENT)
        }
        return fields if fields or ours_value[:5] == value[:5] else None

    def _differ(self, trade: Trade, fields: dict[str, tuple[str, str]]) -> None:
        self.mismatched += 1
        self._metrics.shadow_mismatch.inc()
        if len(self.mismatches) < KEPT_EXAMPLES:
            shown = {name: (ours[:100], theirs[:100]) for name, (ours, theirs) in fields.items()}
            self.mismatches.append(Mismatch(trade.symbol, trade.trade_id, shown))

    def as_dict(self) -> dict[str, Any]:
        """The state for ``/status``."""
        self.expire()
        return {
            "compared": self.compared,
            "mismatched": self.mismatched,
            "waiting": {"received": len(self._ours.waiting), "committed": len(self._theirs.waiting)},
            "never_committed": self.never_committed,
            "never_received": self.never_received,
            "unreadable": self.unreadable,
            "mismatches": msgspec.to_builtins(self.mismatches),
            "missing": {
                "never_committed": [list(key) for key in self._ours.examples],
                "never_received": [list(key) for key in self._theirs.examples],
            },
        }
