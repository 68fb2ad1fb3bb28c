"""A broker in memory with the semantics of Kafka's transactions v1: what librdkafka speaks.

What matters here and what most fakes leave out: an EndTxn carries no transaction's number, so one that arrives late
ends whatever transaction its producer has open by then (KAFKA-17754); a new epoch fences what an old one still has in
flight; a reader of committed records stops before the first open transaction.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

from tests.campaigns.deterministic.scheduler import VirtualTime

Place = tuple[str, int]


class Outcome(enum.Enum):
    """How a transaction stands."""

    OPEN = 1
    COMMITTED = 2
    ABORTED = 3


class Transaction:
    """One transaction of one producer epoch."""

    __slots__ = ("outcome", "places")

    def __init__(self) -> None:
        self.outcome = Outcome.OPEN
        self.places: set[Place] = set()


class Record(NamedTuple):
    """One record in a partition's log."""

    key: bytes | None
    value: bytes
    transaction: Transaction


class Code(enum.Enum):
    """What the broker answers."""

    OK = 1
    FENCED = 2
    INVALID_STATE = 3


class Coordinator:
    """What is known of one transactional id."""

    def __init__(self) -> None:
        self.epoch = -1
        self.open: Transaction | None = None
        self.last = Outcome.COMMITTED
        self.applied: set[int] = set()
        """Numbers of produce requests of the present epoch: a second one of the same number changes nothing."""


class Broker:
    """One broker, one leader of everything."""

    def __init__(self, world: VirtualTime, *, transaction_timeout: float) -> None:
        self._world = world
        self._timeout = transaction_timeout
        self._coordinators: dict[str, Coordinator] = {}
        self.logs: dict[Place, list[Record]] = {}
        self.up = True
        self.frozen_until = 0.0
        self.listeners: list[Callable[[], None]] = []
        """Called when something may have become visible."""
        self.late_ends = 0
        """EndTxn requests that ended a transaction they were not meant for."""

    def _at(self, transactional_id: str) -> Coordinator:
        return self._coordinators.setdefault(transactional_id, Coordinator())

    def init(self, transactional_id: str) -> int | None:
        """InitProducerId: end and fence the predecessor; returns the new epoch.

        None (concurrent transactions) where a transaction had to be aborted first: the predecessor is fenced, and who
        asks again gets an epoch of his own.
        """
        known = self._at(transactional_id)
        aborted = known.open is not None
        self._end(known, Outcome.ABORTED)
        known.epoch += 1
        known.applied.clear()
        return None if aborted else known.epoch

    def produce(
        self,
        transactional_id: str,
        epoch: int,
        number: int,
        records: list[tuple[Place, bytes | None, bytes]],
        added: set[Place],
    ) -> Code:
        """AddPartitionsToTxn for places that the client has not ``added`` in this transaction, then Produce."""
        known = self._at(transactional_id)
        if epoch != known.epoch:
            return Code.FENCED
        if number in known.applied:
            return Code.OK
        for place, _, _ in records:
            if place in added:
                if known.open is None or place not in known.open.places:
                    return Code.INVALID_STATE  # partition verification: no such transaction is open (any more)
            else:
                if known.open is None:
                    self._open(known)
                assert known.open is not None
                known.open.places.add(place)
        assert known.open is not None
        for place, key, value in records:
            self.logs.setdefault(place, []).append(Record(key, value, known.open))
        known.applied.add(number)
        return Code.OK

    def _open(self, known: Coordinator) -> None:
        transaction = known.open = Transaction()

        def expire() -> None:
            if known.open is transaction:
                self._end(known, Outcome.ABORTED)
                known.epoch += 1  # and whoever had it open is fenced

        self._world.after(self._timeout, None, expire)

    def end(self, transactional_id: str, epoch: int, meant: Transaction | None = None) -> Code:
        """EndTxn (commit). ``meant`` is for the books only: Kafka does not know it, either."""
        known = self._at(transactional_id)
        if epoch != known.epoch:
            return Code.FENCED
        if known.open is None:
            return Code.OK if known.last is Outcome.COMMITTED else Code.INVALID_STATE
        if meant is not None and meant is not known.open:
            self.late_ends += 1
        self._end(known, Outcome.COMMITTED)
        return Code.OK

    def present(self, transactional_id: str) -> Transaction | None:
        """The open transaction, for the books."""
        return self._at(transactional_id).open

    def _end(self, known: Coordinator, outcome: Outcome) -> None:
        if known.open is not None:
            known.open.outcome = known.last = outcome
            known.open = None
            for listener in list(self.listeners):
                listener()

    def read(self, place: Place, start: int, *, committed: bool = True) -> tuple[list[Record], int]:
        """Visible records from an offset on, and the offset behind them."""
        log = self.logs.get(place, [])
        found: list[Record] = []
        at = start
        while at < len(log):
            record = log[at]
            if committed:
                if record.transaction.outcome is Outcome.OPEN:
                    break
                if record.transaction.outcome is Outcome.COMMITTED:
                    found.append(record)
            else:
                found.append(record)
            at += 1
        return found, at
