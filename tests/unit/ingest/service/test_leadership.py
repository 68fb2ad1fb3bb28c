"""Who writes: promotions, fences, leases and leaves, with a writer that answers as the test says, on virtual time."""

import asyncio

import pytest

from ingest.core.errors import Retry, Stop
from ingest.core.role import Role
from ingest.core.trade import Position
from ingest.kafka.events import Committed, Defended, FenceDetected, Recycled, Superseded
from ingest.kafka.position_records import MOST_GENERATION
from ingest.kafka.positions import ShardState, ShardStateUpdate
from tests.unit.ingest.service.backfilling import trade
from tests.unit.ingest.service.leading import Case, background, case, writer_record


@case
async def test_the_first_instance_takes_over_at_once_and_so_does_its_restart() -> None:
    for last in (None, "blue"):
        one = Case()
        one.begin(last)
        await background(one.lease.run(), seconds=0.01)
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

    await background(one.lease.run(), beats(), seconds=60.5)
    assert one.writer.told == []
    await background(one.lease.run(), seconds=8.0)
    assert one.writer.told == []
    await background(one.lease.run(), seconds=5.0)
    assert one.writer.told == ["take_over None"]
    assert one.leadership.role is Role.ACTIVE


@case
async def test_the_writers_shard_is_taken_at_once_when_its_process_has_ended() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.begin("green")

    async def ends() -> None:
        await asyncio.sleep(1.0)
        one.lease.process_ended("red")  # it did not write
        await asyncio.sleep(1.0)
        assert one.writer.told == []
        one.lease.process_ended("green")
        await asyncio.sleep(0.001)
        assert one.writer.told == ["take_over None"]

    await background(one.lease.run(), ends(), seconds=5.0)
    assert one.leadership.role is Role.ACTIVE


@case
async def test_instances_whose_connections_are_cut_take_turns_once_a_lease_at_most() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.begin("green")

    async def cut_connections() -> None:
        for _ in range(40):
            await asyncio.sleep(1.0)
            if one.leadership.role is Role.ACTIVE:  # green goes on and takes it back
                one.generation += 1
                one.leadership.on_writer_event(Superseded(one.generation))
            one.heartbeat("green", one.generation)
            one.lease.process_ended("green")

    await background(one.lease.run(), cut_connections(), seconds=40.5)
    assert one.writer.told.count("take_over None") == 4


@case
async def test_the_first_writer_that_a_new_standby_reads_of_is_watched_at_once() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.begin("green")  # no generation that it could trust yet

    async def ends() -> None:
        await asyncio.sleep(1.0)
        one.heartbeat("green", 4)
        await asyncio.sleep(1.0)
        one.lease.process_ended("green")

    await background(one.lease.run(), ends(), seconds=2.1)
    assert one.writer.told == ["take_over None"]


@case
async def test_of_several_processes_that_end_together_the_writer_is_noticed() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.begin("green")

    async def ends() -> None:
        await asyncio.sleep(1.0)
        for name in ("red", "green", "yellow"):
            one.lease.process_ended(name)

    await background(one.lease.run(), ends(), seconds=1.1)
    assert one.writer.told == ["take_over None"]


@case
async def test_an_end_before_this_instance_could_write_is_of_the_time_before() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.leadership.on_first_state(one.state("green"))

    async def begins() -> None:
        one.lease.process_ended("green")
        await asyncio.sleep(3.0)
        one.heartbeat("green", 4)  # it was restarted meanwhile, and writes
        one.leadership.begin()

    await background(one.lease.run(), begins(), seconds=8.0)
    assert one.writer.told == []


@case
async def test_an_ended_process_is_no_reason_after_an_order_to_stand_by() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="10")
    one.generation = 4
    one.begin("green")
    one.leadership.auto_takeover_disabled = True

    async def ends() -> None:
        await asyncio.sleep(1.0)
        one.lease.process_ended("green")

    await background(one.lease.run(), ends(), seconds=5.0)
    assert one.writer.told == []


@case
async def test_a_follower_that_begins_anew_does_not_take_a_writer_back_to_what_it_has_read() -> None:
    one = Case(K2_KAFKA_COMMIT_INTERVAL_MS="100")
    one.begin()
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=30.0)
    assert one.writer.told == []
    with pytest.raises(Retry, match="starting"):
        await one.handover.promote("d1", None)


