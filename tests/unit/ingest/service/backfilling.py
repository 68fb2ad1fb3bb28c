"""Back-fill on virtual time, from a scripted history."""

import asyncio

import msgspec

from ingest.core.errors import Reject, Retry
from ingest.core.trade import Trade
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline

SYMBOL = "BTCUSDT"


def trade(trade_id: int, price: str = "1.0", *, symbol: str = SYMBOL, at: float = 0.0) -> Trade:
    return Trade(
        symbol=symbol,
        trade_id=trade_id,
        price=price,
        quantity="2",
        trade_time_us=1_700_000_000_000_000 + round(at * 1e6),
        buyer_is_maker=True,
    )


class Page(msgspec.Struct):
    trades: list[Trade]
    rejected: list[tuple[int | None, bytes, Reject]]


class ScriptedHistory:
    """The truth as ids, with a lag, a retention floor and errors on demand."""

    def __init__(self, ids: set[int], prices: dict[int, str] | None = None) -> None:
        self.ids = ids
        self.prices = prices or {}
        self.visible_to = 10**12
        self.errors: list[Retry] = []
        self.malformed: set[int] = set()
        self.calls: list[tuple[float, int]] = []
        self.times: dict[int, float] = {}
        """Id -> seconds of the exchange's clock; 0.0 where not stated."""

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> Page:
        assert symbol == SYMBOL
        self.calls.append((asyncio.get_running_loop().time(), from_id))
        await asyncio.sleep(0.02)
        if self.errors:
            raise self.errors.pop(0)
        ids = sorted(i for i in self.ids if from_id <= i <= self.visible_to)[:limit]
        bad = [(i, b"{}", Reject("wrong_type", "qty", symbol=SYMBOL, trade_id=i)) for i in ids if i in self.malformed]
        made = [trade(i, self.prices.get(i, "1.0"), at=self.times.get(i, 0.0)) for i in ids if i not in self.malformed]
        return Page(made, list(bad))


class PlainEncoder:
    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        if trade.price == "NaN":
            raise Reject("bad_decimal", trade.price)
        return b"%d" % trade.trade_id

    def received(self, receive_us: int) -> None:
        pass


def build(max_trades: int = 10_000) -> Pipeline:
    loop = asyncio.get_running_loop()
    return Pipeline(
        encoder=PlainEncoder(),
        metrics=Metrics(process=False),
        max_trades=max_trades,
        batch_records=5000,
        jump_limit=100_000,
        dead_letter_max_bytes=1000,
        monotonic=loop.time,
        time_ns=lambda: 1,
    )


def out(pipeline: Pipeline) -> list[int]:
    batch = pipeline.outbox.take()
    return [record[1] for record in batch.records] if batch is not None else []
