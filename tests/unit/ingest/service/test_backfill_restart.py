"""A restart of every symbol after 20 seconds of nothing: the real back-fill and budget under a virtual clock.

The market is shaped as recorded: 0.915 of 1,242 aggregates of eleven symbols are one trade, 0.73 of those of BTCUSDT.
Rates fall with the rank to the power of 1.1: 4 million trades a day of the first symbol and 25 million of all.
"""

import asyncio
import random

import pytest

from ingest.binance.aggregates import Aggregate
from ingest.binance.history import WEIGHT_AGGREGATES, WEIGHT_TRADES
from ingest.binance.weight import Urgency, WeightBudget
from ingest.core.errors import Retry
from ingest.core.trade import Position, Trade
from ingest.service.backfill import Backfill
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import Page, build, trade

SYMBOLS = 1500
PAUSE = 20.0
LATENCY = 0.15
"""Of one REST answer, seconds."""
LIMIT = 6000


def poisson(draw: random.Random, mean: float) -> int:
    count, at = 0, draw.expovariate(1.0)
    while at < mean:
        count, at = count + 1, at + draw.expovariate(1.0)
    return count


class Market:
    """Trades of the pause: few symbols make most of them, orders of several fills are folded into one aggregate."""

    def __init__(self, rate: float, seed: int) -> None:
        draw = random.Random(seed)
        weights = [1.0 / (rank + 1) ** 1.1 for rank in range(SYMBOLS)]
        scale = rate * PAUSE / sum(weights)
        self.orders: dict[str, list[int]] = {}
        for rank, weight in enumerate(weights):
            mean = weight * scale
            orders = poisson(draw, mean)
            single = 0.73 if rank < 10 else 0.915
            fills = [1 if draw.random() < single else draw.randint(2, 4) for _ in range(orders)]
            self.orders[f"S{rank}USDT"] = fills

    def missing(self, symbol: str) -> int:
        return sum(self.orders[symbol])


class Rest:
    """REST within the budget of the service, as ``RestClient`` applies it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.budget = WeightBudget(0.5, catch_up_fraction=0.9, limit=LIMIT)
        self.spent: list[tuple[float, int]] = []

    async def _spend(self, weight: int) -> None:
        now = asyncio.get_running_loop().time()
        delay = self.budget.take(weight, now, urgency=Urgency.TRADES)
        if delay > 0.0:
            raise Retry("the weight budget is spent", after=delay)
        self.spent.append((now, weight))
        await asyncio.sleep(LATENCY)

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> Page:
        await self._spend(WEIGHT_TRADES)
        last = 100 + self.market.missing(symbol)
        return Page([trade(n, symbol=symbol) for n in range(from_id, min(last, from_id + limit - 1) + 1)], [])

    async def aggregates(self, symbol: str, limit: int = 1000) -> list[Aggregate]:
        await self._spend(WEIGHT_AGGREGATES)
        first, found = 101, [folded(trade(100, symbol=symbol), 100)]
        for fills in self.market.orders[symbol]:
            found.append(folded(trade(first, symbol=symbol), first + fills - 1))
            first += fills
        return found[-limit:]


def folded(first: Trade, last_id: int) -> Aggregate:
    return Aggregate(first.price, first.quantity, first.trade_id, last_id, first.trade_time_us, first.buyer_is_maker)


def restart(rate: float, seed: int) -> tuple[float, Rest, int]:
    """Return the seconds until all symbols are whole, what was spent, and how many symbols had a gap."""
    market = Market(rate, seed)
    rest = Rest(market)

    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        pipeline = build(max_trades=400_000)
        sequencer = pipeline.sequencer
        for symbol in market.orders:
            sequencer.add(symbol)
        pipeline.activate({symbol: Position(1, 100, 100) for symbol in market.orders})
        behind = 0
        for symbol in market.orders:
            if missing := market.missing(symbol):
                sequencer.observe_high_watermark(symbol, 100 + missing, loop.time())
                behind += 1
        backfill = Backfill(
            pipeline, rest, grace_seconds=0.25, confirm_seconds=600.0, confirm_replies=5, monotonic=loop.time,
            aggregates=rest, on_catch_up=lambda on: setattr(rest.budget, "catching_up", on),
        )  # fmt: skip
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(backfill.run())
            while sequencer.open_gaps and loop.time() - began < 900.0:
                await asyncio.sleep(0.5)
                while (batch := pipeline.take()) is not None:
                    pipeline.acknowledge(batch, {})
            task.cancel()
        return loop.time() - began, behind

    seconds, behind = run_virtual(main())
    return seconds, rest, behind


@pytest.mark.parametrize(("rate", "seed"), [(290.0, 1), (450.0, 2)])
def test_every_symbol_is_whole_within_two_minutes_and_the_weight_is_never_exceeded(rate: float, seed: int) -> None:
    seconds, rest, behind = restart(rate, seed)
    assert behind > 500
    assert seconds <= 120.0, sum(weight for _, weight in rest.spent)
    for start, _ in rest.spent:
        assert sum(weight for at, weight in rest.spent if start <= at < start + 60.0) <= 0.9 * LIMIT
