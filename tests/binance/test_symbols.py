import asyncio
from collections.abc import Mapping, Sequence

import pytest

from ingest.binance.symbols import Changes, SymbolInfo, choose, compare, refresh, resolve, shard_of
from ingest.core.errors import Retry, Stop
from ingest.settings import BinanceSettings
from tests.support.scripted_exchange import until


def info(name: str, status: str = "TRADING") -> SymbolInfo:
    return SymbolInfo(name, status, name.removesuffix("USDT"), "USDT", "0.01", "0.001")


def infos(*names: str) -> dict[str, SymbolInfo]:
    return {name: info(name) for name in names}


class Exchange:
    """Answers in turn; the last answer again and again."""

    def __init__(self, *answers: Mapping[str, SymbolInfo] | Retry) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[str] | None] = []

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        self.asked.append(symbols)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Retry):
            raise answer
        return {name: one for name, one in answer.items() if symbols is None or name in symbols}


def star(**changes: object) -> BinanceSettings:
    return BinanceSettings(symbols=("*",), **changes)  # type: ignore[arg-type]


def test_a_star_means_what_trades_now_and_has_a_plain_name() -> None:
    known = infos("BTCUSDT", "ETHUSDT", "币安人生USDT") | {"OLDUSDT": info("OLDUSDT", "BREAK")}
    assert list(choose(known, star())) == ["BTCUSDT", "ETHUSDT"]
    assert "币安人生USDT" in choose(known, star(allow_non_ascii_symbols=True))
    assert choose(infos("A/B", "A B", "A?b=c"), star(allow_non_ascii_symbols=True)) == {}


def test_every_symbol_is_in_exactly_one_shard_and_always_in_the_same() -> None:
    known = infos(*(f"S{n}USDT" for n in range(200)))
    shards = [set(choose(known, star(), shard_index=index, shard_count=3)) for index in range(3)]
    assert set.union(*shards) == set(known)
    assert sum(map(len, shards)) == len(known)
    assert min(map(len, shards)) > 40
    assert [shard_of(name, 7) for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT")] == [1, 6, 6], "as in every version before"


async def test_a_name_that_does_not_exist_stops_with_names_like_it() -> None:
    exchange = Exchange(infos("BTCUSDT", "ETHUSDT"))
    with pytest.raises(Stop, match="no symbol 'ETHUSTD'; the exchange has ETHUSDT"):
        await resolve(exchange, BinanceSettings(symbols=("BTCUSDT", "ETHUSTD")))
    assert exchange.asked == [("BTCUSDT", "ETHUSTD"), None]


async def test_a_start_waits_for_an_exchange_that_does_not_answer() -> None:
    exchange = Exchange(Retry("busy", after=0.0), Retry("busy", after=0.0), infos("BTCUSDT"))
    assert await resolve(exchange, BinanceSettings(symbols=("BTCUSDT",))) == infos("BTCUSDT")
    assert len(exchange.asked) == 3


async def test_a_shard_with_nothing_to_record_stops() -> None:
    other = 1 - shard_of("BTCUSDT", 2)
    with pytest.raises(Stop, match="nothing to record"):
        await resolve(Exchange(infos("BTCUSDT")), star(), shard_index=other, shard_count=2)


def test_a_refresh_tells_listings_changes_and_what_is_gone() -> None:
    known = infos("BTCUSDT", "ETHUSDT", "BNBUSDT")
    now = infos("BTCUSDT", "NEWUSDT") | {"ETHUSDT": info("ETHUSDT", "BREAK")}
    assert compare(known, now, star()) == Changes(
        [info("NEWUSDT")], [(info("ETHUSDT"), info("ETHUSDT", "BREAK")), (info("BNBUSDT"), None)]
    )
    assert compare(known, now, BinanceSettings(symbols=tuple(known))).listed == []
    assert not compare(known, known, star())


async def test_a_refresh_goes_on_after_a_refusal_and_reports_only_what_changed() -> None:
    known = infos("BTCUSDT")
    exchange = Exchange(known, Retry("busy", after=0.0), infos("BTCUSDT", "NEWUSDT"))
    seen: asyncio.Queue[Changes] = asyncio.Queue()

    def take(changes: Changes) -> None:
        known.update({one.symbol: one for one in changes.listed})
        seen.put_nowait(changes)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(refresh(exchange, star(symbol_refresh_seconds=0.01), lambda: known, take))
        assert await asyncio.wait_for(seen.get(), 10.0) == Changes([info("NEWUSDT")], [])
        asked = len(exchange.asked)
        await until(lambda: len(exchange.asked) >= asked + 3)
        task.cancel()
    assert seen.empty()
    assert set(exchange.asked) == {None}


async def test_with_names_only_those_are_asked_for() -> None:
    exchange = Exchange(infos("BTCUSDT"))
    async with asyncio.TaskGroup() as group:
        settings = BinanceSettings(symbols=("BTCUSDT",), symbol_refresh_seconds=0.01)
        task = group.create_task(refresh(exchange, settings, lambda: infos("BTCUSDT"), lambda _changes: None))
        await until(lambda: exchange.asked)
        task.cancel()
    assert exchange.asked[0] == ["BTCUSDT"]
