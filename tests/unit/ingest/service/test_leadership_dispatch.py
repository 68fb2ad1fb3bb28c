import asyncio
from typing import Any

import pytest

from ingest.core.errors import IngestError, Stop
from ingest.core.role import Role
from ingest.core.trade import Position
from ingest.kafka.events import Committed, Failed, Recycled
from tests.unit.ingest.service.backfilling import trade
from tests.unit.ingest.service.leading import Case, background, case


@case
async def test_batches_go_out_full_or_each_interval_two_at_most_and_come_back_in_order() -> None:
    one = Case(K2_KAFKA_COMMIT_INTERVAL_MS="100")
    one.begin()
    await background(one.lease.run(), seconds=0.01)

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
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])

    async def commits() -> None:
        while True:
            await asyncio.sleep(0.001)
            if one.writer.batches:
                one.commit()

    async def leave() -> None:
        assert await one.handover.stand_by() == {"state": "standby", "generation": 1}

    await background(commits(), leave(), one.lease.run(), seconds=60.0)
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

    await background(one.lease.run(), frozen(), seconds=510.0)
    assert one.writer.told == []


@case
async def test_without_transactions_a_successor_that_is_seen_ends_the_writing() -> None:
    one = Case(K2_KAFKA_DELIVERY="at-least-once")
    one.begin()
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])
    began = asyncio.get_running_loop().time()
    assert not await one.leadership.drain(0.3)
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert one.writer.told[-1] == "close"
    assert one.leadership.role is Role.STOPPED
