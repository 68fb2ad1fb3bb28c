"""Where the account of a symbol begins that has no position in Kafka."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from ingest.core.errors import Retry
from ingest.core.trade import Position, Trade, delivered_at
from ingest.kafka.last_records import Found
from ingest.service.backfill import Page as AnyPage
from ingest.service.initial_positions import InitialPositions
from ingest.service.pipeline import Pipeline
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import SYMBOL, Page, build, trade


class History:
    """Last ids and trades as REST has them, with errors on demand."""

    def __init__(self, last_ids: dict[str, int], trades: Iterable[Trade] = (), errors: int = 0) -> None:
        self.answer = last_ids
        self.trades = list(trades)
        self.errors = errors
        self.asked: list[list[str]] = []
        self.pages: list[int] = []

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        self.asked.append(list(symbols or []))
        if self.errors:
            self.errors -= 1
            raise Retry("503", after=3)
        return self.answer

    async def trades_from(self, symbol: str, from_id: int, limit: int = 1000) -> AnyPage:
        self.pages.append(from_id)
        found = [one for one in self.trades if one.symbol == symbol and one.trade_id >= from_id]
        return Page(sorted(found, key=lambda one: one.trade_id)[:limit], [])


class Recorded:
    """The trades topic's last ids, with errors on demand."""

    def __init__(self, last_ids: dict[str, int], errors: int = 0, unfinished: int = 0) -> None:
        self.answer = last_ids
        self.errors = errors
        self.unfinished = unfinished
        """So many searches come to no end."""
        self.since: dict[str, int] = {}

    async def last_recorded(self, symbols: Iterable[str], since_us: Mapping[str, int] | None = None) -> Found:
        self.since.update(since_us or {})
        if self.errors:
            self.errors -= 1
            raise Retry("the broker is down", after=2.0)
        if self.unfinished:
            self.unfinished -= 1
            return Found({}, frozenset(symbols))
        return Found({symbol: self.answer[symbol] for symbol in symbols if symbol in self.answer})


def play(
    history: History,
    *deliveries: list[Trade],
    seconds: float = 10.0,
    symbols: Sequence[str] = (SYMBOL,),
    positions: Mapping[str, Position] | None = None,
    recorded: Recorded | None = None,
    listed: Iterable[str] = (),
    since_us: int = trade(0).trade_time_us,
) -> Pipeline:
    """Deliver one list a second, and go on for a while."""

    async def main() -> Pipeline:
        pipeline = build()
        for symbol in symbols:
            pipeline.sequencer.add(symbol)
        initial = InitialPositions(
            pipeline,
            history,
            writing=lambda: pipeline.sequencer.active,
            receiving=lambda _: True,
            monotonic=asyncio.get_running_loop().time,
            recorded=recorded,
            since_us=since_us,
        )
        initial.begin_at_first_trade(listed)
        pipeline.activate(positions or {})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(initial.run())
            for trades in deliveries:
                pipeline.on_trades("g0a", trades)
                await asyncio.sleep(1.0)
            await asyncio.sleep(seconds)
            task.cancel()
        return pipeline

    return run_virtual(main())


def written(pipeline: Pipeline) -> tuple[dict[str, int], list[tuple[str, int]], list[Any]]:
    batch = pipeline.take()
    if batch is None:
        return {}, [], []
    return batch.baselines, [record[:2] for record in batch.records], batch.dead_letters


def test_a_trading_symbol_begins_with_its_first_trade_and_a_quiet_one_behind_the_last_id() -> None:
    history = History({SYMBOL: 13, "ETHUSDT": 41, "NEWUSDT": -1}, [trade(n) for n in range(1, 14)], errors=1)
    pipeline = play(
        history,
        [trade(12), trade(11), trade(13)],
        symbols=(SYMBOL, "ETHUSDT", "NEWUSDT", "KNOWN"),
        positions={"KNOWN": Position(1, 5, 5)},
    )
    baselines, records, letters = written(pipeline)
    assert baselines == {SYMBOL: 11, "ETHUSDT": 42}
    assert records == [(SYMBOL, 11), (SYMBOL, 12), (SYMBOL, 13)]
    assert letters == []
    assert pipeline.sequencer.sequences["NEWUSDT"].next_id is None
    assert len(history.asked) <= 4


