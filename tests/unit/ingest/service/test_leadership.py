"""Who writes: promotions, fences, leases and leaves, with a writer that answers as the test says, on virtual time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ingest.core.batch import Batch
from ingest.core.errors import IngestError, Retry, Stop
from ingest.core.role import Role
from ingest.core.trade import Position
from ingest.kafka.events import Committed, Failed, FenceDetected, Recycled, Released, Superseded, TookOver
from ingest.kafka.positions import ShardState, ShardStateUpdate, WriterRecord
from ingest.metrics import Metrics
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.handover import Handover
from ingest.service.leadership import WriterLeadership
from ingest.service.pipeline import Pipeline
from ingest.settings import load
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.test_backfill import PlainEncoder, trade


class FakeWriter:
    """Remembers what it is told; ``answering`` decides what comes back."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.batches: list[tuple[int, Batch]] = []
        self.leadership: WriterLeadership
        self.take_over_answer: Callable[[], None] = lambda: None

    def take_over(self, deployment_id: str | None) -> None:
        self.told.append(f"take_over {deployment_id}")
        asyncio.get_running_loop().call_soon(self.take_over_answer)

    def write(self, session: int, batch: Batch) -> None:
        self.batches.append((session, batch))

    def release(self) -> None:
        self.told.append("release")
        asyncio.get_running_loop().call_later(0.1, self.leadership.on_writer_event, Released())

    def close(self, seconds: float) -> None:
        self.told.append("close")


def writer_record(instance: str, generation: int) -> WriterRecord:
    return WriterRecord(generation, instance, None, 1, 1)


class Case:
    """A leadership on a pipeline with one symbol."""

    def __init__(self, **environment: str) -> None:
        loop = asyncio.get_running_loop()
        self.settings = load({"K2_INSTANCE_ID": "blue", **environment})
        self.metrics = Metrics(process=False)
        self.pipeline = Pipeline(
            encoder=PlainEncoder(), metrics=self.metrics, max_trades=1000, batch_records=3, jump_limit=1000,
            dead_letter_max_bytes=100, monotonic=loop.time, time_ns=lambda: 10**18,
        )  # fmt: skip
        self.pipeline.sequencer.add("BTCUSDT")
        self.writer = FakeWriter()
        writer: Any = self.writer
        self.roles: list[Role] = []
        self.dispatcher = BatchDispatcher(self.settings, self.pipeline, writer, monotonic=loop.time)
        self.leadership = WriterLeadership(
            self.settings, self.metrics, self.pipeline, writer, self.dispatcher,
            monotonic=loop.time, time_ns=lambda: 10**18, on_role=self.roles.append,
        )  # fmt: skip
        self.writer.leadership = self.leadership
        self.handover = Handover(self.leadership, drain_seconds=10.0)
        self.generation = 0
        self.position = Position(1, 9, 9)
        self.writer.take_over_answer = self.took_over

    def took_over(self) -> None:
        self.generation += 1
        self.leadership.on_writer_event(
            TookOver(self.generation, self.state("blue"), self.generation, 0.01, None, {"fence": 0.002})
        )

    def state(self, instance: str | None = None) -> ShardState:
        record = writer_record(instance, self.generation) if instance else None
        return ShardState({"BTCUSDT": self.position}, self.generation, record)

    def begin(self, instance: str | None = None) -> None:
        self.leadership.on_first_state(self.state(instance))
        self.leadership.begin()

    def heartbeat(self, instance: str, generation: int, last_id: int | None = None) -> None:
        positions = {} if last_id is None else {"BTCUSDT": Position(1, last_id, last_id)}
        self.leadership.on_state_update(ShardStateUpdate(positions, writer_record(instance, generation)))

    def commit(self) -> None:
        session, batch = self.writer.batches.pop(0)
        last_ids = {symbol: trade_id for symbol, trade_id, _ in batch.records}
        trades = Counter(symbol for symbol, _, _ in batch.records)
        self.leadership.on_writer_event(Committed(session, batch, 0.001, 0.002, last_ids, trades))

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def case(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(scenario())

    run.__name__ = scenario.__name__
    return run


async def background(*work: Coroutine[Any, Any, None], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()


@case
async def test_the_first_instance_takes_over_at_once_and_so_does_its_restart() -> None:
    for last in (None, "blue"):
        one = Case()
        one.begin(last)
        await background(one.leadership.run_lease(), seconds=0.01)
        assert one.leadership.role is Role.ACTIVE
        assert one.sample("ingest_writer_active") == 1
        assert one.sample("ingest_role", role="active") == 1
        assert one.sample("ingest_role", role="standby") == 0
        assert one.sample("ingest_handover_stage_seconds", stage="fence") == 0.002


@case
async def test_another_instances_shard_is_left_alone_while_it_commits_and_taken_after_a_lease() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.begin("green")

    async def beats() -> None:
        for _ in range(60):
            await asyncio.sleep(1.0)
            one.heartbeat("green", 4)

    await background(one.leadership.run_lease(), beats(), seconds=60.5)
    assert one.writer.told == []
    await background(one.leadership.run_lease(), seconds=8.0)
    assert one.writer.told == []
    await background(one.leadership.run_lease(), seconds=5.0)
    assert one.writer.told == ["take_over None"]
    assert one.leadership.role is Role.ACTIVE


@case
async def test_a_follower_that_begins_anew_does_not_take_a_writer_back_to_what_it_has_read() -> None:
    one = Case(K2_KAFKA_COMMIT_INTERVAL_MS="100")
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(number) for number in range(10, 13)])
    await background(one.dispatcher.run(), seconds=0.01)
    read = one.state("blue")
    one.commit()
    one.leadership.on_first_state(read)
    assert one.leadership.positions == {"BTCUSDT": 12}, "and no trade follows that would put it right"


