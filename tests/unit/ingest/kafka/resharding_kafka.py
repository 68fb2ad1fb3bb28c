"""A model of Kafka for writers and runs of ``ingest reshard``, in which others go on between any two steps.

It has what the order of the steps depends on: transactional ids and their epochs, commits that are answered
before their markers are written, readers of committed records that stop before the first open transaction, answers that
are lost. Writers and command are the real code.
"""

import random
import zlib
from collections.abc import Iterator, Sequence

import greenlet  # type: ignore[import-untyped]
import msgspec

from ingest.core.errors import Fenced, Recycle
from ingest.core.trade import DeadLetter
from ingest.kafka.layout_guard import replace_forged, take_back
from ingest.kafka.positions import LayoutRecord, ShardState, ShardStateBuilder
from ingest.kafka.producer import Message, Timing
from ingest.kafka.resharding import Contents
from ingest.kafka.shard_movement import Content

TRADES, POSITIONS = "trades", "trades.positions"
LOCK = "reshard"
TIMEOUT = 15.0
"""The broker aborts an older transaction, and fences whoever had it open."""

Place = tuple[str, int]


def shard_of(symbol: str, shards: int) -> int:
    return zlib.crc32(symbol.encode()) % shards


class Transaction:
    """One transaction: open, then committed or aborted; ``unmarked`` are places whose marker is not written yet."""

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.committed: bool | None = None
        self.places: set[Place] = set()
        self.unmarked: set[Place] = set()


class Killed(BaseException):
    """SIGKILL: nothing of the process runs any more."""


class Kafka:
    """The broker, and the scheduler's clock."""

    def __init__(self, dice: random.Random, partitions: int) -> None:
        self.dice = dice
        self.now = 0.0
        self.partitions = partitions
        self.logs: dict[Place, list[tuple[bytes | None, bytes | None, Transaction]]] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.last: dict[str, Transaction] = {}
        self.markers = dice.choice((0.5, 0.1, 0.02))
        """Rate of markers that are written at a tick."""
        self.uncertain = 0.0
        """Rate of commits whose answer is lost, and which came about or did not."""

    def step(self) -> None:
        """Let others go on; who was killed meanwhile ends here."""
        current = greenlet.getcurrent()
        if getattr(current, "actor", False):
            if not current.killed:
                current.parent.switch()
            if current.killed:
                raise Killed

    def end(self, name: str, *, committed: bool) -> None:
        transaction = self.open.pop(name, None)
        if transaction is not None:
            transaction.committed = committed
            transaction.unmarked = set(transaction.places)
            self.last[name] = transaction

    def mark(self) -> None:
        """Write some markers that are due, and abort transactions that were left open."""
        for name in [name for name, transaction in self.open.items() if transaction.expires < self.now]:
            self.end(name, committed=False)
            self.epochs[name] += 1
        for transaction in self.last.values():
            for place in list(transaction.unmarked):
                if self.dice.random() < self.markers:
                    transaction.unmarked.discard(place)

    def read(self, place: Place, start: int) -> tuple[list[tuple[bytes | None, bytes | None]], int, bool]:
        """Committed records from an offset on, the offset behind them, and whether an open transaction follows."""
        log = self.logs.get(place, [])
        found: list[tuple[bytes | None, bytes | None]] = []
        at = start
        while at < len(log):
            key, value, transaction = log[at]
            if transaction.committed is None or place in transaction.unmarked:
                return found, at, True
            if transaction.committed:
                found.append((key, value))
            at += 1
        return found, at, False


