"""The stored number of shards while an instance runs: changed by the command, or by a forged record."""

import asyncio
import logging

import pytest

from ingest.core.errors import Stop
from ingest.core.role import Role
from ingest.kafka.events import LayoutRestored, Superseded
from ingest.kafka.layout import changing, configured, stable
from ingest.kafka.positions import LayoutRecord, ShardState, ShardStateUpdate
from ingest.service.layout_watch import GRACE_SECONDS, RETRY_SECONDS
from tests.unit.ingest.service.leading import Case, background, case

FOUR = LayoutRecord(2, "stable", 4, "host-1", 1, 4)


@case
async def test_an_instance_of_another_number_of_shards_ends_whatever_its_role() -> None:
    for mode in ("auto", "standby", "shadow"):
        one = Case(K2_START_MODE=mode, K2_SHARD_COUNT="4")
        one.begin()
        changes = changing(FOUR, 6, by="host-2", now_us=1, partitions=6)
        for layout in (FOUR, changes):
            one.leadership.on_state_update(ShardStateUpdate({}, None, layout=layout))
            assert one.dispatcher.failed is None
        one.leadership.on_state_update(ShardStateUpdate({}, None, layout=stable(changes, 6, by="host-2", now_us=2)))
        await asyncio.sleep(GRACE_SECONDS / 2)
        assert one.dispatcher.failed is None, "a writer may replace a forged record"
        await asyncio.sleep(GRACE_SECONDS)
        assert isinstance(one.dispatcher.failed, Stop)
        assert "K2_SHARD_COUNT=6" in str(one.dispatcher.failed)


@case
async def test_an_instance_that_starts_with_another_number_ends() -> None:
    one = Case(K2_SHARD_COUNT="3")
    one.leadership.on_first_state(ShardState({}, 1, None, layout=FOUR))
    assert "K2_SHARD_COUNT=4" in str(one.dispatcher.failed)


@case
async def test_a_shard_that_was_moved_here_is_taken_over_at_once_without_a_lease() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="60", K2_SHARD_COUNT="4")
    one.generation = 2
    one.begin("reshard")
    await background(one.lease.run(), seconds=0.01)
    assert one.leadership.role is Role.ACTIVE
    waiting = Case(K2_TAKEOVER_AFTER_SECONDS="60", K2_SHARD_COUNT="4")
    waiting.generation = 2
    waiting.begin("green")
    await background(waiting.lease.run(), seconds=4.0)
    assert waiting.writer.told == []
    waiting.heartbeat("reshard", 3)
    await background(waiting.lease.run(), seconds=4.0)
    assert waiting.writer.told == ["take_over None"]


FORGED = LayoutRecord(99, "stable", 7, "forger", 1, 4)


def store(one: Case, layout: LayoutRecord) -> None:
    one.leadership.on_state_update(ShardStateUpdate({}, None, layout=layout))


async def writing(layout: LayoutRecord | None, **settings: str) -> Case:
    """An active instance of four shards."""
    one = Case(K2_SHARD_COUNT="4", **settings)
    one.stored_layout = layout
    one.begin()
    await background(one.lease.run(), seconds=0.01)
    return one


@pytest.mark.parametrize("layout", [FOUR, None])
def test_a_writer_restores_the_layout_and_goes_on(
    layout: LayoutRecord | None, caplog: pytest.LogCaptureFixture
) -> None:
    @case
    async def scenario() -> None:
        one = await writing(layout)
        store(one, FORGED)
        await asyncio.sleep(RETRY_SECONDS + 0.1)
        assert one.writer.layouts == [layout or configured(4)]
        one.leadership.on_writer_event(LayoutRestored())
        store(one, FORGED)  # once more, while the first is being replaced
        await asyncio.sleep(RETRY_SECONDS)
        assert one.writer.layouts == [layout or configured(4)] * 2
        store(one, FOUR)  # what the follower reads of the restored one
        await asyncio.sleep(10 * GRACE_SECONDS)
        assert one.writer.layouts == [layout or configured(4)] * 2
        assert (one.leadership.role, one.dispatcher.failed) == (Role.ACTIVE, None)
        assert one.sample("ingest_layouts_restored_total") == 1

    with caplog.at_level(logging.ERROR):
        scenario()
    assert "it was forged, and is replaced" in caplog.text


