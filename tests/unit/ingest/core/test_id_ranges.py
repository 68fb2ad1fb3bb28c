"""Ranges of ids against a set."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.core.id_ranges import MOST_RANGES, IdRanges


@given(st.lists(st.integers(0, 60), max_size=100), st.integers(0, 61), st.integers(0, 61))
def test_it_equals_a_set(ids: list[int], asked: int, forgotten: int) -> None:
    ranges = IdRanges()
    for number in ids:
        ranges.add(number)
    assert ranges.first_from(asked) == min((number for number in ids if number >= asked), default=None)
    ranges.forget_below(forgotten)
    above = max(asked, forgotten)
    assert ranges.first_from(above) == min((number for number in ids if number >= above), default=None)


def test_it_is_bounded() -> None:
    ranges = IdRanges()
    for number in range(10 * MOST_RANGES):
        ranges.add(2 * number)
    assert len(ranges._ranges) == MOST_RANGES
