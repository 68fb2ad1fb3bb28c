"""A symbol without a position begins only where its topic has no records; here for a stream besides the trades."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

import msgspec
import pytest

from ingest.core.errors import Retry
from ingest.kafka.last_records import Found
from ingest.service.records_guard import RETRY_SECONDS, SEARCH_SECONDS, LaneBeginnings
from tests.unit.ingest.service.test_numbered_lane import aggregate, build


class Topic:
    """Answers one after the other; the last one is repeated."""

    def __init__(self, *answers: Found | Retry) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    async def last_recorded(self, symbols: Iterable[str], since_us: Mapping[str, int] | None = None) -> Found:
        self.asked.append(sorted(symbols))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Retry):
            raise answer
        return answer


def play(topic: Topic, *, seconds: float = 60.0, late: str | None = None) -> tuple[dict[str, int], dict[str, str]]:
    """Returns the beginnings and the halted symbols. ``late``: another symbol that comes after the first search."""

    async def main() -> tuple[dict[str, int], dict[str, str]]:
        now = 0.0
        pipeline, lane, _ = build()
        lane.on_trades("aggTrade-g0a", [aggregate(8), aggregate(9)])  # type: ignore[list-item]
        pipeline.activate({})
        beginnings = LaneBeginnings(lane, topic, monotonic=lambda: now)
        baselines: dict[str, int] = {}
        while now < seconds:
            await beginnings.step()
            batch = pipeline.take()
            baselines |= batch.baselines if batch is not None else {}
            now += 0.5
            if late is not None and now == 1.0:
                lane.add(late, None)
                lane.on_trades("aggTrade-g0a", [late_event(late)])  # type: ignore[list-item]
        return baselines, {one.symbol: str(one.halted) for one in lane.sequencer.halted()}

    return asyncio.run(main())


def late_event(symbol: str) -> object:
    return msgspec.structs.replace(aggregate(3), symbol=symbol)


def test_a_stream_whose_topic_has_no_records_begins_and_is_not_asked_again() -> None:
    topic = Topic(Found({}))
    assert play(topic) == ({"aggTrade:BTCUSDT": 8}, {})
    assert topic.asked == [["BTCUSDT"]]


def test_a_stream_that_has_records_never_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert play(Topic(Found({"BTCUSDT": 5}))) == ({}, {"BTCUSDT": "position_lost"})
    assert "ingest positions rebuild" in caplog.text


def test_an_unfinished_search_goes_on_after_a_pause_whoever_else_is_asked_about_meanwhile() -> None:
    unfinished = Found({}, frozenset({"BTCUSDT"}))
    topic = Topic(unfinished, Found({}), unfinished, Found({}))
    begun, halted = play(topic, late="ETHUSDT")
    assert (begun, halted) == ({"aggTrade:BTCUSDT": 8, "aggTrade:ETHUSDT": 3}, {})
    assert topic.asked == [["BTCUSDT"], ["ETHUSDT"], ["BTCUSDT"], ["BTCUSDT"]]
    assert play(Topic(unfinished)) == ({}, {"BTCUSDT": "records_unknown"})


def test_nothing_begins_while_the_topic_cannot_be_asked() -> None:
    topic = Topic(Retry("the broker is down", after=2.0))
    assert play(topic) == ({}, {})
    assert len(topic.asked) <= 60 / 2
    assert RETRY_SECONDS < SEARCH_SECONDS
