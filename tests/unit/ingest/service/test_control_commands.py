"""An operator resumes a halted symbol: never twice the same id, never past a trade that was received."""

import asyncio
from typing import Any

import pytest

from ingest.control.command_schemas import COMMANDS, Rotate, Thaw
from ingest.core.errors import Retry, Stop
from ingest.core.trade import Position
from ingest.core.void_evidence import VoidLimit
from ingest.service.control_commands import ControlCommands, operator_void
from ingest.service.loop_commands import LoopCommands
from ingest.service.pipeline import Pipeline
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import SYMBOL, build, trade
from tests.unit.ingest.service.test_numbered_lane import build as of_streams


def test_the_current_id_resumes_without_a_void() -> None:
    assert operator_void("BTCUSDT", 10, 10, None, "jane") is None
    assert operator_void("BTCUSDT", 10, 10, 12, "jane") is None


def test_a_higher_id_is_a_void_up_to_the_first_trade_in_memory() -> None:
    void = operator_void("BTCUSDT", 12, 10, 12, "jane" * 40)
    assert void is not None
    assert (void.first_id, void.last_id, void.reason) == (10, 11, "operator")
    assert void.evidence == {"actor": ("jane" * 40)[:64]}
    assert operator_void("BTCUSDT", 10**12, 10, None, "jane") is not None


def test_going_back_and_skipping_received_trades_are_refused() -> None:
    with pytest.raises(Stop, match="would write ids twice"):
        operator_void("BTCUSDT", 9, 10, None, "jane")
    with pytest.raises(Stop, match="Name an id from 10 to 12"):
        operator_void("BTCUSDT", 13, 10, 12, "jane")


class Feed:
    def rotate(self, reason: str, connection: str | None = None) -> int:
        assert (reason, connection) == ("operator", "g0a")
        return 1


def commands(pipeline: Pipeline) -> ControlCommands:
    nothing: Any = None
    return ControlCommands(
        handover=nothing,
        symbols=nothing,
        pipeline=pipeline,
        void_limit=VoidLimit(),
        feed=Feed(),
        stop=lambda: None,
        writing=lambda: True,
    )


async def halted() -> Pipeline:
    pipeline = build()
    pipeline.sequencer.add(SYMBOL)
    pipeline.activate({SYMBOL: Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10, at=1.0), trade(3, at=2.0), trade(11, at=3.0), trade(14, at=4.0)])
    assert [one.halted for one in pipeline.sequencer.halted()] == ["id_reset"]
    return pipeline


def test_every_command_of_the_control_api_has_a_handler() -> None:
    async def main() -> None:
        assert set(commands(build()).handlers) == {command.arguments for command in COMMANDS.values()}

    run_virtual(main())


def test_a_halted_symbol_is_resumed_at_its_own_id() -> None:
    async def main() -> None:
        pipeline = await halted()
        answer = await commands(pipeline).handlers[Thaw](Thaw(SYMBOL, 11, "jane"))
        assert answer == {"symbol": SYMBOL, "next_id": 11, "voided": 0}
        batch = pipeline.take()
        assert batch is not None
        assert [record[1] for record in batch.records] == [10, 11]
        assert batch.voids == []
        assert pipeline.sequencer.halted() == []

    run_virtual(main())


@pytest.mark.parametrize("next_id", [10, 12, 15, 10**6])
def test_no_operator_can_write_twice_or_skip_a_trade_in_memory(next_id: int) -> None:
    async def main() -> None:
        pipeline = await halted()
        with pytest.raises(Stop):
            await commands(pipeline).handlers[Thaw](Thaw(SYMBOL, next_id, "jane"))
        assert pipeline.sequencer.halted() != []

    run_virtual(main())


def test_commands_are_refused_until_there_are_handlers() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one = LoopCommands(loop)
        with pytest.raises(Retry, match="starting"):
            one.submit("rotate", {"connection": "g0a"})
        one.serve({Rotate: commands(build()).handlers[Rotate]})
        assert await asyncio.wrap_future(one.submit("rotate", {"connection": "g0a"})) == {"rotating": 1}

    asyncio.run(main())


def test_a_halted_symbol_of_another_stream_is_resumed_and_its_trades_are_left_alone() -> None:
    async def main() -> None:
        pipeline, lane, _ = of_streams()
        pipeline.lanes = {"aggTrade": lane, "depth": object()}  # type: ignore[dict-item]
        pipeline.sequencer.add(SYMBOL)
        lane.add(SYMBOL, None)
        positions = {SYMBOL: Position(1, 9, 9), f"aggTrade:{SYMBOL}": Position(1, 4, 4)}
        pipeline.take_up({SYMBOL: 10, f"aggTrade:{SYMBOL}": 5}, positions)
        lane.take_up({f"aggTrade:{SYMBOL}": 5}, positions)
        lane.sequencer.halt(SYMBOL, "voids", 0.0)
        thaw = commands(pipeline).handlers[Thaw]
        with pytest.raises(Stop, match="is not frozen"):
            await thaw(Thaw(SYMBOL, 5))
        with pytest.raises(Stop, match="not recorded"):
            await thaw(Thaw(SYMBOL, 5, stream="kline_1m"))
        with pytest.raises(Stop, match="goes on by itself"):
            await thaw(Thaw(SYMBOL, 5, stream="depth"))
        assert await thaw(Thaw(SYMBOL, 7, stream="aggTrade")) == {"symbol": SYMBOL, "next_id": 7, "voided": 2}
        assert lane.sequencer.halted() == []
        batch = pipeline.outbox.take()
        assert batch is not None
        assert [(void.symbol, void.first_id, void.last_id) for void in batch.voids] == [(f"aggTrade:{SYMBOL}", 5, 6)]

    run_virtual(main())


def test_an_operator_begins_a_symbol_whose_records_are_unknown_and_no_other() -> None:
    async def main() -> None:
        for reason in ("position_lost", "position_ahead", "records_unknown"):
            pipeline = build()
            pipeline.sequencer.add(SYMBOL)
            pipeline.on_trades("a", [trade(10, at=1.0)])
            pipeline.sequencer.halt(SYMBOL, reason, 0.0)
            thaw = commands(pipeline).handlers[Thaw]
            if reason == "records_unknown":
                with pytest.raises(Stop, match="does not write"):
                    await thaw(Thaw(SYMBOL, 10, "jane"))
            pipeline.activate({})
            if reason != "records_unknown":
                with pytest.raises(Stop, match=f"{reason}.*rebuild --replace"):
                    await thaw(Thaw(SYMBOL, 10, "jane"))
                continue
            with pytest.raises(Stop, match="trade 10 was received"):
                await thaw(Thaw(SYMBOL, 11, "jane"))
            assert await thaw(Thaw(SYMBOL, 9, "jane")) == {"symbol": SYMBOL, "next_id": 9, "voided": 0}
            assert pipeline.sequencer.halted() == []
            batch = pipeline.take()
            assert batch is not None
            assert batch.baselines == {SYMBOL: 9}
            assert pipeline.sequencer.sequences[SYMBOL].missing == 1  # 9 comes from history

    run_virtual(main())
