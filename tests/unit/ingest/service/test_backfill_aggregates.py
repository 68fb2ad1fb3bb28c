import asyncio
from collections.abc import Sequence

from ingest.binance.aggregates import Aggregate
from ingest.binance.refusals import BadRequest
from ingest.core.catch_up import AggregateOdds
from ingest.core.errors import Retry
from ingest.core.trade import Position, Trade
from ingest.service.backfill import Backfill
from ingest.service.pipeline import Pipeline
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import SYMBOL, ScriptedHistory, build, out, trade


class ScriptedAggregates:
    """Folds the trades of a history: the ids in each group are one aggregate."""

    def __init__(self, history: ScriptedHistory, *groups: range, price: str = "1.0") -> None:
        self.history = history
        self.groups = groups
        self.price = price
        self.calls: list[int] = []
        self.errors: list[Retry] = []

    async def aggregates(self, symbol: str, limit: int = 1000) -> list[Aggregate]:
        self.calls.append(limit)
        if self.errors:
            raise self.errors.pop(0)
        folded = {i for group in self.groups for i in group}
        alone = [range(i, i + 1) for i in self.history.ids - folded]
        ranges = sorted([*alone, *self.groups], key=lambda each: each[0])[-limit:]
        return [aggregate_of(trade(each[0], self.price), each[-1]) for each in ranges]


def aggregate_of(one: Trade, last_id: int) -> Aggregate:
    return Aggregate(one.price, one.quantity, one.trade_id, last_id, one.trade_time_us, one.buyer_is_maker)


def restarted(aggregates: ScriptedAggregates, *, held: Sequence[int], until: float = 5.0) -> Pipeline:
    """Resume behind id 10 with these trades from the stream."""

    async def main() -> Pipeline:
        pipeline = build()
        pipeline.sequencer.add(SYMBOL)
        pipeline.on_trades("g0a", [trade(i) for i in held])
        pipeline.activate({SYMBOL: Position(1, 10, 10)})
        backfill = Backfill(
            pipeline, aggregates.history, grace_seconds=0.25, confirm_seconds=600.0, confirm_replies=5,
            monotonic=asyncio.get_running_loop().time, aggregates=aggregates,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            task = group.create_task(backfill.run())
            await asyncio.sleep(until)
            task.cancel()
        return pipeline

    return run_virtual(main())


def test_a_small_gap_is_filled_from_aggregates_alone_and_each_record_is_the_trade() -> None:
    history = ScriptedHistory(set(range(1, 21)))
    aggregates = ScriptedAggregates(history, range(1, 4))
    assert out(restarted(aggregates, held=range(14, 21))) == list(range(11, 21))
    assert (len(aggregates.calls), history.calls) == (1, [])


def test_what_is_folded_with_others_comes_from_history() -> None:
    history = ScriptedHistory(set(range(1, 21)))
    aggregates = ScriptedAggregates(history, range(12, 14))
    assert out(restarted(aggregates, held=range(16, 21))) == list(range(11, 21))
    assert (len(aggregates.calls), [from_id for _, from_id in history.calls]) == (1, [11])


def test_aggregates_of_another_sequence_of_ids_are_left_to_history_to_judge() -> None:
    history = ScriptedHistory(set(range(11, 21)))  # nothing that the position's last trade is among
    aggregates = ScriptedAggregates(history)
    restarted(aggregates, held=range(14, 21))
    assert (len(aggregates.calls), len(history.calls) > 0) == (1, True)


def test_a_large_gap_is_not_asked_of_aggregates() -> None:
    history = ScriptedHistory(set(range(1, 200)))
    aggregates = ScriptedAggregates(history)
    assert out(restarted(aggregates, held=range(150, 200))) == list(range(11, 200))
    assert aggregates.calls == []


def test_an_aggregate_that_differs_from_its_trade_ends_their_use() -> None:
    history = ScriptedHistory(set(range(1, 21)))
    aggregates = ScriptedAggregates(history, price="1.00")
    assert out(restarted(aggregates, held=range(14, 21))) == list(range(11, 21))
    assert (len(aggregates.calls), len(history.calls)) == (1, 1)


def test_aggregates_that_are_refused_or_lag_leave_the_gap_to_history() -> None:
    for error in (BadRequest(-1121, "no"), None):
        history = ScriptedHistory(set(range(1, 21)))
        aggregates = ScriptedAggregates(history)
        if error is not None:
            aggregates.errors = [error]
        else:
            aggregates.groups = (range(1, 21),)
        assert out(restarted(aggregates, held=range(14, 21))) == list(range(11, 21))
        assert (len(aggregates.calls), len(history.calls)) == (1, 1)


def test_the_odds_follow_the_market() -> None:
    odds = AggregateOdds()
    assert odds.worth(17)
    assert not odds.worth(18)
    odds.observe(5000, 0)
    assert odds.worth(50)
    odds.observe(0, 50_000)
    assert not odds.worth(1)
    assert not odds.worth(0)