@case
async def test_nothing_is_taken_before_symbols_and_schema_are_known() -> None:
    one = Case()
    one.leadership.on_first_state(one.state())
    await background(one.leadership.run_lease(), seconds=30.0)
    assert one.writer.told == []
    with pytest.raises(Retry, match="starting"):
        await one.handover.promote("d1", None)


@case
async def test_a_standby_by_settings_waits_for_its_promotion_for_ever() -> None:
    for mode, role in (("standby", Role.STANDBY), ("shadow", Role.SHADOW)):
        one = Case(K2_START_MODE=mode)
        one.begin()
        await background(one.leadership.run_lease(), seconds=1000.0)
        assert one.writer.told == []
        assert one.leadership.role is role
        assert await one.handover.promote("d1", None) == {"state": "active", "generation": 1, "repeated": False}


@case
async def test_a_promotion_that_is_repeated_changes_nothing() -> None:
    one = Case(K2_START_MODE="standby")
    one.begin()
    first, second = await asyncio.gather(one.handover.promote("d1", 1), one.handover.promote("d1", 1))
    assert first == {"state": "active", "generation": 1, "repeated": False}
    assert second == {"state": "active", "generation": 1, "repeated": True}
    assert one.writer.told == ["take_over d1"]
    one.leadership.on_writer_event(Superseded(2))
    assert await one.handover.promote("d1", 1) == {"state": "standby", "generation": 1, "repeated": True}


@case
async def test_a_promotion_to_an_old_generation_is_refused() -> None:
    one = Case(K2_START_MODE="standby")
    one.generation = 7
    one.begin("green")
    with pytest.raises(Stop, match="not newer than 7"):
        await one.handover.promote("d1", 7)
    assert one.writer.told == []
    assert (await one.handover.promote("d1", 8))["generation"] == 8


@case
async def test_a_promotion_that_loses_the_race_says_so() -> None:
    one = Case(K2_START_MODE="standby")
    one.begin()
    one.writer.take_over_answer = lambda: one.leadership.on_writer_event(Superseded(3))
    with pytest.raises(Stop, match="generation 3 writes"):
        await one.handover.promote("d1", None)
    assert one.leadership.role is Role.STANDBY


@case
async def test_a_fenced_writer_stands_by_and_keeps_what_it_had_queued_until_the_other_has_written_it() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10), trade(11)])
    assert len(one.pipeline.outbox) == 2
    one.leadership.on_writer_event(Superseded(2))
    assert one.leadership.role is Role.STANDBY
    assert one.leadership.generation == 2
    assert len(one.pipeline.outbox) == 2
    assert one.sample("ingest_fenced_total") == 1
    one.pipeline.on_trades("a", [trade(12)])
    one.heartbeat("green", 2, last_id=11)
    assert len(one.pipeline.outbox) == 0, "the other has written it"
    assert one.pipeline.sequencer.pending == 1, "the standby is warm, and has dropped what the other has written"


@case
async def test_a_roll_back_goes_on_from_memory_where_the_other_has_not_come_to_write() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(number) for number in range(10, 16)])
    one.dispatcher.dispatch(force=True)
    assert len(one.writer.batches) == 2, "handed over, and not known to be committed"
    one.writer.batches.clear()
    one.leadership.on_writer_event(FenceDetected())
    one.pipeline.on_trades("a", [trade(16)])
    one.heartbeat("green", 2)
    one.pipeline.on_trades("a", [trade(17), trade(16), trade(18)])
    one.position = Position(1, 11, 11)  # what the other has come to
    one.generation = 2
    assert (await one.handover.promote("back", 3))["state"] == "active"
    assert one.pipeline.sequencer.open_gaps == {}, "nothing has to be asked for"
    one.dispatcher.dispatch(force=True)
    assert [r[1] for _, batch in one.writer.batches for r in batch.records] == [12, 13, 14, 15, 16, 17]


