"""What waits is counted in bytes, and not far from what it takes."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.held_events import HeldBytes, HeldEvents, size_of
from ingest.core.market_events import DepthUpdate, Quote


def depth(levels: int, text: str = "60000.12000000") -> DepthUpdate:
    content = {"e": "depthUpdate", "s": "BTCUSDT", "U": 1, "u": 2, "E": 3, "b": [(text, text)] * levels, "a": []}
    return msgspec.json.decode(msgspec.json.encode(content), type=DepthUpdate)


def quote(text: str = "60000.12000000") -> Quote:
    content = {"s": "BTCUSDT", "u": 2**40, "b": text, "B": text, "a": text, "A": text}
    return msgspec.json.decode(msgspec.json.encode(content), type=Quote)


@pytest.mark.parametrize(
    "make",
    [lambda: depth(0), lambda: depth(20), lambda: depth(2000, "1"), quote],
    ids=["none", "usual", "many", "quote"],
)
def test_an_event_takes_no_more_than_is_counted_for_it(make: Any) -> None:
    events = HeldEvents(held := HeldBytes())
    make()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        events[number] = make()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held.total / 6 < taken <= held.total


@given(st.lists(st.tuples(st.sampled_from("sdc"), st.integers(0, 4), st.integers(0, 5))))
def test_the_sum_is_that_of_what_is_in_it(steps: list[tuple[str, int, int]]) -> None:
    held = HeldBytes()
    first, second = HeldEvents(held), HeldEvents(held)
    second[1] = quote()
    for step, number, levels in steps:
        if step == "s":
            first[number] = depth(levels)
        elif step == "d" and number in first:
            del first[number]
        elif step == "c" and number == 0:
            first.clear()
        assert held.total == sum(map(size_of, [*first.values(), *second.values()]))