def test_history_does_not_state_when_the_exchange_sent_a_trade_and_is_no_contradiction() -> None:
    sent = [delivered_at(trade(n), 1_700_000_000_000_500) for n in (11, 12)]
    pipeline = play(History({SYMBOL: 13}, [trade(n) for n in range(1, 14)]), sent)
    baselines, records, letters = written(pipeline)
    assert baselines == {SYMBOL: 11}
    assert records == [(SYMBOL, 11), (SYMBOL, 12)]
    assert letters == []


@pytest.mark.parametrize(
    ("false", "why"),
    [
        (trade(7, at=5.0), "history forgot such ids long ago"),
        (trade(4_999_998, "9.9", at=5.0), "history has another trade under this id"),
        (trade(10**12, at=5.0), "history is far from this id"),
    ],
)
def test_a_false_first_trade_is_not_the_beginning(false: Trade, why: str) -> None:
    real = [trade(n, at=float(n - 5_000_000)) for n in range(4_999_990, 5_000_010)]
    history = History({SYMBOL: 5_000_000}, real)
    pipeline = play(history, [false], *([one] for one in real[11:]), seconds=40.0)
    baselines, records, letters = written(pipeline)
    assert baselines == {SYMBOL: 5_000_001}, why
    assert records == [(SYMBOL, n) for n in range(5_000_001, 5_000_010)]
    if false.trade_id < 10**12:
        assert [letter.reason for letter in letters] == ["out_of_sequence"]


def test_a_false_first_trade_alone_begins_nothing() -> None:
    pipeline = play(History({SYMBOL: 5_000_009}), [trade(10**12)], seconds=120.0)
    baselines, records, letters = written(pipeline)
    assert records == []
    assert baselines == {SYMBOL: 5_000_010}, "as a quiet symbol does"
    assert [letter.trade_id for letter in letters] == [10**12]


def test_many_symbols_are_compared_with_the_last_ids_alone() -> None:
    symbols = [f"S{number}USDT" for number in range(41)]
    history = History(dict.fromkeys(symbols, 100))
    pipeline = play(history, [trade(101, symbol=symbol) for symbol in symbols], symbols=symbols)
    assert len(written(pipeline)[0]) == 41
    assert history.pages == []


def test_history_that_is_behind_or_out_of_reach_does_not_stop_a_symbol_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for history in (History({SYMBOL: 99}), History({SYMBOL: -1}), History({}, errors=10**6)):
        pipeline = play(history, [trade(101)], seconds=20.0)
        assert written(pipeline)[0] == {}
        with caplog.at_level(logging.WARNING):
            pipeline = play(history, [trade(101)], seconds=40.0)
        assert written(pipeline)[:2] == ({SYMBOL: 101}, [(SYMBOL, 101)])
        assert "does not show the first trade" in caplog.text
        caplog.clear()


def test_a_symbol_that_has_records_never_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    history = History({SYMBOL: 13, "ETHUSDT": 41}, [trade(n) for n in range(1, 14)])
    pipeline = play(
        history,
        [trade(12), trade(13)],
        symbols=(SYMBOL, "ETHUSDT"),
        recorded=Recorded({SYMBOL: 9}, errors=3),
    )
    baselines, records, _ = written(pipeline)
    assert (baselines, records) == ({"ETHUSDT": 42}, [])
    assert [(one.symbol, one.halted) for one in pipeline.sequencer.halted()] == [(SYMBOL, "position_lost")]
    assert "ingest positions rebuild" in caplog.text


def test_nothing_begins_while_the_topic_cannot_be_asked() -> None:
    history = History({SYMBOL: 13}, [trade(n) for n in range(1, 14)])
    pipeline = play(history, [trade(13)], recorded=Recorded({}, errors=10**6), seconds=300.0)
    assert written(pipeline)[0] == {}


