"""Symbols come and go by listing, by command and by what is stored: one rule for every way."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest

from ingest.binance.symbols import NOT_LISTED, Changes, Choice, SymbolInfo, shard_of
from ingest.core.batch import SymbolChanges
from ingest.core.errors import Stop
from ingest.core.trade import Position
from ingest.kafka.positions import ShardStateBuilder, symbols_record
from ingest.metrics import Metrics
from ingest.service.symbol_set import SymbolSet
from ingest.settings import load
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import build

NAMES = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")


def info(symbol: str) -> SymbolInfo:
    return SymbolInfo(symbol, "TRADING", symbol.removesuffix("USDT"), "USDT")


class Exchange:
    def __init__(self) -> None:
        self.known = {symbol: info(symbol) for symbol in NAMES}

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        await asyncio.sleep(0.1)
        return {symbol: self.known[symbol] for symbol in symbols or self.known if symbol in self.known}


class Feed:
    def __init__(self) -> None:
        self.symbols: list[str] = []

    async def add_symbols(self, symbols: Iterable[str]) -> None:
        await asyncio.sleep(0.01)
        self.symbols += [symbol for symbol in symbols if symbol not in self.symbols]

    async def remove_symbols(self, symbols: Iterable[str]) -> None:
        gone = set(symbols)
        self.symbols = [symbol for symbol in self.symbols if symbol not in gone]


class Encoder:
    def add_symbol(self, symbol: str, base_asset: str, quote_asset: str) -> None:
        assert symbol == base_asset + quote_asset


class Case:
    """A symbol set, and a topic that stores what it wants stored a second later."""

    def __init__(self, stored: SymbolChanges | None = None, *, symbols: str = "BTCUSDT,ETHUSDT", **more: str) -> None:
        self.settings = load({"K2_KAFKA_TOPIC": "t", "K2_BINANCE_SYMBOLS": symbols, **more})
        self.pipeline = build()
        self.feed = Feed()
        self.builder = ShardStateBuilder()
        self.last_ids: dict[str, int] = {}
        self.exchange = Exchange()
        self.set = SymbolSet(
            self.settings,
            Metrics(process=False),
            self.pipeline,
            self.exchange,
            self.feed,
            last_ids=lambda: self.last_ids,
        )
        self.set.stored(stored or SymbolChanges())

    async def begin(self) -> None:
        listed = NAMES if self.settings.binance.symbols == ("*",) else self.settings.binance.symbols
        await self.set.begin(Choice({symbol: info(symbol) for symbol in listed}, {}), Encoder())
        self.pipeline.activate({})

    async def commits(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            while (batch := self.pipeline.take()) is not None:
                self.pipeline.acknowledge(batch, {})
                if batch.symbols is not None:
                    self.builder.apply(*symbols_record(batch.symbols))
                    update = self.builder.update()
                    assert update.symbols is not None
                    self.set.stored(update.symbols)

    @property
    def names(self) -> set[str]:
        assert set(self.set.infos) == set(self.pipeline.sequencer.sequences) == set(self.feed.symbols)
        return set(self.set.infos)


def play(case: Callable[[], Case], act: Callable[[Case], Coroutine[Any, Any, None]]) -> Case:
    async def main() -> Case:
        one = case()
        await one.begin()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.commits()), group.create_task(one.set.run())]
            await act(one)
            await asyncio.sleep(5.0)
            for task in tasks:
                task.cancel()
        return one

    return run_virtual(main())


def test_what_a_command_changed_survives_a_restart() -> None:
    async def act(one: Case) -> None:
        answer = await one.set.change(["SOLUSDT", "BTCUSDT"], ["ETHUSDT"], writing=True)
        assert answer == {"added": ["SOLUSDT"], "removed": ["ETHUSDT"], "symbols": 2, "stored": True}

    one = play(Case, act)
    assert one.names == {"BTCUSDT", "SOLUSDT"}
    state = one.builder.state()
    assert state.symbols == SymbolChanges(("SOLUSDT",), ("ETHUSDT",))
    again = play(lambda: Case(state.symbols), _nothing)
    assert again.names == {"BTCUSDT", "SOLUSDT"}


async def _nothing(_: Case) -> None:
    await asyncio.sleep(1.0)


def test_a_change_that_is_taken_back_leaves_nothing_stored() -> None:
    async def act(one: Case) -> None:
        await one.set.change(["SOLUSDT"], ["ETHUSDT"], writing=True)
        await one.set.change(["ETHUSDT"], ["SOLUSDT"], writing=True)

    one = play(Case, act)
    assert one.names == {"BTCUSDT", "ETHUSDT"}
    assert one.builder.state().symbols == SymbolChanges()


def test_a_symbol_of_another_shard_is_refused_and_nothing_is_changed() -> None:
    foreign = next(symbol for symbol in NAMES if shard_of(symbol, 2) == 1)
    own = [symbol for symbol in NAMES if shard_of(symbol, 2) == 0]

    async def act(one: Case) -> None:
        with pytest.raises(Stop, match=f"{foreign} \\(shard 1\\): nothing was changed"):
            await one.set.change([own[1], foreign], [], writing=True)
        await one.set.change([own[1]], [], writing=True)
        one.set.stored(SymbolChanges((own[1], own[2], foreign)))  # of a time with another number of shards

    one = play(lambda: Case(symbols=own[0], K2_SHARD_COUNT="2", K2_SHARD_INDEX="0"), act)
    assert one.names == {own[0], own[1], own[2]}


def test_an_unknown_symbol_is_refused_and_a_stored_one_that_has_gone_is_passed_over() -> None:
    async def act(one: Case) -> None:
        with pytest.raises(Stop, match="the exchange has no symbol NOSUCH: nothing was changed"):
            await one.set.change(["SOLUSDT", "NOSUCH"], ["BTCUSDT"], writing=True)

    assert play(Case, act).names == {"BTCUSDT", "ETHUSDT"}
    assert play(lambda: Case(SymbolChanges(("NOSUCH", "XRPUSDT"))), _nothing).names == {"BTCUSDT", "ETHUSDT", "XRPUSDT"}


def test_a_symbol_whose_assets_are_not_known_is_not_added() -> None:
    """A record states both, so that none can be made."""

    def case(stored: SymbolChanges | None = None) -> Case:
        one = Case(stored)
        one.exchange.known["SOLUSDT"] = SymbolInfo("SOLUSDT", "TRADING", "SOL", "")
        return one

    async def act(one: Case) -> None:
        with pytest.raises(Stop, match="the exchange has no symbol SOLUSDT: nothing was changed"):
            await one.set.change(["SOLUSDT"], [], writing=True)

    assert play(case, act).names == {"BTCUSDT", "ETHUSDT"}
    assert play(lambda: case(SymbolChanges(("SOLUSDT", "XRPUSDT"))), _nothing).names == {
        "BTCUSDT",
        "ETHUSDT",
        "XRPUSDT",
    }


def test_two_commands_at_once_are_carried_out_one_after_the_other() -> None:
    async def act(one: Case) -> None:
        one.last_ids = {"SOLUSDT": 9}
        await asyncio.gather(*(one.set.change(["SOLUSDT"], [], writing=True) for _ in range(12)))
        assert one.pipeline.sequencer.sequences["SOLUSDT"].next_id == 10

    assert play(Case, act).names == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}


def test_opposite_commands_at_once_leave_one_of_both_results() -> None:
    async def act(one: Case) -> None:
        await asyncio.gather(
            *(one.set.change(*((["SOLUSDT"], []) if n % 2 else ([], ["SOLUSDT"])), writing=True) for n in range(9)),
            one.set.listed(Changes([info("SOLUSDT"), info("ADAUSDT")], [])),
        )

    one = play(Case, act)
    assert one.names >= {"BTCUSDT", "ETHUSDT", "ADAUSDT"}
    assert one.builder.state().symbols == one.set.changes


def test_a_standby_follows_what_the_writer_stored() -> None:
    async def act(one: Case) -> None:
        with pytest.raises(Stop, match="send the command to the writer"):
            await one.set.change(["SOLUSDT"], [], writing=False)
        one.set.stored(SymbolChanges(("SOLUSDT",), ("BTCUSDT",)))

    assert play(Case, act).names == {"ETHUSDT", "SOLUSDT"}


def test_a_removed_symbol_is_not_listed_again() -> None:
    async def act(one: Case) -> None:
        await one.set.change([], ["SOLUSDT"], writing=True)
        await one.set.listed(Changes([info("SOLUSDT")], []))

    one = play(lambda: Case(symbols="*"), act)
    assert one.names == set(NAMES) - {"SOLUSDT"}
    assert play(lambda: Case(one.builder.state().symbols, symbols="*"), _nothing).names == one.names


def test_what_is_left_out_is_named_and_no_longer_expected() -> None:
    async def act(one: Case) -> None:
        one.pipeline.sequencer.add("GONEUSDT")
        await one.set.listed(Changes([], [(info("BTCUSDT"), None)], {"GONEUSDT": "not_listed"}))

    one = play(Case, act)
    assert one.names == {"BTCUSDT", "ETHUSDT"}
    assert one.set.left_out == {"GONEUSDT": "not_listed"}
    assert one.set.infos["BTCUSDT"].status == NOT_LISTED


def test_a_command_says_when_its_change_is_not_stored_yet() -> None:
    async def main() -> Mapping[str, Any]:
        one = Case()
        await one.begin()
        return await one.set.change(["SOLUSDT"], [], writing=True)

    assert run_virtual(main())["stored"] is False


def test_a_removed_symbol_resumes_where_it_was_left() -> None:
    async def act(one: Case) -> None:
        one.pipeline.activate({"ETHUSDT": Position(1, 9, 9)})
        await one.set.change([], ["ETHUSDT"], writing=True)
        await one.set.change(["ETHUSDT"], [], writing=True)
        assert one.pipeline.sequencer.sequences["ETHUSDT"].next_id == 10

    play(Case, act)


def test_a_symbol_whose_records_alone_are_left_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Positions and commands are lost; the trades say that SOLUSDT was recorded, too."""

    async def act(one: Case) -> None:
        one.set.recorded_before({"BTCUSDT", "SOLUSDT", "ADAUSDT"})
        count = one.set._metrics.symbols_left_out.labels("forgotten")._value.get()
        assert count == 1
        assert one.set.left_out == {"SOLUSDT": "forgotten"}  # the settings name BTCUSDT, a command has removed ADAUSDT
        await one.set.listed(Changes([], []))
        assert one.set.left_out == {"SOLUSDT": "forgotten"}
        assert "SOLUSDT" in caplog.text
        assert "/control/symbols" in caplog.text
        await one.set.change(["SOLUSDT"], [], writing=True)
        assert one.set.left_out == {}

    play(lambda: Case(SymbolChanges((), ("ADAUSDT",))), act)


def test_symbols_of_another_shard_are_not_named() -> None:
    async def act(one: Case) -> None:
        one.set.recorded_before(NAMES)
        assert {shard_of(symbol, 2) for symbol in one.set.left_out} <= {0}
        one.set.recorded_before(())
        assert one.set.left_out == {}

    play(lambda: Case(symbols="*", K2_SHARD_COUNT="2"), act)
