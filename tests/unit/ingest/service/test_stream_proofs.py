"""What aggregates and bars prove about the trades that they name."""

import pytest

from ingest.core.market_events import AggTrade, Bar
from ingest.service.stream_proofs import TradeRanges

FIGURES = ("1", "1", "1", "1", "1", "1", "1", "1")


def aggregate(number: int, first: int, last: int) -> AggTrade:
    return AggTrade("BTCUSDT", number, "1.0", "1.0", first, last, 5, True)


def bar(number: int, first: int, last: int, count: int) -> Bar:
    return Bar("BTCUSDT", "1m", number, 0, 1, FIGURES, count, first, last)


@pytest.mark.parametrize(
    ("events", "disagreements"),
    [
        ([aggregate(1, 10, 12), aggregate(2, 13, 13), aggregate(3, 14, 20)], 0),
        ([aggregate(1, 10, 12), aggregate(2, 14, 14), aggregate(3, 15, 15)], 1),
        ([aggregate(1, 10, 12), aggregate(2, 12, 14)], 1),
        ([aggregate(1, 12, 10)], 1),
        ([aggregate(1, 10, 12), aggregate(5, 30, 31)], 0),  # not the next one: nothing is known between
        ([bar(1, 10, 12, 3), bar(2, -1, -1, 0), bar(3, 13, 13, 1)], 0),
        ([bar(1, 10, 12, 3), bar(2, -1, -1, 0), bar(3, 14, 14, 1)], 1),
        ([bar(1, 10, 12, 2)], 1),
        ([bar(1, 10, 12, 3), bar(2, -1, -1, 7), bar(3, 99, 99, 1)], 0),  # one of history, without ids
    ],
)
def test_trades_that_an_event_leaves_out_are_counted(events: list[AggTrade | Bar], disagreements: int) -> None:
    found: list[int] = []
    ranges = TradeRanges(lambda: found.append(1))
    for event in events:
        ranges.released(event)
    assert len(found) == disagreements


def test_a_symbol_that_comes_back_begins_anew() -> None:
    found: list[int] = []
    ranges = TradeRanges(lambda: found.append(1))
    ranges.released(aggregate(1, 10, 12))
    ranges.forget("BTCUSDT")
    ranges.released(aggregate(2, 90, 91))
    assert found == []