class Producer:
    """A transactional producer."""

    def __init__(self, kafka: Kafka, name: str) -> None:
        self._kafka = kafka
        self._name = name
        self._epoch = -1

    def init(self) -> None:
        kafka, name = self._kafka, self._name
        kafka.step()
        kafka.end(name, committed=False)
        kafka.epochs[name] = mine = kafka.epochs.get(name, 0) + 1
        while name in kafka.last and kafka.last[name].unmarked:
            kafka.step()  # "concurrent transactions"
            if kafka.epochs[name] != mine:
                raise Fenced("by another that began meanwhile")
        self._epoch = mine

    def _require_epoch(self) -> None:
        if self._kafka.epochs.get(self._name) != self._epoch:
            raise Fenced("another epoch")

    def transact(self, messages: Iterator[Message]) -> Timing:
        kafka = self._kafka
        kafka.step()
        self._require_epoch()
        while self._name in kafka.last and kafka.last[self._name].unmarked:
            kafka.step()
            self._require_epoch()
        transaction = kafka.open[self._name] = Transaction(kafka.now + TIMEOUT)
        for topic, key, value, partition in messages:
            if kafka.dice.random() < 0.1:
                kafka.step()
                self._require_epoch()
            place = (topic, max(partition, 0))
            transaction.places.add(place)
            kafka.logs.setdefault(place, []).append((key, value, transaction))
        kafka.step()
        self._require_epoch()
        lost = kafka.dice.random() < kafka.uncertain
        if lost and kafka.dice.random() < 0.5:
            raise Recycle("timeout", "the commit did not arrive")
        kafka.end(self._name, committed=True)
        if lost:
            raise Recycle("timeout", "the answer did not arrive")
        kafka.step()
        return Timing(0.01, 0.02)

    def recycle_reason(self, timing: Timing) -> str | None:
        del timing
        return "slow_commit" if self._kafka.dice.random() < self._kafka.uncertain else None

    def serve(self) -> None:
        pass

    def close(self) -> None:
        pass


class WriterPort:
    """A shard's broker, as a writer sees it."""

    def __init__(self, kafka: Kafka, shard: int) -> None:
        self.kafka = kafka
        self._shard = shard
        self._builder = ShardStateBuilder()
        self._next = 0
        self._unfinished = False

    def open(self) -> Producer:
        return Producer(self.kafka, f"shard-{self._shard}")

    def read_state(self) -> ShardState:
        self.kafka.step()
        records, self._next, self._unfinished = self.kafka.read((POSITIONS, self._shard), self._next)
        for record in records:
            self._builder.apply(*record)
        self.kafka.step()
        state = self._builder.state()
        if state.layout is None and not state.generation and self._shard:  # as ``positions_reader.with_layout``
            first = WriterPort(self.kafka, 0).read_state()
            return msgspec.structs.replace(state, layout=first.layout)
        return state

    def unfinished(self) -> bool:
        return self._unfinished

    def partitions(self) -> int | None:
        return 1

    def recorded_from(self, partition: int, before_ms: int) -> bool:
        raise AssertionError(partition, before_ms)

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        raise AssertionError(letters)

    def wait(self, seconds: float) -> bool:
        del seconds
        self.kafka.step()
        return False

    def give_up(self, layout: LayoutRecord) -> None:
        take_back(
            layout, open_producer=lambda: Producer(self.kafka, LOCK), present=lambda: self.read_state().layout,
            topic=POSITIONS, by="writer", now_us=0,
        )  # fmt: skip

    def restore(self, accepted: LayoutRecord, seen: ShardState) -> None:
        replace_forged(
            accepted, seen, open_producer=lambda: Producer(self.kafka, LOCK), read_state=self.read_state,
            topic=POSITIONS, shard=self._shard,
        )  # fmt: skip


class CommandPort:
    """The same for the command."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._contents: dict[int, Content] = {}
        self._next: dict[int, int] = {}

    def partitions(self) -> int:
        return self._kafka.partitions

    def add_partitions(self, number: int) -> None:
        self._kafka.step()
        self._kafka.partitions = max(self._kafka.partitions, number)

    def read(self) -> Contents:
        unfinished = set()
        for partition in range(self._kafka.partitions):
            self._kafka.step()
            content = self._contents.setdefault(partition, Content())
            found = self._kafka.read((POSITIONS, partition), self._next.get(partition, 0))
            for record in found[0]:
                content.apply(*record)
            self._next[partition] = found[1]
            if found[2]:
                unfinished.add(partition)
        return Contents(dict(self._contents), frozenset(unfinished))

    def open(self, shard: int | None) -> Producer:
        return Producer(self._kafka, LOCK if shard is None else f"shard-{shard}")

    def fence(self, shards: Sequence[int]) -> None:
        """One after the other, in any order."""
        left = list(shards)
        while left:
            shard = left.pop(self._kafka.dice.randrange(len(left)))
            try:
                self.open(shard).init()
            except Fenced:
                left.append(shard)

    def wait(self, seconds: float) -> None:
        del seconds
        self._kafka.step()