@case
async def test_a_standby_by_settings_waits_for_its_promotion_for_ever() -> None:
    for mode, role in (("standby", Role.STANDBY), ("shadow", Role.SHADOW)):
        one = Case(K2_START_MODE=mode)
        one.begin()
        await background(one.lease.run(), seconds=1000.0)
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
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
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
async def test_a_writer_that_reads_of_a_successor_lets_the_transactional_id_decide() -> None:
    one = Case()
    one.begin()
    await background(one.lease.run(), seconds=0.01)
    one.writer.owns_id = True
    one.heartbeat("green", 9)
    assert one.leadership.role is Role.ACTIVE
    assert (one.writer.told, one.leadership.generation) == (["take_over None", "defend 9"], 1)
    one.leadership.on_writer_event(Defended(10))
    assert (one.leadership.role, one.leadership.generation) == (Role.ACTIVE, 10)
    assert one.sample("ingest_generation") == 10
    one.heartbeat("blue", 10)
    assert len(one.writer.told) == 2, "its own record"
    one.writer.owns_id = False
    one.heartbeat("green", 11)
    await asyncio.sleep(0.01)
    assert (one.leadership.role, one.leadership.generation) == (Role.STANDBY, 11)


@case
async def test_a_claim_that_a_restarted_follower_reads_is_checked_too() -> None:
    one = Case()
    one.begin()
    await background(one.lease.run(), seconds=0.01)
    one.leadership.on_first_state(ShardState({}, 9, writer_record("green", 9)))
    assert (one.writer.told, one.leadership.generation) == (["take_over None", "defend 9"], 1)
    await asyncio.sleep(0.01)
    assert (one.leadership.role, one.leadership.generation) == (Role.STANDBY, 9)


@case
async def test_a_standby_does_not_take_over_while_a_newer_version_wrote_last() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="5")
    one.begin("green")
    one.leadership.on_state_update(ShardStateUpdate({}, None, claimed=7, refusal="format 2"))
    assert (one.leadership.generation, one.leadership.refusal) == (7, "format 2")
    with pytest.raises(Stop, match="format 2"):
        await one.handover.promote("d", 8)
    await background(one.lease.run(), seconds=30)
    assert one.writer.told == []
    one.leadership.on_state_update(ShardStateUpdate({}, writer_record("green", 8), claimed=8))
    await background(one.lease.run(), seconds=30)
    assert one.writer.told == ["take_over None"]


@case
async def test_a_generation_that_no_writer_can_have_is_not_believed_by_a_standby() -> None:
    one = Case()
    one.begin("green")
    one.leadership.on_state_update(ShardStateUpdate({}, None, claimed=MOST_GENERATION))
    assert one.leadership.generation == 0
    one.leadership.on_state_update(ShardStateUpdate({}, None, claimed=MOST_GENERATION - 1))
    one.leadership.on_state_update(ShardStateUpdate({}, None, claimed=2))
    assert one.leadership.generation == 2, "what the writer has corrected"
    one.leadership.on_first_state(ShardState({}, MOST_GENERATION, None, handover_generation=3))
    assert one.leadership.generation == 3


@case
async def test_a_writer_that_reads_of_its_successor_stands_by_without_running_into_the_fence() -> None:
    for fence in (False, True):
        one = Case() if fence else Case(K2_KAFKA_DELIVERY="at-least-once")
        one.begin()
        await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
    one.pipeline.on_trades("a", [trade(10)])
    asyncio.get_running_loop().call_later(0.05, one.leadership.on_writer_event, Superseded(2))
    assert await one.leadership.drain(50.0), "what is left is the other's to write"
    assert one.leadership.role is Role.STOPPED


@case
async def test_a_fence_is_shown_at_once_and_undone_where_nobody_newer_writes() -> None:
    one = Case()
    one.begin()
    await background(one.lease.run(), seconds=0.01)
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
    await background(one.lease.run(), seconds=0.01)
    one.leadership.on_writer_event(FenceDetected())
    one.generation = 2
    answer = await one.handover.promote("back", 3)
    assert answer == {"state": "active", "generation": 3, "repeated": False}
    assert one.writer.told == ["take_over None", "release", "take_over back"]


@case
async def test_a_promoted_writer_first_makes_sure_that_it_still_is_one() -> None:
    one = Case()
    one.begin()
    await background(one.lease.run(), seconds=0.01)

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
