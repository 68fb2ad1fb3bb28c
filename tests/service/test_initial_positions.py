"""Where the account of a symbol begins that Kafka knows nothing of."""

import asyncio
from collections.abc import Sequence

from ingest.core.errors import Retry
from ingest.core.trade import Position
from ingest.service.initial_positions import InitialPositions
from tests.service.test_backfill import build, trade
from tests.support.clock import run_virtual


class LastIds:
    def __init__(self, answer: dict[str, int], errors: int = 0) -> None:
        self.answer = answer
        self.errors = errors
        self.asked: list[list[str]] = []

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        self.asked.append(list(symbols or []))
        if self.errors:
            self.errors -= 1
            raise Retry("503", after=3)
        return self.answer


def test_a_trading_symbol_begins_with_its_first_trade_and_a_quiet_one_behind_the_last_id() -> None:
    source = LastIds({"ETHUSDT": 41, "NEWUSDT": -1}, errors=1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pipeline = build()
        for symbol in ("BTCUSDT", "ETHUSDT", "NEWUSDT", "KNOWN"):
            pipeline.sequencer.add(symbol)
        baselines = InitialPositions(
            pipeline, source, writing=lambda: True, receiving=lambda _: True, monotonic=loop.time
        )
        pipeline.activate({"KNOWN": Position(1, 5, 5)})
        pipeline.on_trades("g0a", [trade(12), trade(11), trade(13)])
        async with asyncio.TaskGroup() as group:
            task = group.create_task(baselines.run())
            await asyncio.sleep(10)
            task.cancel()
        batch = pipeline.outbox.take()
        assert batch is not None
        assert batch.baselines == {"BTCUSDT": 11, "ETHUSDT": 42}
        assert [record[1] for record in batch.records] == [11, 12, 13]
        assert pipeline.sequencer.lanes["NEWUSDT"].next_id is None
        assert source.asked[0] == ["ETHUSDT", "NEWUSDT"]
        assert len(source.asked) == 2

    run_virtual(main())
