import asyncio
import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from ingest.binance.streams import opening_url, request, stream_of
from ingest.binance.symbols import (
    NOT_LISTED,
    Changes,
    Choice,
    SymbolInfo,
    choose,
    compare,
    refresh,
    resolve,
    shard_of,
)
from ingest.core.errors import Retry, Stop
from ingest.settings import BinanceSettings
from tests.harness.scripted_exchange import until


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


def test_a_star_means_every_symbol_whatever_its_status_and_script() -> None:
    states = ("TRADING", "BREAK", "HALT", "CANCEL_ONLY", "END_OF_DAY", "PRE_TRADING", "SOMETHING_NEW")
    known = {f"S{n}USDT": info(f"S{n}USDT", status) for n, status in enumerate(states)} | infos("币安人生USDT", "ŁUSDT")
    assert choose(known, star()) == Choice(dict(sorted(known.items())), {})
    left = choose(known, star(allow_non_ascii_symbols=False)).left_out
    assert left == {"币安人生USDT": "non_ascii", "ŁUSDT": "non_ascii"}


@pytest.mark.parametrize("name", ["A/B", "A B", "A?b=c", "aUSDT", "ßUSDT", "A\nB", "", "A" * 51])
def test_a_name_that_no_stream_can_carry_is_left_out_and_named(name: str) -> None:
    assert choose(infos("BTCUSDT", name), star()) == Choice(infos("BTCUSDT"), {name: "unusable_name"})


def test_a_symbol_whose_assets_cannot_be_read_is_left_out_and_named() -> None:
    known = infos("BTCUSDT") | {"ETHUSDT": SymbolInfo("ETHUSDT", "TRADING", "ETH", "")}
    assert choose(known, star()) == Choice(infos("BTCUSDT"), {"ETHUSDT": "unusable_entry"})


def test_every_stream_name_survives_the_url_and_comes_back() -> None:
    for name in ("币安人生USDT", "BTCUSDT", "ÉTHUSDT"):
        url, named = opening_url("wss://x", [name])
        assert named == 1
        assert parse_qs(urlsplit(url).query)["streams"] == [stream_of(name)]
        assert url.isascii()
        assert stream_of(name).partition("@")[0].upper() == name
        assert json.loads(request("SUBSCRIBE", [name], 1))["params"] == [stream_of(name)]


def test_every_symbol_is_in_exactly_one_shard_and_always_in_the_same() -> None:
    known = infos(*(f"S{n}USDT" for n in range(200)))
    shards = [set(choose(known, star(), shard_index=index, shard_count=3).symbols) for index in range(3)]
    assert set.union(*shards) == set(known)
    assert sum(map(len, shards)) == len(known)
    assert min(map(len, shards)) > 40
    assert [shard_of(name, 7) for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT")] == [1, 6, 6], "as in every version before"


class Sleeps:
    """Sleeps no time, and keeps what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def test_one_delisted_name_leaves_the_others_and_is_named_with_names_like_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange = Exchange(infos("BTCUSDT", "ETHUSDT"))
    choice = await resolve(exchange, BinanceSettings(symbols=("BTCUSDT", "ETHUSTD")))
    assert choice == Choice(infos("BTCUSDT"), {"ETHUSTD": "not_listed"})
    assert "no symbol 'ETHUSTD'; the exchange has ETHUSDT" in caplog.text
    assert exchange.asked == [("BTCUSDT", "ETHUSTD"), None]


async def test_names_none_of_which_exists_are_wrong_settings() -> None:
    with pytest.raises(Stop, match="no symbol 'ETHUSTD'; the exchange has ETHUSDT"):
        await resolve(Exchange(infos("ETHUSDT")), BinanceSettings(symbols=("ETHUSTD", "NOSUCH")))


async def test_a_start_waits_for_an_exchange_that_does_not_answer() -> None:
    exchange, sleeps = Exchange(Retry("busy", after=5.0), Retry("busy", after=0.0), infos("BTCUSDT")), Sleeps()
    choice = await resolve(exchange, BinanceSettings(symbols=("BTCUSDT",)), sleep=sleeps)
    assert choice.symbols == infos("BTCUSDT")
    assert sleeps.seconds == [5.0, 0.1]


async def test_a_star_of_which_nothing_is_listed_waits_longer_and_longer() -> None:
    sleeps = Sleeps()
    nothing: dict[str, SymbolInfo] = {}
    exchange = Exchange(*[nothing] * 6, infos("BTCUSDT"))
    assert (await resolve(exchange, star(), sleep=sleeps)).symbols == infos("BTCUSDT")
    assert sleeps.seconds == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


async def test_names_wait_for_an_exchange_that_lists_nothing() -> None:
    nothing: dict[str, SymbolInfo] = {}
    sleeps = Sleeps()
    exchange = Exchange(nothing, nothing, infos("BTCUSDT"))
    found = await resolve(exchange, BinanceSettings(symbols=("BTCUSDT",)), sleep=sleeps)
    assert found.symbols == infos("BTCUSDT")
    assert sleeps.seconds == [60.0]


async def test_a_shard_that_no_name_belongs_to_stops() -> None:
    other = 1 - shard_of("BTCUSDT", 2)
    with pytest.raises(Stop, match="nothing to record"):
        await resolve(
            Exchange(infos("BTCUSDT")), BinanceSettings(symbols=("BTCUSDT",)), shard_index=other, shard_count=2
        )


def test_a_refresh_tells_listings_changes_and_what_is_gone() -> None:
    known = infos("BTCUSDT", "ETHUSDT", "BNBUSDT")
    now = infos("BTCUSDT", "NEWUSDT") | {"ETHUSDT": info("ETHUSDT", "BREAK")}
    assert compare(known, now, star()) == Changes(
        [info("NEWUSDT")], [(info("ETHUSDT"), info("ETHUSDT", "BREAK")), (info("BNBUSDT"), None)]
    )
    assert compare(known, now, BinanceSettings(symbols=tuple(known))).listed == []
    assert compare(known, known, star()) == Changes([], [])
    gone = {"BNBUSDT": msgspec.structs.replace(info("BNBUSDT"), status=NOT_LISTED)}
    assert compare(gone, {}, star()).changed == []
    assert compare(gone, infos("BNBUSDT"), star()).changed == [(gone["BNBUSDT"], info("BNBUSDT"))]


async def test_a_name_that_is_listed_after_all_is_found_soon_and_one_that_an_operator_removed_stays_removed() -> None:
    settings, sleeps = BinanceSettings(symbols=("AUSDT", "BUSDT", "CUSDT")), Sleeps()
    exchange = Exchange(infos("AUSDT", "CUSDT"), infos("AUSDT", "BUSDT", "CUSDT"))
    seen: list[Changes] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            refresh(
                exchange, settings, lambda: infos("AUSDT"), seen.append, left_out={"BUSDT": "not_listed"}, sleep=sleeps
            )
        )
        await until(lambda: len(sleeps.seconds) >= 4)
        task.cancel()
    assert sleeps.seconds[:4] == [60.0, 120.0, 900.0, 900.0]
    assert [[one.symbol for one in changes.listed] for changes in seen] == [["BUSDT"]]


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