@case
async def test_a_writer_that_reads_of_its_successor_stands_by_without_running_into_the_fence() -> None:
    for fence in (False, True):
        one = Case()
        one.begin()
        await background(one.leadership.run_lease(), seconds=0.01)
        one.pipeline.on_trades("a", [trade(10)])
        if fence:
            one.leadership.on_writer_event(FenceDetected())
        one.heartbeat("green", 2)
        assert one.leadership.role is Role.STANDBY
        assert one.writer.told == ["take_over None", "release"]
        assert one.sample("ingest_fenced_total") == 1
        one.leadership.on_writer_event(Recycled(2, one.state("blue"), "timeout"))  # was on its way already
        one.leadership.on_writer_event(Superseded(2))
        assert one.leadership.role is Role.STANDBY
        assert not one.pipeline.sequencer.active
        assert one.sample("ingest_fenced_total") == 1
        one.dispatcher.dispatch(force=True)
        assert one.writer.batches == []


async def test_an_instance_that_is_fenced_while_it_drains_ends_at_once() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])
    asyncio.get_running_loop().call_later(0.05, one.leadership.on_writer_event, Superseded(2))
    assert await one.leadership.drain(50.0), "what is left is the other's to write"
    assert one.leadership.role is Role.STOPPED


@case
async def test_a_fence_is_shown_at_once_and_undone_where_nobody_newer_writes() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])
    one.leadership.on_writer_event(FenceDetected())
    assert one.leadership.role.value == "fenced"
    assert one.sample("ingest_writer_active") == 0
    one.dispatcher.dispatch(force=True)
    assert one.writer.batches == []
    one.leadership.on_writer_event(Recycled(2, one.state("blue"), "fenced"))
    assert one.leadership.role is Role.ACTIVE
    one.dispatcher.dispatch(force=True)
    assert [[r[1] for r in batch.records] for _, batch in one.writer.batches] == [[10]]


@case
async def test_a_roll_back_does_not_wait_until_the_fence_is_understood() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.leadership.on_writer_event(FenceDetected())
    one.generation = 2
    answer = await one.handover.promote("back", 3)
    assert answer == {"state": "active", "generation": 3, "repeated": False}
    assert one.writer.told == ["take_over None", "release", "take_over back"]


@case
async def test_a_promoted_writer_first_makes_sure_that_it_still_is_one() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)

    async def beat() -> None:
        await asyncio.sleep(0.5)
        one.leadership.on_writer_event(Committed(1, None, 0.0, 0.0))

    await background(beat(), expect(one, "d1", generation=1), seconds=1.0)

    async def fence() -> None:
        await asyncio.sleep(0.5)
        one.generation = 2
        one.leadership.on_writer_event(FenceDetected())

    await background(fence(), expect(one, "d2", generation=3), seconds=2.0)
    assert one.writer.told == ["take_over None", "release", "take_over d2"]


async def expect(one: Case, deployment: str, *, generation: int) -> None:
    answer = await one.handover.promote(deployment, None)
    assert answer == {"state": "active", "generation": generation, "repeated": False}


@case
async def test_batches_go_out_full_or_each_interval_two_at_most_and_come_back_in_order() -> None:
    one = Case(K2_KAFKA_COMMIT_INTERVAL_MS="100")
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)

    async def trades() -> None:
        one.pipeline.on_trades("a", [trade(number) for number in range(10, 20)])
        await asyncio.sleep(0)

    await background(one.dispatcher.run(), trades(), seconds=0.05)
    assert [[r[1] for r in batch.records] for _, batch in one.writer.batches] == [[10, 11, 12], [13, 14, 15]]
    one.commit()
    await background(one.dispatcher.run(), seconds=0.01)
    one.commit()
    one.commit()
    assert one.leadership.positions == {"BTCUSDT": 18}
    await background(one.dispatcher.run(), seconds=0.3)
    assert [[r[1] for r in batch.records] for _, batch in one.writer.batches] == [[19]]


