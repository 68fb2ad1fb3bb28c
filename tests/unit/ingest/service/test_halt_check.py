"""A halted symbol of any numbered stream goes on as soon as history confirms its ids; on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from ingest.binance.stream_history import StreamHistory, StreamPage
from ingest.core.errors import Retry
from ingest.core.market_events import CONTENTS, AggTrade, Bar
from ingest.core.streams import AGG_TRADE, Stream, bars
from ingest.core.trade import Position
from ingest.metrics import Metrics
from ingest.service.halt_check import AT_ONCE, HaltCheck
from ingest.service.lane_counters import StreamCounters
from ingest.service.numbered_lane import NumberedLane
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import build

TIME = 1_700_000_000_000_000
MINUTE = bars("1m")
FIRST = TIME // MINUTE.stride_us
FIGURES = ("1.0",) * 8


def aggregate(number: int, *, symbol: str = "BTCUSDT", at: int | None = None) -> Any:
    return AggTrade(symbol, number, "1.0", "1.0", number, number, TIME + (number if at is None else at), True)


def bar(number: int, *, at: int | None = None) -> Any:
    closes = (number + 1) * MINUTE.stride_us - 1
    return Bar("BTCUSDT", "1m", number, number * MINUTE.stride_us, closes if at is None else at, FIGURES, 1)


class Rest:
    """REST answers of a stream as bytes; the last bar of an answer is open, as the exchange has it."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = list(numbers)
        self.asked: list[dict[str, str]] = []
        self.refused = 0

    async def get(self, path: str, params: dict[str, str], parse: Any, **_: Any) -> tuple[StreamPage, str]:
        self.asked.append(dict(params))
        await asyncio.sleep(0.02)
        if self.refused:
            self.refused -= 1
            raise Retry("trades are missing: their history is read first", after=0.5)
        if path.endswith("klines"):
            first = -(-int(params["startTime"]) * 1000 // MINUTE.stride_us)
            rows: list[Any] = [
                [n * MINUTE.stride_us, "1.0", "1.0", "1.0", "1.0", "1.0", (n + 1) * MINUTE.stride_us - 1, "1.0", 1,
                 "1.0", "1.0", "0"]
                for n in self.numbers if n >= first
            ]  # fmt: skip
        else:
            first = int(params["fromId"])
            rows = [
                {"a": n, "p": "1.0", "q": "1.0", "f": n, "l": n, "T": TIME + n, "m": True}
                for n in self.numbers if n >= first
            ]  # fmt: skip
        return parse(msgspec.json.encode(rows[: int(params["limit"])])), "model"


class PlainEncoder:
    def encode(self, event: Any, ingestion_us: int) -> bytes:
        return b"%d" % event.trade_id

    def received(self, receive_us: int) -> None:
        pass


def lane_of(stream: Stream, *symbols: str) -> NumberedLane:
    pipeline, loop = build(), asyncio.get_running_loop()
    lane = NumberedLane(
        stream=stream, outbox=pipeline.outbox, counters=StreamCounters(Metrics(process=False), stream.name),
        encoder=PlainEncoder(), limit=100, jump_limit=stream.jump_limit, dead_letter_max_bytes=1000,
        monotonic=loop.time, time_ns=lambda: TIME * 1000, content=CONTENTS[stream.record],
    )  # fmt: skip
    pipeline.lanes[stream.name] = lane
    for symbol in symbols:
        lane.add(symbol, None)
    return lane


def written(lane: NumberedLane) -> list[int]:
    batch = lane.outbox.take()
    return [] if batch is None else [number for _, number, _ in batch.records]


def halts(lane: NumberedLane) -> list[str | None]:
    return [one.halted for one in lane.sequencer.halted()]


@asynccontextmanager
async def checking(lane: NumberedLane, rest: Any) -> AsyncIterator[None]:
    check = HaltCheck(lane, StreamHistory(rest, lane.stream), monotonic=asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(check.run())
        yield
        task.cancel()


@pytest.mark.parametrize(
    ("stream", "first", "event"), [(AGG_TRADE, 100, aggregate), (MINUTE, FIRST, bar)], ids=lambda one: str(one)[:20]
)
def test_one_low_id_halts_a_stream_only_until_its_history_has_the_next_one(
    stream: Stream, first: int, event: Any
) -> None:
    async def main() -> None:
        lane = lane_of(stream, "BTCUSDT")
        lane.take_up({f"{stream.name}:BTCUSDT": first}, {f"{stream.name}:BTCUSDT": Position(1, first - 1, 1)})
        rest: Any = Rest([first - 1, first])
        async with checking(lane, rest):
            newer = event(first + 1).trade_time_us
            lane.on_trades(f"{stream.name}-g0a", [event(first), event(5, at=newer)])
            assert halts(lane) == ["id_reset"]
            await asyncio.sleep(20.0)
            assert halts(lane) == ["id_reset"], "the next number is not in history yet"
            lane.on_trades(f"{stream.name}-g0a", [event(first + 1)])
            rest.numbers += [first + 1, first + 2]
            await asyncio.sleep(61.0)
            assert halts(lane) == []
            assert written(lane) == [first, first + 1]
            assert len(rest.asked) <= 8

    run_virtual(main())


def test_a_stream_whose_history_began_again_stays_halted() -> None:
    async def main() -> None:
        lane = lane_of(AGG_TRADE, "BTCUSDT")
        name = "aggTrade:BTCUSDT"
        lane.take_up({name: 100}, {name: Position(1, 99, 99, TIME + 50)})
        rest: Any = Rest([99, 100, 101])  # the times of these ids are newer than that of the position
        async with checking(lane, rest):
            lane.on_trades("aggTrade-g0a", [aggregate(5, at=60)])
            await asyncio.sleep(600.0)
            assert halts(lane) == ["id_reset"]
            assert written(lane) == []

    run_virtual(main())


def test_trades_go_first_and_a_refused_question_is_put_again() -> None:
    async def main() -> None:
        lane = lane_of(AGG_TRADE, "BTCUSDT")
        lane.take_up({"aggTrade:BTCUSDT": 100}, {"aggTrade:BTCUSDT": Position(1, 99, 99)})
        rest: Any = Rest([99, 100, 101])
        rest.refused = 2
        async with checking(lane, rest):
            lane.on_trades("aggTrade-g0a", [aggregate(100), aggregate(5, at=300)])
            await asyncio.sleep(6.0)
            assert halts(lane) == ["id_reset"]
            await asyncio.sleep(12.0)
            assert halts(lane) == []

    run_virtual(main())


def test_a_symbol_that_is_removed_while_history_is_read_ends_nothing() -> None:
    async def main() -> None:
        symbols = [f"S{number}USDT" for number in range(AT_ONCE)]
        lane = lane_of(AGG_TRADE, *symbols)
        names = [f"aggTrade:{symbol}" for symbol in symbols]
        lane.take_up(dict.fromkeys(names, 100), dict.fromkeys(names, Position(1, 99, 99)))
        rest: Any = Rest([99, 100, 101])
        async with checking(lane, rest):
            for symbol in symbols:
                lane.on_trades("g", [aggregate(100, symbol=symbol), aggregate(5, symbol=symbol, at=300)])
            await asyncio.sleep(3.01)
            assert len(rest.asked) == 1
            lane.remove(symbols[0])  # whose history is being read
            lane.remove(symbols[1])  # whose turn is next
            await asyncio.sleep(5.0)
            assert halts(lane) == []
            assert len(rest.asked) == AT_ONCE - 1

    run_virtual(main())
