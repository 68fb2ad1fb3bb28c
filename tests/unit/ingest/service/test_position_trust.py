"""What a writer does with positions that the newest records contradict, or say nothing about."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import pytest

from ingest.core.errors import Retry
from ingest.core.trade import Position, Trade
from ingest.kafka.events import Recycled, TookOver
from ingest.kafka.position_check import Checked
from ingest.service.position_trust import HOLD_SECONDS, RETRY_SECONDS
from tests.unit.ingest.service.leading import Case, case

NAME = "BTCUSDT"
UNSEEN = Checked(unseen=frozenset({NAME}), provable=frozenset({NAME}))


class Topic:
    """What the search says, after so many seconds."""

    def __init__(self, newest: Mapping[str, int], seconds: float = 0.1, voids: Mapping[int, int] | None = None) -> None:
        self._newest = newest
        self.seconds = seconds
        self.voids_stored = dict(voids or {})
        self.refusals = 0

    async def newest(self, names: Iterable[str], seconds: float) -> Mapping[str, int]:
        await asyncio.sleep(self.seconds)
        return {name: self._newest[name] for name in names if name in self._newest}

    async def voids(self, names: Iterable[str]) -> Mapping[str, Mapping[int, int]]:
        if self.refusals:
            self.refusals -= 1
            raise Retry("the broker is away")
        return dict.fromkeys(names, self.voids_stored)


@asynccontextmanager
async def taken_over(one: Case, checked: Checked, topic: Topic) -> AsyncIterator[None]:
    """A take-over with a result; the search runs meanwhile."""
    one.writer.take_over_answer = lambda: one.leadership.on_writer_event(
        TookOver(1, one.state("blue"), 1, 0.01, checked=checked)
    )
    one.begin("blue")
    one.leadership.take_over(None)
    await asyncio.sleep(0.01)
    async with asyncio.TaskGroup() as group:
        search = group.create_task(one.leadership.trust.run(topic))
        yield
        search.cancel()


def halted(one: Case) -> str | None:
    return one.pipeline.sequencer.sequences[NAME].halted


def next_id(one: Case) -> int | None:
    return one.pipeline.sequencer.sequences[NAME].next_id


def receive(one: Case, trade_id: int) -> None:
    one.pipeline.on_trades("g0a", [Trade(NAME, trade_id, "1", "1", 10**15 + trade_id, buyer_is_maker=False)])


@case
async def test_a_right_position_goes_on_at_once() -> None:
    one = Case()
    async with taken_over(one, Checked(), Topic({})):
        assert (next_id(one), halted(one)) == (10, None)
        assert one.leadership.positions == {NAME: 9}


def test_a_record_beyond_the_position_halts_the_symbol(caplog: pytest.LogCaptureFixture) -> None:
    @case
    async def scenario() -> None:
        one = Case()
        async with taken_over(one, Checked(lost={NAME: 12}), Topic({})):
            assert (next_id(one), halted(one)) == (None, "position_lost")
            assert one.leadership.positions == {}
            receive(one, 10)
            assert not one.pipeline.outbox.waiting()
            one.leadership.on_writer_event(Recycled(2, one.state("blue"), "timeout"))
            assert (next_id(one), halted(one)) == (None, "position_lost")  # the same position is as wrong as before

    with caplog.at_level(logging.ERROR):
        scenario()
    assert "`ingest positions rebuild --replace`" in caplog.text


@case
async def test_a_position_ahead_goes_on_only_if_voids_explain_it() -> None:
    for voids, expected in (({7: 9}, (10, None)), ({7: 8}, (None, "position_ahead")), ({}, (None, "position_ahead"))):
        one = Case()
        topic = Topic({}, voids=voids)
        topic.refusals = 2
        async with taken_over(one, Checked(ahead={NAME: 6}), topic):
            receive(one, 10)
            await asyncio.sleep(RETRY_SECONDS)
            assert (next_id(one), halted(one)) == (None, None)  # not known yet
            assert not one.pipeline.outbox.waiting()
            await asyncio.sleep(3 * RETRY_SECONDS)
            assert (11 if expected[0] else None, expected[1]) == (next_id(one), halted(one))
            assert one.pipeline.outbox.waiting() is (expected[1] is None)


@case
async def test_what_the_take_over_has_not_seen_waits_for_the_search() -> None:
    for newest, expected in ((9, (10, None)), (12, (None, "position_lost")), (6, (None, "position_ahead"))):
        one = Case()
        async with taken_over(one, UNSEEN, Topic({NAME: newest})):
            assert (next_id(one), halted(one)) == (None, None)
            assert NAME in one.pipeline.unchecked
            await asyncio.sleep(1.0)
            assert (next_id(one), halted(one)) == expected
            assert not one.pipeline.unchecked
            assert one.sample("ingest_positions_unchecked") == 0


@case
async def test_a_search_without_an_answer_holds_nothing_up_and_is_shown() -> None:
    for topic in (Topic({}), Topic({NAME: 12}, seconds=60.0)):
        one = Case()
        async with taken_over(one, UNSEEN, topic):
            await asyncio.sleep(HOLD_SECONDS + 0.1)
            assert (next_id(one), halted(one)) == (10, None)
            assert one.leadership.positions == {NAME: 9}
            assert one.sample("ingest_positions_unchecked") == 1
            assert one.leadership.trust.unchecked == {NAME}


@case
async def test_an_older_record_behind_an_open_transaction_is_no_proof() -> None:
    one = Case()
    async with taken_over(one, Checked(unseen=frozenset({NAME})), Topic({NAME: 6})):
        await asyncio.sleep(1.0)
        assert (next_id(one), halted(one)) == (10, None)
        assert one.leadership.trust.unchecked == {NAME}


@case
async def test_a_search_of_an_earlier_take_over_says_nothing_about_the_next_one() -> None:
    one = Case()
    async with taken_over(one, UNSEEN, Topic({NAME: 12}, seconds=0.5)):
        one.heartbeat("green", 2)  # fenced: another instance writes
        await asyncio.sleep(1.0)
        assert halted(one) is None
        assert not one.pipeline.unchecked
        one.position = Position(1, 12, 12)
        one.writer.take_over_answer = lambda: one.leadership.on_writer_event(TookOver(3, one.state("blue"), 3, 0.01))
        one.leadership.take_over(None)
        await asyncio.sleep(0.2)
        assert (next_id(one), halted(one)) == (13, None)


@case
async def test_the_next_take_over_with_a_mended_position_goes_on() -> None:
    one = Case()
    async with taken_over(one, Checked(lost={NAME: 12}), Topic({})):
        one.heartbeat("green", 2)
        await asyncio.sleep(0.2)
        one.position = Position(1, 12, 12)
        one.writer.take_over_answer = lambda: one.leadership.on_writer_event(TookOver(3, one.state("blue"), 3, 0.01))
        one.leadership.take_over(None)
        await asyncio.sleep(0.2)
        assert (next_id(one), halted(one)) == (13, None)


@case
async def test_books_without_a_position_go_on_behind_their_newest_record() -> None:
    """So that the first update that comes is a break, unless it is the very next one."""
    one = Case()
    positions = one.leadership.trust.took_over({NAME: Position(1, 9, 9)}, Checked(spans={"depth:BTCUSDT": 77}))
    assert positions == {NAME: Position(1, 9, 9), "depth:BTCUSDT": Position(77, 77, 0, unsynced=True)}
    async with taken_over(one, Checked(spans={"depth:BTCUSDT": 77}), Topic({})):
        assert one.leadership.positions == {NAME: 9, "depth:BTCUSDT": 77}
