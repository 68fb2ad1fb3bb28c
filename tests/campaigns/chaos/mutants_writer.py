"""Planted faults of the writer: fencing, take-over, transactions, recycling."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ingest.core import continuity
from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry
from ingest.core.role import Role
from ingest.core.trade import Position
from ingest.kafka import client, positions, transactional_writer
from ingest.kafka.events import Committed, Recycled, TookOver
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.kafka.producer import Message, Timing, TransactionalProducer
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.kafka.writer_thread import WriterThread
from ingest.service.leadership import WriterLeadership
from ingest.service.pipeline import Pipeline
from tests.campaigns.chaos.mutant_table import Patch, mutant, unguarded

# --- fencing and the take-over ---


@mutant("nobody is fenced: every producer has an id of its own", seeds=40, plan="takeovers")
def random_transactional_ids(patch: Patch) -> None:
    numbers, original = itertools.count(), client.producer

    def other(settings: Any, **options: Any) -> dict[str, Any]:
        config = original(settings, **options)
        return {**config, "transactional.id": f"{config['transactional.id']}-{id(config)}-{next(numbers)}"}

    patch(client, "producer", other)


@mutant("the positions are read before the predecessor is fenced", seeds=1000, plan="promotions", first=200)
def positions_read_before_the_fence(patch: Patch) -> None:
    original = TransactionalWriter.take_over

    def take_over(self: TransactionalWriter, deployment_id: str | None) -> Any:
        early = self._broker.read_state()
        event = original(self, deployment_id)
        if isinstance(event, TookOver):
            self.positions = dict(early.positions)
            event = msgspec.structs.replace(event, state=early)
        return event

    patch(TransactionalWriter, "take_over", take_over)


@mutant("a fenced writer takes the id back without looking who writes now", seeds=500, plan="takeovers")
def generation_not_checked(patch: Patch) -> None:
    original = WriterLeadership.on_state_update

    def on_state_update(self: WriterLeadership, update: ShardStateUpdate) -> None:
        writing = self.role in (Role.ACTIVE, Role.FENCED)
        original(self, msgspec.structs.replace(update, writer=None, claimed=0) if writing else update)

    patch(TransactionalWriter, "_superseded", lambda _self, _seen: False)
    patch(
        WriterLeadership, "on_state_update", on_state_update
    )  # else the news of the successor alone would put it right


@mutant(
    "positions are read uncommitted: those of an aborted transaction are believed", seeds=200, plan="killed_in_commit"
)
def positions_read_uncommitted(patch: Patch) -> None:
    original = client.reader

    def other(*arguments: Any, **options: Any) -> dict[str, Any]:
        return {**original(*arguments, **options), "isolation.level": "read_uncommitted"}

    patch(client, "reader", other)


@mutant(
    "a replaced producer trusts memory: what an unknown outcome has committed is written again",
    seeds=1000,
    plan="unanswered",
)
def recycle_without_reading(patch: Patch) -> None:
    original = TransactionalWriter.recycle

    def recycle(self: TransactionalWriter, reason: str) -> Any:
        before = dict(self.positions)
        event = original(self, reason)
        if isinstance(event, Recycled):
            self.positions = before
            state = ShardState(before, event.state.generation, event.state.writer)
            event = msgspec.structs.replace(event, state=state)
        return event

    patch(TransactionalWriter, "recycle", recycle)


@mutant(
    "a lost commit is sent again sooner than a slow commit is noticed (KAFKA-17754)", seeds=3000, plan="late_commits"
)
def hidden_retry_is_quick(patch: Patch) -> None:
    original = client.producer

    def other(settings: Any, **options: Any) -> dict[str, Any]:
        return {**original(settings, **options), "retry.backoff.ms": 100}

    patch(client, "producer", other)


# --- transactions ---


def _split(patch: Patch, *, positions_first: bool) -> None:
    original = TransactionalProducer.transact

    def transact(self: TransactionalProducer, messages: Iterable[Message]) -> Timing:
        parts: tuple[list[Message], list[Message]] = ([], [])
        for message in messages:
            parts[message[0].endswith(".positions") is not positions_first].append(message)
        if parts[0]:
            original(self, iter(parts[0]))
        return original(self, iter(parts[1]))

    patch(TransactionalProducer, "transact", transact)


@mutant("positions are committed in a transaction of their own, after the trades", seeds=40, plan="killed_in_commit")
def positions_outside_the_transaction(patch: Patch) -> None:
    _split(patch, positions_first=False)


@mutant("positions are committed in a transaction of their own, before the trades", seeds=20, plan="killed_in_commit")
def positions_before_the_trades(patch: Patch) -> None:
    _split(patch, positions_first=True)


@mutant("a slow or interrupted commit does not replace the producer (KAFKA-17754)", seeds=2000, plan="late_commits",
        first=270)  # fmt: skip
def no_recycle(patch: Patch) -> None:
    patch(TransactionalProducer, "recycle_reason", lambda _self, _timing: None)


@mutant("a batch whose transaction went wrong counts as committed", seeds=1000, plan="undelivered")
def errors_swallowed(patch: Patch) -> None:
    unguarded(patch)
    original = TransactionalProducer.transact

    def transact(self: TransactionalProducer, messages: Iterable[Message]) -> Timing:
        try:
            return original(self, messages)
        except (Recycle, Retry):
            # So slow that the producer is replaced: one that goes on with a broken producer commits nothing any more,
            # and whoever takes over from it reads the positions, which mends everything.
            return Timing(60.0, 60.0)

    patch(TransactionalProducer, "transact", transact)


@mutant(
    "a batch counts as committed before it is: before delivery reports, before the commit",
    seeds=1000,
    plan="undelivered",
)
def acknowledged_before_the_commit(patch: Patch) -> None:
    advance = unguarded(patch)

    def transact(self: WriterThread, batch: Batch | None) -> None:
        if batch is not None:
            after = advance(self._shard.positions, batch.records, batch.voids, batch.baselines, batch.last_times_us)
            last_ids = {symbol: position.last_id for symbol, position in after.items()}
            self._callback(Committed(self._shard.session, batch, 0.0, 0.0, last_ids))
        try:
            _, doubt = self._shard.write(batch)
        except (Recycle, Fenced, Retry) as error:
            self._on_trouble(error)
            return
        self._last_commit = self._shard._monotonic()
        if doubt is not None:
            self._recycle(doubt, "")

    patch(WriterThread, "_transact", transact)


@mutant("a batch of the time before a recycle is written after it", seeds=10, plan="slow_commits")
def session_not_checked(patch: Patch) -> None:
    unguarded(patch)

    class Any_(int):  # noqa: N801
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    original = WriterThread.write
    patch(WriterThread, "write", lambda self, session, batch: original(self, Any_(session), batch))


@mutant("the stored position is one ahead of the trades", seeds=10, plan="takeovers")
def position_one_ahead(patch: Patch) -> None:
    original = positions.position_record

    def ahead(symbol: str, position: Position) -> Any:
        return original(symbol, Position(position.first_id, position.last_id + 1, position.count))

    patch(transactional_writer, "position_record", ahead)


@mutant("the stored count takes voids for trades", seeds=50, plan="exchange")
def voids_counted_as_trades(patch: Patch) -> None:
    original = continuity._after
    patch(
        continuity,
        "_after",
        lambda before, firsts, next_ids, _voided, times: original(before, firsts, next_ids, {}, times),
    )


@mutant("records have no key: a symbol's trades are spread over the partitions", seeds=10, plan="few")
def keys_dropped(patch: Patch) -> None:
    original = TransactionalWriter._messages

    def messages(self: TransactionalWriter, batch: Batch | None, after: dict[str, Position]) -> Iterator[Message]:
        for topic, key, value, partition in original(self, batch, after):
            yield topic, None if topic == self._topic else key, value, partition

    patch(TransactionalWriter, "_messages", messages)


# --- after a recycle ---


@mutant("after a recycle, what had been handed over is forgotten", seeds=10, plan="slow_commits")
def rewind_forgets(patch: Patch) -> None:
    unguarded(patch)
    patch(Pipeline, "rewind", lambda self, _positions: self.outbox.clear())


@mutant("after a recycle, everything not acknowledged is written again", seeds=60, plan="unanswered")
def rewind_repeats(patch: Patch) -> None:
    unguarded(patch)
    patch(Pipeline, "rewind", lambda self, _positions: self.outbox.rewind({}))
