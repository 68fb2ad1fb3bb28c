"""Trades do not wait for the books: the real back-fill, snapshots and budget under a virtual clock.

Half a minute after a cold start, while 1,500 books are still being asked for, trades of many symbols are missing.
"""

import asyncio
from typing import Any

import pytest

from ingest.binance.weight import Urgency
from ingest.core.errors import Retry
from ingest.core.market_events import BookSnapshot, DepthUpdate
from ingest.core.pending_batches import PendingBatches
from ingest.core.streams import DEPTH
from ingest.core.trade import Position
from ingest.kafka.stream_encoding import BookEncoder
from ingest.metrics import Metrics
from ingest.service.backfill import Backfill
from ingest.service.book_lane import BookLane
from ingest.service.book_snapshots import BookSnapshots
from ingest.service.lane_counters import StreamCounters
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import build
from tests.unit.ingest.service.test_backfill_restart import LATENCY, LIMIT, Market, Rest

BOOKS = 1500
LOST_AT = 30.0
MISSING_SYMBOLS = 60


class Exchange(Rest):
    """Trades and books from one budget."""

    def __init__(self) -> None:
        super().__init__(Market(450.0, 1))
        self.trades_first = False
        self.requests: list[tuple[float, str]] = []

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> Any:
        page = await super().trades_from(symbol, from_id, limit)
        self.requests.append((asyncio.get_running_loop().time(), "trades"))
        return page

    async def book(self, symbol: str) -> BookSnapshot:
        now = asyncio.get_running_loop().time()
        if self.trades_first:
            raise Retry("trades are missing", after=0.5)
        delay = self.budget.take(50, now, urgency=Urgency.STREAMS)
        if delay > 0.0:
            raise Retry("the weight budget is spent", after=delay)
        self.spent.append((now, 50))
        self.requests.append((now, "book"))
        await asyncio.sleep(LATENCY)
        return BookSnapshot(10, [("1.0", "1.0")], [("2.0", "1.0")])


def books(exchange: Exchange, now: Any) -> tuple[BookLane, BookSnapshots]:
    lane = BookLane(
        grace_seconds=0.25, stream=DEPTH, outbox=PendingBatches(limit=10**6, batch_records=10**6),
        counters=StreamCounters(Metrics(process=False), "depth"), room_for=lambda: 0.0,
        held_bytes=10**7, dead_letter_max_bytes=1000, monotonic=now, time_ns=lambda: 1_700_000_000_000_000_000,
    )  # fmt: skip
    names = [f"B{n}USDT" for n in range(BOOKS)]
    lane.use(BookEncoder(1, dict.fromkeys(names, ("B", "Q"))))
    for name in names:
        lane.add(name, None)
    lane.take_up({}, {})
    lane.on_trades("a", [DepthUpdate(name, 9, 10, 1_700_000_000_000_000, [("1.0", "2.0")], []) for name in names])
    taking = BookSnapshots(
        lane, exchange, every_seconds=7200.0, trades_first=lambda: exchange.trades_first, monotonic=now
    )
    return lane, taking


def scenario(*, with_books: bool) -> tuple[float, float, Exchange]:
    """Return the seconds until no trade is missing any more, when all books were in sync, and what was requested."""
    exchange = Exchange()

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        pipeline = build(max_trades=400_000)
        sequencer = pipeline.sequencer
        symbols = list(exchange.market.orders)[:MISSING_SYMBOLS]
        for symbol in symbols:
            sequencer.add(symbol)
        pipeline.activate({symbol: Position(1, 100, 100) for symbol in symbols})
        lane, taking = books(exchange, loop.time)

        def look(missing: bool) -> None:
            exchange.budget.catching_up = missing or with_books
            exchange.trades_first = backfill.asking

        backfill = Backfill(
            pipeline, exchange, grace_seconds=0.25, confirm_seconds=600.0, confirm_replies=5, monotonic=loop.time,
            on_catch_up=look,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(backfill.run())]
            if with_books:
                tasks.append(group.create_task(taking.run()))
            await asyncio.sleep(LOST_AT)
            for symbol in symbols:
                sequencer.observe_high_watermark(symbol, 100 + max(1, exchange.market.missing(symbol)), loop.time())
            while sequencer.open_gaps:
                await asyncio.sleep(0.1)
                while (batch := pipeline.take()) is not None:
                    pipeline.acknowledge(batch, {})
            whole = loop.time() - LOST_AT
            while with_books and lane.books()["in_sync"] < BOOKS:
                lane.outbox.clear()
                await asyncio.sleep(1.0)
            synced = loop.time()
            for task in tasks:
                task.cancel()
        return whole, synced

    whole, synced = run_virtual(main())
    return whole, synced, exchange


@pytest.mark.timeout(60)
def test_missing_trades_are_whole_as_soon_beside_books_that_are_asked_for() -> None:
    alone, _, _ = scenario(with_books=False)
    beside, synced, exchange = scenario(with_books=True)
    between = [kind for at, kind in exchange.requests if LOST_AT + 0.5 < at < LOST_AT + beside]
    assert set(between) == {"trades"}
    # Ten pages at once; the weight of the books becomes free again evenly, not a minute later.
    assert alone < beside <= alone + 20.0
    assert synced <= 15.5 * 60.0
    for start, _ in exchange.spent:
        assert sum(weight for at, weight in exchange.spent if start <= at < start + 60.0) <= 0.9 * LIMIT
