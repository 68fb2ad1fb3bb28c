"""Holes, filled from a scripted history under a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ingest.core.errors import Banned, Reject, Retry
from ingest.core.trade import Position
from ingest.core.void_evidence import VoidLimit
from ingest.service.backfill import Backfill
from ingest.service.halt_check import HaltCheck
from ingest.service.pipeline import Pipeline
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import SYMBOL, ScriptedHistory, build, out, trade


def scenario(
    history: ScriptedHistory,
    act: Callable[[Pipeline], Awaitable[None]],
    *,
    until: float,
    confirm: float = 600.0,
    just_resumed: bool = False,
    void_limit: VoidLimit | None = None,
) -> Pipeline:
    async def main() -> Pipeline:
        pipeline = build()
        pipeline.sequencer.add(SYMBOL)
        pipeline.activate({SYMBOL: Position(1, 9, 9)})
        if not just_resumed:
            pipeline.activated_at = -1000.0
        backfill = Backfill(
            pipeline,
            history,
            grace_seconds=0.25,
            confirm_seconds=confirm,
            confirm_replies=5,
            void_limit=void_limit or VoidLimit(),
            monotonic=asyncio.get_running_loop().time,
        )
        async with asyncio.TaskGroup() as group:
            halts = HaltCheck(pipeline, history, monotonic=asyncio.get_running_loop().time)
            tasks = [group.create_task(backfill.run()), group.create_task(halts.run())]
            await act(pipeline)
            await asyncio.sleep(until)
            for task in tasks:
                task.cancel()
        return pipeline

    return run_virtual(main())


def live(*ids: int) -> Callable[[Pipeline], Awaitable[None]]:
    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(i) for i in ids])

    return act


def test_a_hole_is_filled_after_the_grace() -> None:
    history = ScriptedHistory(set(range(1, 100)))
    pipeline = scenario(history, live(10, 15), until=2)
    assert out(pipeline)[:6] == [10, 11, 12, 13, 14, 15]
    assert history.calls[0][0] == pytest.approx(0.3, abs=0.06)
    assert [call[1] for call in history.calls] == [10], "from the last released id on"


def test_what_is_missing_after_a_restart_is_asked_for_at_once() -> None:
    history = ScriptedHistory(set(range(1, 100)))
    pipeline = scenario(history, live(15), until=2, just_resumed=True)
    assert out(pipeline)[:6] == [10, 11, 12, 13, 14, 15]
    assert history.calls[0][0] <= 0.06


def test_a_late_arrival_costs_no_call() -> None:
    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10), trade(12)])
        await asyncio.sleep(0.2)
        pipeline.on_trades("g0b", [trade(11)])

    history = ScriptedHistory(set(range(1, 100)))
    pipeline = scenario(history, act, until=5)
    assert out(pipeline) == [10, 11, 12]
    assert history.calls == []


def test_a_long_outage_is_read_page_by_page() -> None:
    history = ScriptedHistory(set(range(1, 4700)))
    pipeline = scenario(history, live(4500), until=5)
    assert out(pipeline)[:3] == [10, 11, 12]
    assert len(history.calls) == 5
    assert pipeline.sequencer.sequences[SYMBOL].next_id == 4700


def test_history_that_lags_is_no_evidence() -> None:
    history = ScriptedHistory(set(range(1, 30)))
    history.visible_to = 12

    async def act(pipeline: Pipeline) -> None:
        await live(10, 20)(pipeline)
        await asyncio.sleep(1000)
        assert out(pipeline) == [10, 11, 12]
        history.visible_to = 100

    pipeline = scenario(history, act, until=31, confirm=10)
    assert out(pipeline)[:8] == list(range(13, 21))


def test_a_hole_that_history_lacks_too_becomes_a_void_only_after_the_whole_time() -> None:
    history = ScriptedHistory(set(range(1, 12)) | set(range(15, 40)))

    async def act(pipeline: Pipeline) -> None:
        await live(10, 16)(pipeline)
        await asyncio.sleep(590)
        assert out(pipeline) == [10, 11]

    pipeline = scenario(history, act, until=45)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records][:2] == [15, 16]
    (void,) = batch.voids
    assert (void.first_id, void.last_id, void.reason) == (12, 14, "exchange_hole")
    assert int(void.evidence["replies"]) >= 5
    assert int(void.evidence["seconds"]) >= 600


def test_an_id_that_turns_up_late_is_not_voided() -> None:
    history = ScriptedHistory(set(range(1, 12)) | set(range(15, 40)))

    async def act(pipeline: Pipeline) -> None:
        await live(10, 16)(pipeline)
        await asyncio.sleep(500)
        history.ids |= {12, 13, 14}

    pipeline = scenario(history, act, until=200)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records][:7] == [10, 11, 12, 13, 14, 15, 16]
    assert batch.voids == []


def test_a_reply_that_lacks_more_than_the_others_is_no_evidence_for_more() -> None:
    history = ScriptedHistory(set(range(1, 12)) | set(range(15, 40)))

    async def act(pipeline: Pipeline) -> None:
        await live(10, 39)(pipeline)
        await asyncio.sleep(580)
        assert out(pipeline) == [10, 11]
        history.ids -= set(range(15, 30))  # the replies from now on lack these, too; those before had them
        await asyncio.sleep(40)
        history.ids |= set(range(15, 30))

    batch = scenario(history, act, until=45).outbox.take()
    assert batch is not None
    assert [(v.first_id, v.last_id) for v in batch.voids] == [(12, 14)]
    assert [r[1] for r in batch.records] == list(range(15, 40))


def test_a_retention_floor_becomes_a_void_of_what_is_gone() -> None:
    history = ScriptedHistory(set(range(1000, 1100)))
    pipeline = scenario(history, live(1050), until=30, confirm=10)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [(v.first_id, v.last_id) for v in batch.voids] == [(10, 999)]
    assert batch.records[0][1] == 1000


def test_an_undecodable_frame_is_taken_from_history() -> None:
    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10)])
        pipeline.on_rejected("g0a", b"{...", Reject("bad_decimal", "x", symbol=SYMBOL, trade_id=11))

    history = ScriptedHistory(set(range(1, 12)))
    pipeline = scenario(history, act, until=5)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [10, 11]
    assert [letter.raw for letter in batch.dead_letters] == [b"{..."]


@pytest.mark.parametrize("malformed", [False, True])
def test_what_history_states_unusably_too_is_buried_once_and_voided(malformed: bool) -> None:
    history = ScriptedHistory(set(range(1, 20)), prices={} if malformed else {11: "NaN"})
    history.malformed = {11} if malformed else set()

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10), trade(11, "NaN"), trade(12)])

    pipeline = scenario(history, act, until=800 if malformed else 120)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records][:2] == [10, 12]
    assert [(v.first_id, v.last_id, v.reason) for v in batch.voids] == [(11, 11, "unrepresentable")]
    assert len(batch.dead_letters) == 1 + malformed


def test_a_missing_trade_that_history_states_damaged_for_minutes_is_written_and_not_void() -> None:
    history = ScriptedHistory(set(range(1, 20)))
    history.malformed = {11}

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10), trade(12)])
        await asyncio.sleep(300)
        history.malformed = set()

    batch = scenario(history, act, until=60).outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records][:3] == [10, 11, 12]
    assert batch.voids == []


def test_a_trade_that_was_received_whole_is_written_whatever_a_damaged_reply_states() -> None:
    """The reply fills the gap before it and has the received trade itself with a price that is none."""
    history = ScriptedHistory(set(range(1, 13)), prices={12: "NaN"})

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10), trade(12)])

    batch = scenario(history, act, until=120).outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [10, 11, 12]
    assert batch.voids == []
    assert batch.dead_letters == []


def test_a_ban_is_waited_out() -> None:
    history = ScriptedHistory(set(range(1, 100)))
    history.errors = [Retry("429", after=7.0), Banned("418", after=120.0)]
    pipeline = scenario(history, live(10, 12), until=200)
    assert out(pipeline)[:3] == [10, 11, 12]
    times = [call[0] for call in history.calls]
    assert times[1] - times[0] >= 7
    assert times[2] - times[1] >= 120


def test_a_jump_that_history_confirms_is_filled() -> None:
    history = ScriptedHistory(set(range(1, 150_100)))
    pipeline = scenario(history, live(10, 150_000), until=1)
    assert [one.halted for one in pipeline.sequencer.halted()] == ["giant_jump"]
    pipeline = scenario(history, live(10, 150_000), until=13)
    assert not list(pipeline.sequencer.halted())
    assert out(pipeline)[:3] == [10, 11, 12]


def test_a_jump_that_history_does_not_know_stays_frozen() -> None:
    history = ScriptedHistory(set(range(1, 11)))
    pipeline = scenario(history, live(10, 150_000, 150_001), until=100)
    assert out(pipeline) == [10]
    assert [one.halted for one in pipeline.sequencer.halted()] == ["giant_jump"]


def test_a_void_ends_before_the_first_trade_in_memory() -> None:
    """History has forgotten all but the newest trades; one is missing, and what waits behind it is not."""
    history = ScriptedHistory(set(range(3000, 3100)))
    pipeline = scenario(history, live(10, 11, *range(13, 3100)), until=700)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [(v.first_id, v.last_id) for v in batch.voids] == [(12, 12)]
    assert batch.voids[0].evidence["next_id_received"] == 13
    assert [r[1] for r in batch.records] == [10, 11, *range(13, 3100)]


def test_history_wins_over_a_pending_trade_that_differs() -> None:
    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10), trade(12, "9.9"), trade(13)])

    pipeline = scenario(ScriptedHistory(set(range(1, 14))), act, until=5)
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [10, 11, 12, 13]
    assert [letter.reason for letter in batch.dead_letters] == ["out_of_sequence"]
    assert b"9.9" in batch.dead_letters[0].raw


MINUTE_BUDGET = 40
"""Requests (weight 25) in the ten minutes after one wrong id; the longest wait alone allows 20."""


async def _market(pipeline: Pipeline, history: ScriptedHistory, seconds: int) -> None:
    """One trade a second, from 11 on, known to history at once."""
    for number in range(seconds):
        history.ids.add(11 + number)
        history.times[11 + number] = 2.0 + number
        pipeline.on_trades("g0a", [trade(11 + number, at=2.0 + number)])
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("market", [True, False])
@pytest.mark.parametrize("wild", [5_000, 90_000, 5_000_000_000, 2**62])
@pytest.mark.parametrize("rejected", [True, False])
def test_one_wild_id_costs_few_requests_and_no_trade(rejected: bool, wild: int, market: bool) -> None:
    history = ScriptedHistory(set(range(1, 11)))

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10, at=1.0)])
        if rejected:
            pipeline.on_rejected("g0a", b"{...", Reject("bad_decimal", "x", symbol=SYMBOL, trade_id=wild))
        else:
            pipeline.on_trades("g0a", [trade(wild, at=1.5)])
        await (_market(pipeline, history, 600) if market else asyncio.sleep(600))

    pipeline = scenario(history, act, until=60)
    assert len(history.calls) <= MINUTE_BUDGET
    assert out(pipeline) == list(range(10, 611 if market else 11))
    if market:
        assert pipeline.sequencer.open_gaps == {}
        assert pipeline.sequencer.halted() == []


def test_a_claim_that_history_never_shows_is_given_up() -> None:
    history = ScriptedHistory(set(range(1, 11)))

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10)])
        pipeline.sequencer.observe_high_watermark(SYMBOL, 500, asyncio.get_running_loop().time())
        await asyncio.sleep(599)
        assert list(pipeline.sequencer.open_gaps) == [SYMBOL]

    pipeline = scenario(history, act, until=60)
    assert pipeline.sequencer.open_gaps == {}


@pytest.mark.parametrize("known", [True, False])
def test_an_old_id_halts_until_history_shows_that_the_ids_go_on(known: bool) -> None:
    history = ScriptedHistory(set(range(1, 11)))
    history.times = {10: 1.0, 11: 3.0}

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10, at=1.0), trade(2, at=2.0)])
        assert [one.halted for one in pipeline.sequencer.halted()] == ["id_reset"]
        await asyncio.sleep(100)
        assert [one.halted for one in pipeline.sequencer.halted()] == ["id_reset"], "the next id is not known yet"
        pipeline.on_trades("g0a", [trade(11, at=3.0)])
        if known:
            history.ids.add(11)

    pipeline = scenario(history, act, until=61)
    assert out(pipeline) == ([10, 11] if known else [10])
    assert len(history.calls) <= 12


def test_a_sequence_that_began_again_and_climbed_past_the_old_ids_stays_halted() -> None:
    history = ScriptedHistory(set(range(1, 11)))

    async def act(pipeline: Pipeline) -> None:
        pipeline.on_trades("g0a", [trade(10, at=1.0)])
        for number in range(40):
            history.ids.add(3 + number)
            history.times[3 + number] = 2.0 + number
            pipeline.on_trades("g0a", [trade(3 + number, at=2.0 + number)])
            await asyncio.sleep(1.0)

    pipeline = scenario(history, act, until=300)
    assert out(pipeline) == [10]
    assert [one.halted for one in pipeline.sequencer.halted()] == ["id_reset"]


def test_voids_beyond_the_limit_halt_the_symbol() -> None:
    history = ScriptedHistory(set(range(1, 200)), prices=dict.fromkeys(range(11, 100), "NaN"))
    pipeline = scenario(history, live(10, *range(100, 105)), until=590, void_limit=VoidLimit(per_symbol=3))
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [(v.first_id, v.last_id) for v in batch.voids] == [(11, 11), (12, 12), (13, 13)]
    assert [one.halted for one in pipeline.sequencer.halted()] == ["voids"]
    assert pipeline.sequencer.sequences[SYMBOL].next_id == 14
