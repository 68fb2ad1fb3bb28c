"""The trend: exact where it can be, robust where it must be, and honest about what it does not know."""

from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_ops.common.trend import minima, small_sample, trend


def pairs(x: list[float], y: list[float]) -> float:
    return median((y[j] - y[i]) / (x[j] - x[i]) for i, j in combinations(range(len(x)), 2) if x[j] > x[i])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(50.0, 90.0)), min_size=5, max_size=30).filter(
        lambda points: len({x for x, _ in points}) > 1
    )
)
def test_the_slope_is_the_median_over_all_pairs(points: list[tuple[int, float]]) -> None:
    points = sorted(points)
    x, y = [float(at) for at, _ in points], [value for _, value in points]
    found = trend(x, y, block=3)
    assert found is not None
    assert found.slope == pytest.approx(pairs(x, y), abs=2e-4)
    assert found.low <= found.slope + 1e-9
    assert found.high >= found.slope - 1e-9


def test_a_straight_line_has_no_interval() -> None:
    found = trend(list(range(20)), [70.0 + 0.5 * x for x in range(20)], block=4)
    assert found is not None
    assert (found.slope, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5), abs=1e-5)
    assert found.intercept == pytest.approx(70.0, abs=1e-4)
    assert found.times(10.0) == pytest.approx((5.0, 5.0, 5.0), abs=1e-4)


def test_a_quarter_of_wild_points_changes_little() -> None:
    y = [70.0 + 0.5 * x for x in range(40)]
    for at in range(3, 40, 4):
        y[at] += 500.0
    found = trend(list(range(40)), y, block=4)
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.2)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    x = np.arange(92.0)
    held = 0
    for _ in range(200):
        noise = np.empty(92)
        value = random.normal()
        for at in range(92):
            noise[at] = value
            value = 0.6 * value + random.normal(0.0, 0.8)
        found = trend(x.tolist(), (0.1 * x + noise).tolist(), block=16)
        assert found is not None
        held += found.low <= 0.1 <= found.high
    assert held >= 170  # nominally 180 of 200


def test_the_same_samples_give_the_same_interval() -> None:
    y = np.random.default_rng(3).normal(0.0, 1.0, 50).tolist()
    assert trend(list(range(50)), y, block=8) == trend(list(range(50)), y, block=8)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0, 2.0, 3.0, 4.0], [1.0] * 4), ([2.0] * 9, [1.0] * 9)])
def test_too_little_is_no_trend(x: list[float], y: list[float]) -> None:
    assert trend(x, y, block=2) is None


def test_fewer_blocks_widen_the_interval_more() -> None:
    assert small_sample(3.0) > small_sample(6.0) > small_sample(30.0) > 1.0


def test_the_lowest_of_each_slot_is_kept_and_empty_slots_are_left_out() -> None:
    at, lowest = minima([0.0, 5.0, 9.0, 10.0, 31.0, 39.0], [3.0, 1.0, 2.0, 7.0, 5.0, 4.0], 10.0)
    assert (at, lowest) == ([5.0, 10.0, 39.0], [1.0, 7.0, 4.0])
