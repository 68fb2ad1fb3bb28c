"""The steps of a change of the number of shards, interleaved with writers and other runs, killed anywhere."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry
from ingest.kafka import layout_guard
from ingest.kafka.layout import configured
from ingest.kafka.positions import LayoutRecord, layout_record
from ingest.kafka.producer import Message, Timing
from ingest.kafka.resharding import Resharding, TakenOver
from ingest.kafka.shard_movement import last_layout
from ingest.kafka.transactional_writer import TransactionalWriter
from tests.unit.ingest.kafka.resharding_kafka import (
    LOCK,
    POSITIONS,
    TRADES,
    CommandPort,
    Kafka,
    Producer,
    WriterPort,
    shard_of,
)
from tests.unit.ingest.kafka.resharding_world import World, guard, settle

SEEDS = 60


class Alone(Kafka):
    """Without other processes: markers are written while somebody waits."""

    def __init__(self, partitions: int) -> None:
        super().__init__(random.Random(1), partitions)

    def step(self) -> None:
        self.now += 0.01
        self.mark()


class FencedAtTheMove(CommandPort):
    """Another run takes the id at the move of this one: before it is committed, or after."""

    def __init__(self, kafka: Kafka, then: Callable[[], object], *, committed: bool) -> None:
        super().__init__(kafka)
        self._then, self._committed = then, committed

    def open(self, shard: int | None) -> Producer:
        producer = super().open(shard)
        transact = producer.transact

        def moved(messages: Iterator[Message]) -> Timing:
            sent = list(messages)
            if not any(b'"stable"' in (value or b"") for _, _, value, _ in sent):
                return transact(iter(sent))
            if self._committed:
                transact(iter(sent))
            self._then()
            raise Fenced("by another run")

        if shard is None:
            producer.transact = moved  # type: ignore[method-assign]
        return producer


def command(kafka: Kafka, port: CommandPort | None = None) -> Resharding:
    return Resharding(
        port or CommandPort(kafka), topic=POSITIONS, configured=1, by="x", shard_of=shard_of, time_ns=lambda: 10**18
    )


@pytest.mark.parametrize("later", ["nothing", "abort", "another change", "an ended change"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_run_that_is_fenced_behind_its_commit_returns_the_move(*, committed: bool, later: str) -> None:
    kafka = Alone(2)

    def then() -> None:
        other = command(kafka)
        if later == "abort":
            other.abort()
        elif later == "another change":
            other._begin(dict(CommandPort(kafka).read().partitions), 1)
        elif later == "an ended change":
            other.run(1)
        other.close()
        while kafka.last[LOCK].unmarked:
            kafka.step()

    fenced = command(kafka, FencedAtTheMove(kafka, then, committed=committed))
    if not committed:
        with pytest.raises(TakenOver):
            fenced.run(2)
        return
    moved = fenced.run(2)
    assert moved is not None
    assert moved.to == 2
    layout = last_layout(CommandPort(kafka).read().partitions)
    assert layout is not None
    expected = {"another change": (2, 3), "an ended change": (1, 4)}.get(later, (2, 2))
    assert (layout.shards, layout.version) == expected, "nothing is repeated"


@pytest.mark.parametrize("read", [True, False])
def test_changes_that_have_ended_since_prove_nothing_about_a_move_that_was_not_read(*, read: bool) -> None:
    """Two changes later the version says nothing; the topic may be compacted."""
    kafka = Alone(2)

    def then() -> None:
        for to in (1, 2):
            command(kafka).run(to)
        while kafka.last[LOCK].unmarked:
            kafka.step()

    fenced = command(kafka, port := FencedAtTheMove(kafka, then, committed=read))
    if read:
        assert fenced.run(2) is not None
        return
    with pytest.raises(Retry, match="the number of shards is 2, whether the move to 2 was committed before is not"):
        fenced.run(2)
    assert port.read().partitions[0].layouts[-1].version > 3


def test_a_fenced_run_takes_nothing_back_from_the_run_that_fenced_it() -> None:
    """Whether its own move was committed is not known; the later run goes on all the same."""
    kafka = Alone(2)
    later: list[Producer] = []

    def then() -> None:
        for to in (1, 2):
            command(kafka).run(to)
        later.append(Producer(kafka, LOCK))
        later[0].init()

    with pytest.raises(Retry, match="is not known"):
        command(kafka, FencedAtTheMove(kafka, then, committed=False)).run(2)
    later[0].transact(iter([]))  # raises Fenced if another had its id


def test_an_open_transaction_leaves_it_unknown_whether_a_move_was_committed() -> None:
    kafka = Alone(2)

    def then() -> None:
        Producer(kafka, LOCK).init()
        kafka.mark = lambda: None  # type: ignore[method-assign]
        hanging = Producer(kafka, "hanging")
        hanging.init()
        hanging.transact(iter([(POSITIONS, b"x", b"{}", partition) for partition in range(2)]))

    with pytest.raises(Retry, match="an open transaction hides what followed"):
        command(kafka, FencedAtTheMove(kafka, then, committed=False)).run(2)


def test_a_committed_move_that_does_not_show_is_no_crash() -> None:
    kafka = Alone(2)

    def then() -> None:
        key, value = layout_record(LayoutRecord(0, "stable", 7, "forger", 0, 2))
        Producer(kafka, LOCK).init()
        forger = Producer(kafka, "forger")
        forger.init()
        forger.transact(iter([(POSITIONS, key, value, 0)]))

    with pytest.raises(Retry, match="the move to 2 shards is committed, but not confirmed"):
        command(kafka, FencedAtTheMove(kafka, then, committed=True)).run(2)


class BeforeTheMove(CommandPort):
    """Something happens when all positions are read and before the move is committed."""

    def __init__(self, kafka: Kafka, then: Callable[[], object]) -> None:
        super().__init__(kafka)
        self._then = then

    def open(self, shard: int | None) -> Producer:
        producer = super().open(shard)
        transact = producer.transact

        def moved(messages: Iterator[Message]) -> Timing:
            sent = list(messages)
            if any(b'"stable"' in (value or b"") for _, _, value, _ in sent):
                self._then()
            return transact(iter(sent))

        producer.transact = moved  # type: ignore[method-assign]
        return producer


def test_a_forged_layout_that_hides_a_change_does_not_let_a_recycling_writer_write_beside_it() -> None:
    """The command has fenced the writer, which takes its id anew and reads the forged record in place of the change."""
    kafka = Alone(2)
    port = WriterPort(kafka, 0)
    writer = TransactionalWriter(
        port, topic=TRADES, positions_topic=POSITIONS, shard=0, shards=1, instance="blue",
        require_layout=guard(port, 1), monotonic=lambda: kafka.now, time_ns=lambda: 10**18,
    )  # fmt: skip
    writer.take_over(None)
    writer.write(Batch(records=[("S0USDT", 1, b"1")]))

    def forged() -> None:
        key, value = layout_record(LayoutRecord(99, "stable", 7, "forger", 0, 2))
        forger = Producer(kafka, "forger")
        forger.init()
        forger.transact(iter([(POSITIONS, key, value, 0)]))
        while kafka.last["forger"].unmarked:
            kafka.step()
        for _ in range(20):
            if not writer.writing:
                with suppress(Retry, Recycle, Fenced):
                    writer.recycle("timeout")
        writer.write(Batch(records=[("S0USDT", 2, b"2")]))

    writer.release()
    with pytest.raises(TakenOver):
        command(kafka, BeforeTheMove(kafka, forged)).run(2)
    state = CommandPort(kafka).read().partitions[0].state()
    assert (state.layout, state.positions["S0USDT"].last_id) == (configured(1), 2)


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def play(seed: int, ticks: int = 2500) -> World:
    """A run in which processes begin and are killed at random, and commits are uncertain."""
    dice = random.Random(f"plan {seed}")
    world = World(seed, dice.randint(1, 3))
    for shard in range(world.shards):
        world.writer(shard, world.shards)
    world.kafka.uncertain = dice.choice((0.0, 0.02, 0.1))
    for _ in range(ticks):
        roll = dice.random()
        if roll < 0.004:
            world.reshard(dice.randint(1, 4), abort=dice.random() < 0.2)
        elif roll < 0.010 and world.actors:
            world.kill(dice.choice(world.actors))
        elif roll < 0.020 and len(world.actors) < 8:
            layout = world.layout()
            shards = (world.shards if layout is None else layout.shards) if dice.random() < 0.8 else 4
            shard = dice.randrange(shards)
            # Where a partition states no number any writer goes on: another one would be a fault of this plan.
            if shard < world.kafka.partitions and (shards == world.shards or world.layout(shard) is not None):
                world.writer(shard, shards)
        world.tick()
    settle(world, dice.randint(1, 4))
    return world


@pytest.mark.parametrize("part", range(4))
def test_no_order_of_steps_loses_or_repeats_a_record(part: int) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        assert play(seed).problems() == [], f"seed {seed}"


def broken(count: int) -> bool:
    """Whether one of the seeds shows that something is wrong."""
    for seed in range(count):
        try:
            if play(seed, 1500).problems():
                return True
        except AssertionError:
            return True
    return False


def test_without_the_fences_records_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommandPort, "fence", lambda *_: None)
    assert broken(100)


def test_without_the_guard_of_the_writers_records_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_guard.LayoutGuard, "__call__", lambda *_, **__: None)
    assert broken(100)


def test_without_heeding_open_transactions_a_writer_misses_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriterPort, "unfinished", lambda _: False)
    assert broken(400)  # rare: 1 of 100 runs
