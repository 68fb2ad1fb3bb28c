"""The intervals of comparisons, against series of known truth."""

import math
import random
from itertools import accumulate

import pytest

from ingest_ops.deployment.statistics import difference, increase, increases, quotients, rates, ratio, slope, t_quantile

DRAWS = 400


def noise(chance: random.Random, size: int, rho: float) -> list[float]:
    values = [chance.gauss(0, 1)]
    for _ in range(size - 1):
        values.append(rho * values[-1] + math.sqrt(1 - rho * rho) * chance.gauss(0, 1))
    return values


@pytest.mark.parametrize(("rho", "outside"), [(0.0, 0.07), (0.5, 0.12)])
def test_equal_series_are_found_to_differ_about_as_rarely_as_the_interval_says(rho: float, outside: float) -> None:
    chance = random.Random(1)
    wrong = 0
    for _ in range(DRAWS):
        found = difference(noise(chance, 26, rho), noise(chance, 40, rho))
        assert found is not None
        wrong += not found.low <= 0 <= found.high
    assert wrong / DRAWS <= outside


@pytest.mark.parametrize(("rho", "outside"), [(0.0, 0.07), (0.5, 0.12)])
def test_a_flat_series_has_no_slope(rho: float, outside: float) -> None:
    chance = random.Random(2)
    wrong = 0
    for _ in range(DRAWS):
        found = slope([(15.0 * n, value) for n, value in enumerate(noise(chance, 26, rho))])
        assert found is not None
        wrong += not found.low <= 0 <= found.high
    assert wrong / DRAWS <= outside


def test_two_poisson_counts_of_one_rate_have_a_ratio_of_one() -> None:
    chance = random.Random(3)
    wrong = 0
    for _ in range(DRAWS):
        ours, theirs = (sum(chance.random() < 0.01 for _ in range(5000)) for _ in range(2))
        found = ratio(ours, theirs)
        wrong += not found.low <= 1 <= found.high
    assert wrong / DRAWS <= 0.08


def test_a_real_difference_and_a_real_slope_are_found() -> None:
    chance = random.Random(4)
    shifted = [value + 3 for value in noise(chance, 26, 0.3)]
    found = difference(shifted, noise(chance, 26, 0.3))
    assert found is not None
    assert found.low > 1
    line = slope([(float(n), 0.5 * n + chance.gauss(0, 1)) for n in range(30)])
    assert line is not None
    assert 0.4 < line.low < 0.5 < line.high < 0.6


def test_too_few_values_are_no_estimate() -> None:
    assert difference([1.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert slope([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]) is None
    assert slope([(1.0, 1.0)] * 5) is None


def test_counters_survive_a_restart() -> None:
    samples = [(float(at), value) for at, value in enumerate([10.0, 20.0, 5.0, 15.0])]
    assert increase(samples) == 10 + 5 + 10
    assert rates(samples) == [10.0, 10.0]
    assert increase([]) == increase(samples[:1]) == 0


def scraped(first: float, count: int, per_second: float = 100.0) -> list[tuple[float, float]]:
    """A counter, scraped each 15 seconds."""
    return [(first + 15.0 * n, per_second * (first + 15.0 * n)) for n in range(count)]


def test_two_counters_are_compared_over_the_same_time() -> None:
    """A window of 90 s at 15 s a scrape: seven samples of the predecessor, six of a candidate as fast as it."""
    ours, theirs = increases(scraped(1009.0, 6), scraped(1000.0, 7))
    assert (ours, theirs) == pytest.approx((7500.0, 7500.0))
    ours, theirs = increases(scraped(1009.0, 6, per_second=80.0), scraped(1000.0, 7))
    assert ours / theirs == pytest.approx(0.8)


def test_a_counter_that_never_came_gained_nothing_in_the_other_s_time() -> None:
    assert increases([], scraped(1000.0, 7)) == (0.0, 9000.0)
    assert increases(scraped(1000.0, 1), scraped(1000.0, 7)) == (0.0, 9000.0)


def test_a_restart_within_the_common_time_counts_from_zero() -> None:
    ours = [(0.0, 10.0), (10.0, 20.0), (20.0, 6.0), (30.0, 8.0)]
    assert increases(ours, [(5.0, 0.0), (25.0, 20.0)]) == pytest.approx((5.0 + 6.0 + 1.0, 20.0))


def test_a_histogram_s_mean_per_scrape() -> None:
    counts = [(float(at), float(value)) for at, value in enumerate(accumulate([0, 4, 0, 2]))]
    sums = [(float(at), value) for at, value in enumerate(accumulate([0.0, 2.0, 0.0, 3.0]))]
    assert quotients(sums, counts) == [0.5, 1.5]


@pytest.mark.parametrize(("degrees", "exact"), [(1, 12.706), (5, 2.571), (12, 2.179), (30, 2.042), (1000, 1.962)])
def test_student_s_t(degrees: float, exact: float) -> None:
    assert t_quantile(degrees) == pytest.approx(exact, rel=2e-3)
