"""What a writer does with positions that the newest records contradict, or say nothing about."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import pytest

from ingest.binance.symbols import shard_of
from ingest.core.errors import Retry
from ingest.core.streams import TRADE
from ingest.core.trade import Position, Trade
from ingest.kafka.events import Recycled, TookOver
from ingest.kafka.position_check import Checked, compare
from ingest.kafka.tail_reader import Tail
from ingest.service.position_trust import HOLD_SECONDS, REPEAT_SECONDS, RETRY_SECONDS
from tests.unit.ingest.service.leading import Case, case

NAME = "BTCUSDT"
UNSEEN = Checked(unseen=frozenset({NAME}))


class Topic:
    """What the search says, after so many seconds."""

    def __init__(
        self, newest: Mapping[str, int], seconds: float = 0.1, voids: Mapping[int, int] | None = None, *,
        complete: bool = True,
    ) -> None:  # fmt: skip
        self._tail = Tail(dict(newest), complete=frozenset({0} if complete else ()), partitions=1)
        self.seconds = seconds
        self.voids_stored = dict(voids or {})
        self.refusals = 0
        self.voids_seconds = 0.0

    async def compare(self, positions: Mapping[str, Position], seconds: float) -> Checked:
        await asyncio.sleep(self.seconds)
        return compare(positions, self._tail, [TRADE])

    async def voids(self, names: Iterable[str]) -> Mapping[str, Mapping[int, int]]:
        if self.refusals:
            self.refusals -= 1
            raise Retry("the broker is away")
        await asyncio.sleep(self.voids_seconds)
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
    async with taken_over(one, UNSEEN, Topic({NAME: 6}, complete=False)):
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
async def test_a_take_over_does_not_wait_for_the_voids_that_the_one_before_reads() -> None:
    one, topic = Case(), Topic({}, voids={7: 9})
    topic.voids_seconds = 20.0
    checked = Checked(ahead={NAME: 6})
    async with taken_over(one, checked, topic):
        await asyncio.sleep(1.0)
        assert next_id(one) is None
        one.heartbeat("green", 2)  # fenced: another instance writes
        await asyncio.sleep(0.2)
        topic.voids_seconds = 0.1
        one.writer.take_over_answer = lambda: one.leadership.on_writer_event(
            TookOver(3, one.state("blue"), 3, 0.01, checked=checked)
        )
        one.leadership.take_over(None)
        await asyncio.sleep(0.2)
        assert (next_id(one), one.leadership.trust.comparing) == (10, [])


@case
async def test_an_error_of_the_comparison_ends_the_service() -> None:
    one, topic = Case(), Topic({})
    topic.voids = None  # type: ignore[assignment, method-assign]
    with pytest.raises(ExceptionGroup) as caught:
        async with taken_over(one, Checked(ahead={NAME: 6}), topic):
            await asyncio.sleep(1.0)
    assert caught.value.split(TypeError)[1] is None


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


def test_a_position_that_waits_for_its_voids_is_shown_and_said(caplog: pytest.LogCaptureFixture) -> None:
    @case
    async def scenario() -> None:
        one = Case()
        topic = Topic({}, voids={7: 9})
        topic.refusals = 130
        async with taken_over(one, Checked(ahead={NAME: 6}), topic):
            await asyncio.sleep(2 * REPEAT_SECONDS)
            assert (next_id(one), one.leadership.trust.comparing) == (None, [NAME])
            assert one.sample("ingest_positions_comparing") == 1
            await asyncio.sleep(20 * RETRY_SECONDS)
            assert (next_id(one), one.leadership.trust.comparing) == (10, [])
            assert one.sample("ingest_positions_comparing") == 0

    with caplog.at_level(logging.ERROR):
        scenario()
    assert caplog.text.count("1 symbols are not written") == 3, "once a minute"


@case
async def test_a_position_that_another_number_of_shards_has_left_here_halts_nothing() -> None:
    """The symbol's present shard has written more; and the topics hold the books of all shards."""
    ours = next(index for index in range(2) if shard_of(NAME, 2) == index)
    other = next(name for name in ("ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT") if shard_of(name, 2) != ours)
    one = Case(K2_SHARD_COUNT="2", K2_SHARD_INDEX=str(ours))
    checked = Checked(lost={other: 50}, ahead={other: 3}, unseen=frozenset({other}), spans={f"depth:{other}": 7})
    stored = {NAME: one.position, other: Position(1, 9, 9)}
    assert one.leadership.trust.took_over(stored, checked).keys() == stored.keys()
    assert not one.leadership.trust.wrong
    assert not one.pipeline.unchecked
