"""The exactly-once protocol, step by step and without a thread: take over, write, recycle, notice a successor.

It speaks to Kafka through two narrow ports, so that the same code runs on the real broker and, thousands of times a
minute, on a model of one.
"""

import logging
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import UNSET

from ingest.core.batch import Batch
from ingest.core.continuity import advance_spans, validate_and_advance_positions
from ingest.core.errors import Fenced, Recycle, Retry
from ingest.core.stage_timer import StageTimer
from ingest.core.streams import TRADE, split_name
from ingest.core.trade import Position
from ingest.kafka.events import Committed, Recycled, Superseded, TookOver
from ingest.kafka.partition_claim import confirmed_partitions
from ingest.kafka.position_records import HANDOVER_COUNTS, MOST_GENERATION, WRITER, LayoutRecord
from ingest.kafka.positions import (
    HandoverRecord,
    ShardState,
    WriterRecord,
    handover_record,
    layout_record,
    position_record,
    symbols_record,
    void_record,
    writer_record,
)
from ingest.kafka.producer import Message, Timing
from ingest.kafka.transaction_pacing import SLOW_SECONDS, TransactionSize, split, weight
from ingest.kafka.writer_ports import BrokerPort, LayoutCheck, ProducerPort, any_layout

log = logging.getLogger(__name__)

FENCED_WAIT_SECONDS = 3.0
"""A fenced writer gives its successor this long to record its generation before it takes the id back."""