@pytest.mark.parametrize("pending", [True, False])
def test_a_search_without_an_end_halts_the_symbol_and_goes_on(caplog: pytest.LogCaptureFixture, pending: bool) -> None:
    history = History({SYMBOL: 13}, [trade(n) for n in range(1, 14)])
    arrived = [[trade(13)]] if pending else []
    for answer, reason in (({}, "records_unknown"), ({SYMBOL: 9}, "records_unknown")):
        pipeline = play(history, *arrived, recorded=Recorded(answer, unfinished=10**6), seconds=300.0)
        assert [one.halted for one in pipeline.sequencer.halted()] == [reason]
        assert written(pipeline)[0] == {}
    pipeline = play(history, *arrived, recorded=Recorded({SYMBOL: 9}, unfinished=3), seconds=60.0)
    assert [one.halted for one in pipeline.sequencer.halted()] == ["position_lost"]
    pipeline = play(history, *arrived, recorded=Recorded({}, unfinished=3), seconds=60.0)
    assert pipeline.sequencer.halted() == []
    assert written(pipeline)[0] == {SYMBOL: 13 if pending else 14}


def test_a_name_that_one_reply_lacked_is_no_listing(caplog: pytest.LogCaptureFixture) -> None:
    history = History({SYMBOL: 500}, [trade(n) for n in range(501)])
    pipeline = play(history, [trade(500)], listed=[SYMBOL], since_us=trade(0, at=2 * 3600.0).trade_time_us)
    assert written(pipeline)[0] == {SYMBOL: 500}
    assert "not a new listing" in caplog.text


def test_records_of_a_listing_are_not_looked_for_before_its_first_trade() -> None:
    recorded = Recorded({})
    history = History({SYMBOL: 500}, [trade(n, at=60.0) for n in range(3, 501)])
    assert written(play(history, [trade(500)], listed=[SYMBOL], recorded=recorded))[0] == {SYMBOL: 3}
    assert recorded.since == {SYMBOL: trade(3, at=60.0).trade_time_us}


def test_a_symbol_listed_while_we_run_begins_with_the_first_trade_there_is() -> None:
    history = History({SYMBOL: 500}, [trade(n) for n in range(3, 501)])
    pipeline = play(history, [trade(500)], listed=[SYMBOL])
    assert written(pipeline)[0] == {SYMBOL: 3}
    assert history.pages == [0]


def test_nothing_is_asked_where_its_first_trade_is_here() -> None:
    history = History({SYMBOL: 0}, [trade(0)])
    assert written(play(history, [trade(0)], listed=[SYMBOL]))[0] == {SYMBOL: 0}


def test_a_first_trade_that_history_never_gives_is_given_up_by_a_rule() -> None:
    history = History({SYMBOL: 500})
    assert written(play(history, [trade(500)], listed=[SYMBOL], seconds=60.0))[0] == {}
    history.pages.clear()
    assert written(play(history, [trade(500)], listed=[SYMBOL], seconds=200.0))[0] == {SYMBOL: 500}
    assert history.pages[:8] == [0] * 8
    assert 0 not in history.pages[8:]


def test_symbols_that_have_never_traded_are_asked_about_less_and_less() -> None:
    history = History({SYMBOL: -1})
    play(history, seconds=3600.0)
    assert 7 <= len(history.asked) <= 10


def test_an_answer_that_stays_unusable_is_asked_for_less_and_less() -> None:
    """Each attempt may be a request for all symbols: at one a second they would spend the whole budget."""
    history = History({SYMBOL: 7}, errors=1000)
    play(history, seconds=600.0)
    assert 40 <= len(history.asked) <= 45
    recovered = History({SYMBOL: 7}, errors=1)
    pipeline = play(recovered, seconds=10.0)
    assert written(pipeline)[0] == {SYMBOL: 8}


def test_a_symbol_that_has_not_traded_for_a_day_begins_with_its_first_trade_at_once() -> None:
    history = History({SYMBOL: -1}, [trade(500)])
    pipeline = play(history, [], [], [], [trade(500)], seconds=2.0)
    assert written(pipeline)[:2] == ({SYMBOL: 500}, [(SYMBOL, 500)])


def test_a_symbol_that_opens_after_a_long_break_begins_at_once() -> None:
    quiet: list[list[Trade]] = [[] for _ in range(90)]  # in BREAK, asked about twice by then
    history = History({SYMBOL: -1}, [trade(0), trade(1)])
    assert written(play(history, *quiet, [trade(0)], [trade(1)], seconds=3.0))[:2] == (
        {SYMBOL: 0},
        [(SYMBOL, 0), (SYMBOL, 1)],
    )
