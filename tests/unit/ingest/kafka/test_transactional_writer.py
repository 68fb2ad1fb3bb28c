"""A recycle on a broker that has lost a marker, and on one that has not."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.core.trade import DeadLetter, Position, Void
from ingest.kafka.events import Recycled, Superseded, TookOver
from ingest.kafka.layout import Changing, configured
from ingest.kafka.layout_guard import LayoutGuard
from ingest.kafka.position_records import HANDOVER_COUNTS, MOST_GENERATION
from ingest.kafka.positions import LayoutRecord, ShardState, WriterRecord
from ingest.kafka.producer import Message, Timing
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.metrics import TAKE_OVER_STAGES


class Scripted:
    """A broker with one symbol's position, and perhaps a later one in a transaction that hangs."""

    def __init__(
        self, *, hangs: bool, generation: int = 0, partitions: int | None = None, previous: WriterRecord | None = None,
        recorded: int = 0, since_s: int = 0, failure: Exception | None = None,
    ) -> None:  # fmt: skip
        self.recorded, self.since_s = recorded, since_s
        """Partitions of the trades topic that have records, and when their first one was written."""
        self.failure = failure
        self.hangs = hangs
        self.trades_partitions = partitions
        self.previous = previous
        self.generation = generation
        self.position = Position(1, 1, 1)
        self.transactions: list[list[str]] = []
        self.values: dict[bytes | None, bytes | None] = {}
        """Of the last transaction."""
        self.opened = self.closed = self.initialised = 0

    # --- the broker's port ---

    def open(self) -> "Scripted":
        self.opened += 1
        return self

    def read_state(self) -> ShardState:
        return ShardState({"BTCUSDT": self.position}, self.generation, self.previous, writer_offset=41)

    def unfinished(self) -> bool:
        return self.hangs

    def partitions(self) -> int | None:
        return self.trades_partitions

    def recorded_from(self, partition: int, before_ms: int) -> bool:
        return partition < self.recorded and 1000 * self.since_s < before_ms

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        raise AssertionError(letters)

    def wait(self, seconds: float) -> bool:
        raise AssertionError(seconds)

    # --- the producer's ---

    def init(self) -> None:
        self.initialised += 1

    def transact(self, messages: Iterator[Message]) -> Timing:
        sent = list(messages)
        if self.failure is not None:
            raise self.failure
        self.transactions.append([(key or b"").decode() for _, key, *_ in sent])
        self.values = {key: value or b"" for _, key, value, _ in sent}
        if self.hangs:  # what hung belongs to this transaction now
            self.hangs, self.position = False, Position(1, 2, 2)
        return Timing(0.01, 0.02)

    def recycle_reason(self, timing: Timing) -> str | None:
        del timing
        return None

    def serve(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def writer(broker: Scripted, accepted_partitions: int | None = None, **more: Any) -> TransactionalWriter:
    return TransactionalWriter(
        broker, accepted_partitions=accepted_partitions,
        topic="t", positions_topic="t.positions", shard=0, instance="blue",
        monotonic=lambda: 0.0, time_ns=lambda: 0, **more,
    )  # fmt: skip


def test_what_hangs_is_committed_before_the_positions_are_believed() -> None:
    shard = writer(broker := Scripted(hangs=True))
    with pytest.raises(Recycle, match="hung"):
        shard.recycle("timeout")
    assert (broker.transactions, shard.writing) == ([["writer"]], False)
    assert broker.closed == broker.opened == 1
    recycled = shard.recycle("timeout")  # as the thread does: another producer, which waits for the marker
    assert isinstance(recycled, Recycled)
    assert recycled.state.positions == shard.positions == {"BTCUSDT": Position(1, 2, 2)}
    assert len(broker.transactions) == 1


def test_where_nothing_hangs_nothing_is_committed() -> None:
    shard = writer(broker := Scripted(hangs=False))
    assert isinstance(shard.recycle("timeout"), Recycled)
    assert broker.transactions == []


def test_a_take_over_begins_anew_where_something_hung() -> None:
    shard = writer(broker := Scripted(hangs=True))
    with pytest.raises(Recycle, match="hung"):
        shard.take_over(None)
    assert (broker.transactions, shard.writing) == ([["handover:1", "writer"]], False)
    took = shard.take_over(None)
    assert isinstance(took, TookOver)
    assert took.state.positions == {"BTCUSDT": Position(1, 2, 2)}
    assert tuple(took.stages) == TAKE_OVER_STAGES[:-1]  # the last one is the thread's


class Slow(Scripted):
    """Its first commit is slow, so that the writer takes its id once more: a change of the shards began meanwhile."""

    def __init__(self, *, visible: bool) -> None:
        super().__init__(hangs=False)
        self.visible = visible

    @property
    def began(self) -> bool:
        return self.initialised > 1

    def read_state(self) -> ShardState:
        layout = LayoutRecord(1, "changing", 1, "command", 0, 2, 2) if self.began and self.visible else None
        return msgspec.structs.replace(super().read_state(), layout=layout)

    def unfinished(self) -> bool:
        return self.began and not self.visible

    def recycle_reason(self, timing: Timing) -> str | None:
        return "slow_commit"


@pytest.mark.parametrize("visible", [True, False])
def test_a_take_over_that_takes_the_id_twice_reads_the_layout_behind_the_second(*, visible: bool) -> None:
    broker = Slow(visible=visible)
    guard = LayoutGuard(1, give_up=lambda _: None, restore=None, monotonic=lambda: 0.0)
    shard = writer(broker, require_layout=guard)
    with pytest.raises(Changing if visible else Recycle):
        shard.take_over(None)
    assert (broker.initialised, shard.writing, broker.opened) == (2, False, broker.closed)


class Forged(Scripted):
    """A record of its positions states another number of shards, until it is replaced."""

    layout: LayoutRecord | None = None

    def read_state(self) -> ShardState:
        return msgspec.structs.replace(super().read_state(), layout=self.layout)

    def replace(self, accepted: LayoutRecord, seen: ShardState) -> None:
        assert seen.layout == self.layout
        self.layout = accepted


@pytest.mark.parametrize("stored", [LayoutRecord(1, "stable", 4, "x", 0, 4), None])
def test_a_recycle_behind_a_forged_layout_restores_it_and_goes_on(stored: LayoutRecord | None) -> None:
    """A real change commits its number together with a newer generation."""
    broker = Forged(hangs=False)
    guard = LayoutGuard(4, give_up=lambda _: None, restore=broker.replace, monotonic=lambda: 0.0)
    shard = writer(broker, require_layout=guard)
    broker.layout = stored
    shard.take_over(None)
    broker.generation = shard.generation
    broker.layout = LayoutRecord(99, "stable", 7, "forger", 0, 4)
    with pytest.raises(Retry):
        shard.recycle("timeout")
    assert (broker.layout, shard.writing) == (stored or configured(4), False)
    assert isinstance(shard.recycle("timeout"), Recycled)
    broker.layout, broker.generation = LayoutRecord(99, "stable", 7, "reshard", 0, 4), shard.generation + 1
    assert shard.recycle("timeout") == Superseded(shard.generation + 1), "the number was changed"
    assert broker.layout.by == "reshard"


@pytest.mark.parametrize("transactions", [True, False])
def test_a_take_over_behind_a_forged_layout_cannot_tell_and_ends(*, transactions: bool) -> None:
    broker = Forged(hangs=False)
    restore = broker.replace if transactions else None
    guard = LayoutGuard(4, give_up=lambda _: None, restore=restore, monotonic=lambda: 0.0)
    shard = writer(broker, require_layout=guard)
    shard.take_over(None)
    broker.layout = LayoutRecord(99, "stable", 7, "forger", 0, 4)
    with pytest.raises(Stop, match="K2_SHARD_COUNT=7"):
        shard.take_over(None)
    if not transactions:
        broker.generation = shard.generation
        with pytest.raises(Stop, match="K2_SHARD_COUNT=7"):
            shard.recycle("timeout")


def test_a_successor_s_open_transaction_is_left_alone() -> None:
    shard = writer(broker := Scripted(hangs=True, generation=7))
    assert shard.recycle("timeout") == Superseded(7)
    assert broker.transactions == []


def test_a_commit_tells_by_symbol_how_far_it_got_and_how_many_trades_that_were() -> None:
    shard = writer(Scripted(hangs=False))
    shard.recycle("timeout")
    records = [("BTCUSDT", 2, b""), ("ETHUSDT", 7, b""), ("BTCUSDT", 3, b"")]
    batch = Batch(records=records, voids=[Void("BTCUSDT", 4, 9, "exchange_hole", {})], baselines={"XRPUSDT": 5})
    committed, _ = shard.write(batch)
    assert committed.last_ids == {"BTCUSDT": 9, "ETHUSDT": 7, "XRPUSDT": 4}
    assert committed.trades == {"BTCUSDT": 2, "ETHUSDT": 1, "XRPUSDT": 0}
    committed, _ = shard.write(Batch(records=[("BTCUSDT", 10, b"")]))
    assert (committed.last_ids, committed.trades) == ({"BTCUSDT": 10}, {"BTCUSDT": 1})


def previous(partitions: int | UnsetType) -> WriterRecord:
    """It committed last at 1000 s."""
    return WriterRecord(0, "green", None, 10**9, 1, partitions=partitions)


def test_partitions_added_while_nothing_ran_stop_the_take_over_before_anybody_is_fenced() -> None:
    broker = Scripted(hangs=False, partitions=8, previous=previous(6))
    with pytest.raises(Stop, match=r"topic t has 8 partitions, its records were written to 6.*K2_KAFKA_PARTITIONS=8"):
        writer(broker).take_over(None)
    assert (broker.transactions, broker.initialised) == ([], 0)
    with pytest.raises(Stop, match=r"`writer` at offset 41 of t\.positions \(green\)"):
        writer(broker).take_over(None)


@pytest.mark.parametrize(
    ("claimed", "found", "recorded", "topic_id", "forged"),
    [(6, 8, 6, UNSET, False), (6, 8, 7, UNSET, True), (9, 8, 8, UNSET, False), (9, 8, 8, "old", False),
     (9, 8, 8, "now", True)],
)  # fmt: skip
def test_a_number_of_partitions_that_the_records_contradict_is_forged_and_stops_nothing(
    claimed: int, found: int, recorded: int, topic_id: str | UnsetType, forged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    said = msgspec.structs.replace(previous(claimed), topic_id=topic_id)
    broker = Scripted(hangs=False, partitions=found, previous=said, recorded=recorded)
    shard = writer(broker, topic_id=lambda: "now")
    if not forged:
        with pytest.raises(Stop):
            shard.take_over(None)
        return
    assert isinstance(shard.take_over(None), TookOver)
    assert "`writer` at offset 41" in caplog.text
    assert written(broker).partitions == found


@pytest.mark.parametrize(("since_s", "forged"), [(0, True), (699, True), (701, False), (999, False), (1010, False)])
def test_partitions_that_were_added_while_a_writer_ran_are_no_forgery(since_s: int, forged: bool) -> None:
    """It notices them by looking, and has written to them until then."""
    broker = Scripted(hangs=False, partitions=8, previous=previous(6), recorded=8, since_s=since_s)
    if forged:
        assert isinstance(writer(broker).take_over(None), TookOver)
    else:
        with pytest.raises(Stop, match="its records were written to 6"):
            writer(broker).take_over(None)
    assert broker.initialised == forged


@pytest.mark.parametrize(("last_time_us", "forged"), [(10**9, True), (None, False), (10**6, False)])
def test_a_claim_of_a_time_before_the_shard_s_last_trade_is_compared_with_that(
    last_time_us: int | None, *, forged: bool
) -> None:
    """Else no record would contradict one of the year 1970, and no take-over would succeed."""
    said = msgspec.structs.replace(previous(6), committed_at_us=0)
    broker = Scripted(hangs=False, partitions=8, previous=said, recorded=8, since_s=600)
    broker.position = Position(1, 1, 1, last_time_us)
    if forged:
        assert isinstance(writer(broker).take_over(None), TookOver)
    else:
        with pytest.raises(Stop, match="its records were written to 6"):
            writer(broker).take_over(None)


def written(broker: Scripted) -> WriterRecord:
    return msgspec.json.decode(broker.values[b"writer"] or b"", type=WriterRecord)


def test_a_claim_is_answered_with_a_later_generation_which_only_the_holder_of_the_id_can_commit() -> None:
    shard = writer(broker := Scripted(hangs=False))
    shard.take_over(None)
    assert shard.defend(9) is None
    assert (broker.transactions[-1], shard.generation) == (["handover:10", "writer"], 10)
    assert written(broker).generation == 10


@pytest.mark.parametrize("failure", [Fenced("x"), Recycle("timeout", "x"), Retry("x", after=1.0)])
def test_a_claim_that_cannot_be_refuted_leaves_the_generation(failure: Exception) -> None:
    shard = writer(broker := Scripted(hangs=False))
    shard.take_over(None)
    broker.failure = failure
    with pytest.raises(type(failure)):
        shard.defend(9)
    assert shard.generation == 1


def test_a_generation_without_successors_is_forgotten_by_a_take_over_and_by_the_writer() -> None:
    broker = Scripted(hangs=False, generation=MOST_GENERATION)
    shard = writer(broker)
    assert isinstance(shard.take_over(None), TookOver)
    assert broker.transactions == [["writer", "handover:1", "writer"]]
    assert (shard.generation, written(broker).generation) == (1, 1)
    assert isinstance(shard.recycle("timeout"), Recycled), "it supersedes nobody"
    shard.defend(MOST_GENERATION)
    assert broker.transactions[-1] == ["writer", "handover:2", "writer"]
    shard.defend(MOST_GENERATION - 1)
    assert shard.generation == MOST_GENERATION
    shard.defend(MOST_GENERATION + 5)
    assert shard.generation == HANDOVER_COUNTS + 1, "one that readers take for a writer's"


@pytest.mark.parametrize(
    ("found", "before", "accepted"), [(6, 6, None), (8, 6, 8), (6, UNSET, None), (None, 6, None), (None, UNSET, None)]
)
def test_the_same_partitions_accepted_ones_and_unknown_ones_are_taken(
    found: int | None, before: int | UnsetType, accepted: int | None
) -> None:
    broker = Scripted(hangs=False, partitions=found, previous=previous(before))
    assert isinstance(writer(broker, accepted).take_over(None), TookOver)
    stored = written(broker)
    assert stored.partitions == (UNSET if found is None else found)


def test_a_topic_created_anew_while_nothing_ran_is_told_once_and_then_remembered() -> None:
    broker = Scripted(hangs=False, previous=msgspec.structs.replace(previous(UNSET), topic_id="old"))
    told: list[str] = []
    now: list[str | None] = [None]
    shard = writer(broker, topic_id=lambda: now[0], on_recreated=told.append)

    def stored() -> object:
        return written(broker).topic_id

    shard.take_over(None)
    assert (stored(), told) == ("old", []), "not forgotten while the own topic is not known"
    now[0] = "new"
    shard.write(None)
    shard.write(None)
    assert (stored(), told) == ("new", ["old"])


def test_the_same_topic_and_an_older_version_s_record_tell_nothing() -> None:
    told: list[str] = []
    for before in (previous(UNSET), msgspec.structs.replace(previous(UNSET), topic_id="one"), None):
        broker = Scripted(hangs=False, previous=before)
        writer(broker, topic_id=lambda: "one", on_recreated=told.append).take_over(None)
        assert written(broker).topic_id == "one"
    assert not told
