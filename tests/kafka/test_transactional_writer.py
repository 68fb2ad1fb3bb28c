"""A recycle on a broker that has lost a marker, and on one that has not."""

from collections.abc import Iterator

import pytest

from ingest.core.batch import Batch
from ingest.core.errors import Recycle
from ingest.core.trade import DeadLetter, Position, Void
from ingest.kafka.events import Recycled, Superseded, TookOver
from ingest.kafka.positions import ShardState
from ingest.kafka.producer import Message, Timing
from ingest.kafka.transactional_writer import TransactionalWriter


class Scripted:
    """A broker with one symbol's position, and perhaps a later one in a transaction that hangs."""

    def __init__(self, *, hangs: bool, generation: int = 0) -> None:
        self.hangs = hangs
        self.generation = generation
        self.position = Position(1, 1, 1)
        self.transactions: list[list[str]] = []
        self.opened = self.closed = 0

    # --- the broker's port ---

    def open(self) -> "Scripted":
        self.opened += 1
        return self

    def ledger(self) -> ShardState:
        return ShardState({"BTCUSDT": self.position}, self.generation, None)

    def unfinished(self) -> bool:
        return self.hangs

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        raise AssertionError(letters)

    def wait(self, seconds: float) -> bool:
        raise AssertionError(seconds)

    # --- the producer's ---

    def init(self) -> None:
        pass

    def transact(self, messages: Iterator[Message]) -> Timing:
        self.transactions.append([(key or b"").decode() for _, key, *_ in messages])
        if self.hangs:  # what hung belongs to this transaction now
            self.hangs, self.position = False, Position(1, 2, 2)
        return Timing(0.01, 0.02)

    def doubtful(self, timing: Timing) -> str | None:
        del timing
        return None

    def serve(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def writer(broker: Scripted) -> TransactionalWriter:
    return TransactionalWriter(
        broker,
        topic="t", positions_topic="t.positions", shard=0, instance="blue",
        monotonic=lambda: 0.0, time_ns=lambda: 0,
    )  # fmt: skip


def test_what_hangs_is_committed_before_the_positions_are_believed() -> None:
    shard = writer(broker := Scripted(hangs=True))
    with pytest.raises(Recycle, match="hung"):
        shard.recycle("timeout")
    assert (broker.transactions, shard.writing) == ([["writer"]], False)
    assert broker.closed == broker.opened == 1
    recycled = shard.recycle("timeout")  # as the thread does: another producer, which waits for the marker
    assert isinstance(recycled, Recycled)
    assert recycled.ledger.positions == shard.positions == {"BTCUSDT": Position(1, 2, 2)}
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
    assert took.ledger.positions == {"BTCUSDT": Position(1, 2, 2)}


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