class TransactionalWriter:
    """What one instance knows about being the writer. Every method runs on one thread."""

    def __init__(
        self,
        broker: BrokerPort,
        *,
        topic: str,
        positions_topic: str,
        shard: int,
        shards: int | None = None,
        instance: str,
        accepted_partitions: int | None = None,
        stream_topics: Mapping[str, str] | None = None,
        topic_id: Callable[[], str | None] = lambda: None,
        on_recreated: Callable[[str], None] = lambda _: None,
        require_layout: LayoutCheck = any_layout,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
    ) -> None:
        """``accepted_partitions``: the trades topic may have so many, whatever its records were written to.

        ``stream_topics``: stream -> topic, of the streams besides the trades.

        ``topic_id`` returns the id of the trades topic once it is known; ``on_recreated`` is called with the id of the
        topic that the predecessor wrote to, if it was another one.

        ``shards``: how many there are. ``require_layout``, called behind each ``init``, raises ``Retry`` or ``Stop``
        if their stored number forbids to write.
        """
        self._broker = broker
        self._topic = topic
        self._positions_topic = positions_topic
        self._shard, self._shards = shard, shards
        self._require_layout = require_layout
        self._instance = instance
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._producer: ProducerPort | None = None
        self._deployment: str | None = None
        self._sequence = 0
        self._accepted_partitions = accepted_partitions
        self._partitions: int | None = None
        self._topic_id_now = topic_id
        self._on_recreated = on_recreated
        self._topic_id: str | None = None
        self._size = TransactionSize()
        self._topics = dict(stream_topics or {})
        self._routes: dict[str, tuple[str, bytes]] = {}
        self.session = 0
        self.generation = 0
        self.positions: dict[str, Position] = {}

    @property
    def writing(self) -> bool:
        """Whether an initialised producer is at hand."""
        return self._producer is not None

    @property
    def transaction_limit(self) -> int | None:
        """Bytes beyond which a batch is split; None: no limit."""
        return self._size.limit

    # --- becoming and staying the writer ---

    def take_over(self, deployment_id: str | None) -> TookOver | Superseded:
        """Fence the present writer, read where it stopped, record the own generation.

        Raises ``Retry`` if the broker refuses, ``Recycle`` and ``Fenced`` if it must be tried again.
        """
        timer, started_us = StageTimer(self._monotonic), self._time_ns() // 1000
        self.release()
        producer = self._broker.open()  # it connects while the positions are read
        try:
            mine = self._next_generation(timer)
            producer.init()
            timer.end("fence")
            seen = self._broker.read_state()
            has_open_transaction = self._broker.unfinished()
            timer.end("positions_after")
            self._require_layout(seen)
            if seen.credible >= mine:
                log.warning("generation %d was recorded meanwhile; standing by", seen.credible)
                producer.close()
                return Superseded(seen.credible)
            self.generation, self._deployment, self._sequence = mine, deployment_id, 0
            timing = self._commit_generation(producer, seen.writer, started_us, forget=seen.spent)
            if has_open_transaction:
                self._restart_after_hanging_transaction()
            replaced = producer.recycle_reason(timing) is not None
            if replaced:
                # It is committed. But a second copy may be under way, and must meet a fence, not the next transaction.
                # To commit once more instead would never end on a broker that is always slow.
                successor = self._broker.open()
                producer.close()
                producer = successor
                producer.init()
            timer.end("generation")
            state = self._broker.read_state()
            timer.end("positions_own")
            self._require_layout(state)
            if replaced and self._broker.unfinished():  # a change of the shards may have fenced the one before
                raise Recycle("fatal", "a transaction is open behind the positions")  # noqa: TRY301
            if self._superseded(state):
                raise Fenced(f"generation {state.generation} was recorded meanwhile")  # noqa: TRY301
        except BaseException:
            producer.close()
            raise
        self._producer = producer
        self.positions = dict(state.positions)
        self.session += 1
        previous = seen.writer
        gap = (self._time_ns() // 1000 - previous.committed_at_us) / 1e6 if previous is not None else None
        return TookOver(self.session, state, mine, timer.total, gap, timer.stages)

    def _next_generation(self, timer: StageTimer) -> int:
        """Read the positions before the predecessor is fenced; its partitions must be those of this instance."""
        before = self._broker.read_state()
        self._require_layout(before)
        self._partitions = confirmed_partitions(
            self._broker, before, topic=self._topic, positions_topic=self._positions_topic,
            accepted=self._accepted_partitions, topic_id=self._topic_id_now(),
        )  # fmt: skip
        if before.writer is not None and before.writer.topic_id is not UNSET:
            self._topic_id = before.writer.topic_id
        timer.end("positions")
        return before.next_generation()

    def _commit_generation(
        self, producer: ProducerPort, previous: WriterRecord | None, started_us: int, *, forget: bool
    ) -> Timing:
        """Commit the own generation. No other producer's transaction can appear after it.

        ``forget`` a generation that has no successor: it is forged, as the id is ours.
        """
        handover = HandoverRecord(
            generation=self.generation,
            previous=previous.instance if previous is not None else None,
            successor=self._instance,
            deployment_id=self._deployment,
            started_at_us=started_us,
            completed_at_us=self._time_ns() // 1000,
        )
        tombstone: list[Message] = [(self._positions_topic, WRITER, None, self._shard)] if forget else []
        own = (self._internal(handover_record(handover)), self._heartbeat_record())
        return producer.transact(iter((*tombstone, *own)))

    def defend(self, claimed: int) -> str | None:
        """Commit a generation beyond one that a record claims: proof that the transactional id is still ours.

        Returns why the producer must now be recycled, if so. Raises ``Fenced`` if a newer writer has the id, and
        ``Recycle`` or ``Retry`` if that cannot be told; the generation is the former one then.
        """
        producer, before = self._producer, self.generation
        if producer is None:
            raise Recycle("fatal", "no producer")
        spent = claimed >= MOST_GENERATION
        # Beyond what counts in a record of a take-over; below a number that an earlier forgery has led to, if need be.
        self.generation = (min(before, HANDOVER_COUNTS) if spent else claimed) + 1
        try:
            timing = self._commit_generation(producer, None, self._time_ns() // 1000, forget=spent)
        except BaseException:
            self.generation = before
            raise
        return producer.recycle_reason(timing)

    def restore_layout(self, layout: LayoutRecord) -> str | None:
        """Commit the true layout over one that contradicts it.

        A change of the number takes this shard's id first: a commit that is not fenced shows that the record is
        forged. Returns why the producer must now be recycled, if so. Raises ``Recycle``, ``Fenced`` or ``Retry``.
        """
        producer = self._producer
        if producer is None:
            raise Recycle("fatal", "no producer")
        messages = iter((self._internal(layout_record(layout)), self._heartbeat_record()))
        return producer.recycle_reason(producer.transact(messages))

    def recycle(self, reason: str) -> Recycled | Superseded:
        """Destroy the producer and read what it has committed: only Kafka knows.

        The generation is recorded already and everything of the old epoch is fenced, so nothing has to be committed
        first: on a broker whose every commit is slow it would be uncertain each time. Raises like ``take_over``.
        """
        self.release()
        producer = self._broker.open()
        try:
            producer.init()
            seen = self._broker.read_state()
            if self._superseded(seen):
                producer.close()
                return Superseded(seen.credible)
            self._require_layout(seen, own_generation=True)
            if self._broker.unfinished():
                producer.transact(iter((self._heartbeat_record(),)))
                self._restart_after_hanging_transaction()
        except BaseException:
            producer.close()
            raise
        self._producer = producer
        self.positions = dict(seen.positions)
        self.session += 1
        return Recycled(self.session, seen, reason)

    def _restart_after_hanging_transaction(self) -> None:
        """After a commit that ended a hanging transaction: raise, so that the positions are read once more.

        Nothing of ours is open once a producer is initialised: what is open nevertheless has lost its marker (Kafka
        4.3, see docs/explanation/hanging_transactions.md). A broker takes it for a part of whatever this id commits
        next, so that it would become visible *after* the positions were read without it, and be written twice. The
        commit alone is not enough: its own marker is on its way. The next ``init`` waits for that.
        """
        log.error("a transaction hung in %s: ended. Audit the topic", self._positions_topic)
        raise Recycle("fatal", "a transaction hung in the positions")

    def fenced(self) -> Superseded | None:
        """After a fence: wait, read the generation. A newer one writes: stand by. None: the id is ours to take back.

        Raises ``Retry``.
        """
        self.release()
        if self._broker.wait(FENCED_WAIT_SECONDS):
            raise Retry("interrupted")
        seen = self._broker.read_state()
        return Superseded(seen.credible) if self._superseded(seen) else None

    def _superseded(self, seen: ShardState) -> bool:
        if seen.credible != self.generation:
            return seen.credible > self.generation
        return seen.writer is not None and seen.writer.instance != self._instance

    def release(self) -> None:
        """Give up the producer; nothing is in flight afterwards that a successor would not fence."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def serve(self) -> None:
        """Let the client library work while there is nothing to write."""
        if self._producer is not None:
            self._producer.serve()

    # --- writing ---

    def write(self, batch: Batch | None) -> tuple[Committed, str | None]:
        """Commit a batch; None is a heartbeat. Returns the event and why the producer must now be recycled, if so.

        A batch is one transaction, or several while ``TransactionSize`` has a limit. Raises ``Recycle``, ``Fenced``,
        ``Retry`` or ``Stop``; how much of the batch was committed then is known from the positions.
        """
        limit = self._size.limit
        if batch is None or limit is None:
            return self._transact(batch, batch)
        parts = split(batch, limit)
        trades: dict[str, int] = {}
        last_ids: dict[str, int] = {}
        for part in parts[:-1]:
            committed, doubt = self._transact(part, part)
            if doubt is not None:
                raise Recycle(doubt, f"commit took {committed.commit_seconds:.3f} s")
            committed.add_to(trades, last_ids)
        committed, doubt = self._transact(batch, parts[-1])
        committed.add_to(trades, last_ids)
        return msgspec.structs.replace(committed, trades=trades, last_ids=last_ids, transactions=len(parts)), doubt

    def _transact(self, batch: Batch | None, part: Batch | None) -> tuple[Committed, str | None]:
        """One transaction with ``part``, reported as ``batch``."""
        producer = self._producer
        if producer is None:
            raise Recycle("fatal", "no producer")
        after: dict[str, Position] = {}
        if part is not None:
            after = validate_and_advance_positions(
                self.positions, part.records, part.voids, part.baselines, part.last_times_us
            )
            if part.spans:
                after |= advance_spans(self.positions, part.spans)
        began = self._monotonic()
        try:
            timing = producer.transact(self._messages(part, after))
        except (Recycle, Fenced):
            if part is not None:
                self._size.failed(weight(part), self._monotonic() - began)
            raise
        if part is not None and (self._size.limit is not None or timing.transaction > SLOW_SECONDS):
            self._size.committed(weight(part), timing.transaction)
        last_ids = {symbol: position.last_id for symbol, position in after.items()}
        trades = {symbol: position.count - self._count(symbol) for symbol, position in after.items()}
        self.positions.update(after)
        if part is not None and part.dead_letters:
            self._broker.send_dead_letters(part.dead_letters)
        committed = Committed(self.session, batch, timing.commit, timing.transaction, last_ids, trades)
        return committed, producer.recycle_reason(timing)

    def _count(self, symbol: str) -> int:
        stored = self.positions.get(symbol)
        return 0 if stored is None else stored.count

    def _messages(self, batch: Batch | None, after: dict[str, Position]) -> Iterator[Message]:
        if batch is not None:
            routes = self._routes
            for name, _, value in batch.records:
                route = routes.get(name)
                if route is None:
                    route = self._route(name)
                topic, key = route
                yield topic, key, value, -1
            for span in batch.spans:
                topic, key = routes.get(span[0]) or self._route(span[0])
                yield topic, key, span[4], -1
            # Positions last: without transactions they must not be visible before the records.
            now_us = self._time_ns() // 1000
            for symbol, position in after.items():
                yield self._internal(position_record(symbol, position))
            if batch.symbols is not None:
                yield self._internal(symbols_record(batch.symbols))
            for void in batch.voids:
                yield self._internal(void_record(void, now_us))
        yield self._heartbeat_record()

    def _route(self, name: str) -> tuple[str, bytes]:
        """Topic and key of a sequence."""
        stream, symbol = split_name(name)
        topic = self._topic if stream == TRADE.name else self._topics[stream]
        route = self._routes[name] = (topic, symbol.encode())
        return route

    def _internal(self, record: tuple[bytes, bytes]) -> Message:
        key, value = record
        return self._positions_topic, key, value, self._shard

    def _known_topic_id(self) -> str | None:
        """The trades topic's id; that of the predecessor until the own one is known."""
        now = self._topic_id_now()
        if now is not None and now != self._topic_id:
            before, self._topic_id = self._topic_id, now
            if before is not None:
                self._on_recreated(before)
        return self._topic_id

    def _heartbeat_record(self) -> Message:
        self._sequence += 1
        topic_id = self._known_topic_id()
        return self._internal(
            writer_record(
                WriterRecord(
                    generation=self.generation,
                    instance=self._instance,
                    deployment_id=self._deployment,
                    committed_at_us=self._time_ns() // 1000,
                    sequence=self._sequence,
                    partitions=UNSET if self._partitions is None else self._partitions,
                    topic_id=UNSET if topic_id is None else topic_id,
                    shards=UNSET if self._shards is None else self._shards,
                )
            )
        )