@case
async def test_after_a_recycle_only_what_kafka_lacks_goes_out_again() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(number) for number in range(10, 16)])
    one.dispatcher.dispatch(force=True)
    assert len(one.writer.batches) == 2
    stale = one.writer.batches.pop(0)
    one.writer.batches.clear()
    one.position = Position(1, 12, 12)
    one.leadership.on_writer_event(Recycled(9, one.state("blue"), "timeout"))
    one.leadership.on_writer_event(Committed(stale[0], stale[1], 0.0, 0.0))  # of the destroyed producer: means nothing
    one.dispatcher.dispatch(force=True)
    assert [(s, [r[1] for r in batch.records]) for s, batch in one.writer.batches] == [(9, [13, 14, 15])]
    assert one.leadership.positions == {"BTCUSDT": 12}, "what an unknown outcome turned out to be is known"


@case
async def test_a_replaced_producer_is_no_commit() -> None:
    """Where every transaction fails, producer after producer, the instance must not call itself ready."""
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    before = one.leadership.last_commit
    assert before is not None
    for session in range(5, 9):
        await asyncio.sleep(10.0)
        one.leadership.on_writer_event(Recycled(session, one.state("blue"), "delivery_failed"))
    assert one.leadership.last_commit == before


@case
async def test_an_instance_on_leave_takes_nothing_until_promoted() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="5")
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])

    async def commits() -> None:
        while True:
            await asyncio.sleep(0.001)
            if one.writer.batches:
                one.commit()

    async def leave() -> None:
        assert await one.handover.stand_by() == {"state": "standby", "generation": 1}

    await background(commits(), leave(), one.leadership.run_lease(), seconds=60.0)
    assert one.leadership.positions == {"BTCUSDT": 10}, "what was queued is committed first"
    assert one.writer.told == ["take_over None", "release"]
    assert (await one.handover.promote("d2", None))["state"] == "active"
    assert one.pipeline.sequencer.active


@case
async def test_standing_by_in_the_middle_of_a_take_over_is_believed() -> None:
    one = Case(K2_START_MODE="standby")
    one.begin()
    one.writer.take_over_answer = lambda: None
    one.leadership.take_over(None)
    await one.handover.stand_by()
    assert one.leadership.role is Role.STANDBY
    one.took_over()  # was on its way already
    assert one.leadership.role is Role.STANDBY
    assert not one.pipeline.sequencer.active


@case
async def test_a_standby_watches_and_ends_watching_when_told_or_promoted() -> None:
    one = Case(K2_START_MODE="standby")
    one.begin()
    assert (await one.handover.watch())["state"] == "shadow"
    assert (await one.handover.watch())["state"] == "shadow"
    assert (await one.handover.stand_by())["state"] == "standby"
    await one.handover.watch()
    assert (await one.handover.promote("d1", None))["state"] == "active"
    with pytest.raises(Stop, match="only a standby can watch"):
        await one.handover.watch()
    assert one.roles == [Role.SHADOW, Role.STANDBY, Role.SHADOW, Role.TAKING_OVER, Role.ACTIVE]


@case
async def test_a_thawed_standby_looks_again_before_it_takes_anything() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 1
    one.begin("green")
    loop: Any = asyncio.get_running_loop()

    async def frozen() -> None:
        await asyncio.sleep(3.0)
        loop._skipping.now += 500.0  # the process stood still, the clock did not
        await asyncio.sleep(0.6)
        one.heartbeat("green", 1)

    await background(one.leadership.run_lease(), frozen(), seconds=510.0)
    assert one.writer.told == []


@case
async def test_without_transactions_a_successor_that_is_seen_ends_the_writing() -> None:
    one = Case(K2_KAFKA_DELIVERY="at-least-once")
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.heartbeat("green", 2, last_id=20)
    assert one.leadership.role is Role.STANDBY
    assert one.writer.told[-1] == "release"


@case
async def test_what_the_writer_cannot_survive_ends_the_pump() -> None:
    one = Case()
    one.begin()
    one.leadership.on_writer_event(Failed(Stop("topics are missing")))
    one.dispatcher.fail(IngestError("later"))
    with pytest.raises(Stop, match="topics are missing"):
        await one.dispatcher.run()


async def test_draining_commits_what_is_queued() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(number) for number in range(10, 18)])

    async def commits() -> None:
        while True:
            await asyncio.sleep(0.01)
            if one.writer.batches:
                one.commit()

    async with asyncio.TaskGroup() as group:
        committing = group.create_task(commits())
        assert await one.leadership.drain(30.0)
        committing.cancel()
    assert one.leadership.positions == {"BTCUSDT": 17}
    assert one.leadership.role is Role.STOPPED


async def test_draining_gives_up_in_time() -> None:
    one = Case()
    one.begin()
    await background(one.leadership.run_lease(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])
    began = asyncio.get_running_loop().time()
    assert not await one.leadership.drain(0.3)
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert one.writer.told[-1] == "close"
    assert one.leadership.role is Role.STOPPED