@case
async def test_one_restoration_is_under_way_at_a_time() -> None:
    """The broker can be away for long: what is asked again meanwhile would wait in line."""
    one = await writing(FOUR)
    store(one, FORGED)
    await asyncio.sleep(10 * RETRY_SECONDS)
    assert len(one.writer.layouts) == 1
    one.leadership.on_writer_event(LayoutRestored())
    await asyncio.sleep(RETRY_SECONDS)  # the follower still shows the forged one
    assert len(one.writer.layouts) == 2


@case
async def test_a_change_that_is_under_way_is_what_a_writer_restores() -> None:
    one = await writing(FOUR)
    store(one, changing(FOUR, 6, by="host-2", now_us=1, partitions=6))
    store(one, FORGED)
    await asyncio.sleep(RETRY_SECONDS + 0.1)
    assert one.writer.layouts == [changing(FOUR, 6, by="host-2", now_us=1, partitions=6)]


@case
async def test_a_writer_whose_restoration_is_fenced_stands_by_and_ends() -> None:
    one = await writing(FOUR)
    store(one, stable(FOUR, 6, by="host-2", now_us=2))
    await asyncio.sleep(RETRY_SECONDS + 0.1)
    one.leadership.on_writer_event(Superseded(2))  # the command has taken the id
    assert (one.leadership.role, one.dispatcher.failed) == (Role.STANDBY, None)
    await asyncio.sleep(GRACE_SECONDS + 2 * RETRY_SECONDS)
    assert "K2_SHARD_COUNT=6" in str(one.dispatcher.failed)


@case
async def test_a_standby_goes_on_where_the_writer_has_restored_the_layout() -> None:
    one = Case(K2_SHARD_COUNT="4")
    one.begin("green")
    store(one, FORGED)
    await asyncio.sleep(GRACE_SECONDS / 2)
    store(one, FOUR)
    await asyncio.sleep(3 * GRACE_SECONDS)
    assert (one.dispatcher.failed, one.writer.layouts) == (None, [])


@case
async def test_a_standby_that_reads_the_topic_once_more_waits_for_the_writer_too() -> None:
    for restored in (True, False):
        one = Case(K2_SHARD_COUNT="4")
        one.begin("green")
        forged = ShardState({}, 1, one.state("green").writer, layout=FORGED)
        one.leadership.on_first_state(forged)
        await asyncio.sleep(GRACE_SECONDS / 2)
        assert one.dispatcher.failed is None
        if restored:
            store(one, FOUR)
        await asyncio.sleep(GRACE_SECONDS)
        assert ("K2_SHARD_COUNT=7" in str(one.dispatcher.failed)) is not restored


@case
async def test_without_a_transactional_id_nothing_is_known_to_be_forged() -> None:
    one = await writing(FOUR, K2_KAFKA_DELIVERY="at-least-once")
    store(one, FORGED)
    await asyncio.sleep(GRACE_SECONDS + 2 * RETRY_SECONDS)
    assert "K2_SHARD_COUNT=7" in str(one.dispatcher.failed)
    assert one.writer.layouts == []


@case
async def test_a_moved_shard_that_another_instance_has_taken_is_left_to_it() -> None:
    one = Case(K2_TAKEOVER_AFTER_SECONDS="60", K2_SHARD_COUNT="4")
    one.generation = 2
    one.begin("reshard")
    one.writer.take_over_answer = lambda: one.leadership.on_writer_event(Superseded(3))
    await background(one.lease.run(), seconds=20.0)
    assert one.writer.told == ["take_over None"]
    assert one.leadership.role is Role.STANDBY


@case
async def test_a_shard_that_was_moved_during_the_take_over_is_taken_at_once() -> None:
    """The command's generation supersedes this one, and no instance writes."""
    one = Case(K2_TAKEOVER_AFTER_SECONDS="60", K2_SHARD_COUNT="4")
    one.generation = 2
    one.begin("reshard")
    one.writer.take_over_answer = lambda: one.leadership.on_writer_event(Superseded(2))
    await background(one.lease.run(), seconds=4.0)
    assert len(one.writer.told) == 2
