"""Rates from the advance of ids."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.core.rates import Rates


def test_nothing_is_expected_of_what_is_not_known() -> None:
    rates = Rates()
    assert rates.expected("A", 1000.0) == 0.0
    rates.observe({"A": 5}, 0.0)
    assert rates.expected("A", 1000.0) == 0.0


@given(st.floats(0.1, 50.0), st.integers(1, 200))
def test_a_steady_rate_is_found(interval: float, each: int) -> None:
    rates = Rates()
    for step in range(30):
        rates.observe({"A": step * each}, step * interval)
    found = rates.expected("A", 100.0)
    assert abs(found - 100.0 * each / interval) <= 1e-6 * found


def test_silence_does_not_lower_the_rate_until_it_ends() -> None:
    rates = Rates()
    for second in range(10):
        rates.observe({"A": 10 * second}, float(second))
    before = rates.expected("A", 1.0)
    for second in range(10, 500):
        rates.observe({"A": 90}, float(second))
    assert rates.expected("A", 1.0) == before
    rates.observe({"A": 91}, 500.0)
    assert rates.expected("A", 1.0) < before / 5


def test_it_forgets_old_times() -> None:
    rates = Rates()
    for second in range(100):
        rates.observe({"A": 100 * second}, float(second))
    for step in range(1, 1000):
        rates.observe({"A": 9900 + step}, 99.0 + 10 * step)
    assert 0.09 < rates.expected("A", 1.0) < 0.2


def test_symbols_that_are_not_named_any_more_are_forgotten() -> None:
    rates = Rates()
    rates.observe({"A": 0, "B": 0}, 0.0)
    rates.observe({"A": 5, "B": 5}, 1.0)
    rates.observe({"B": 6}, 2.0)
    assert rates.expected("A", 1.0) == 0.0
    assert rates.expected("B", 1.0) > 0.0


def test_an_id_that_goes_back_is_no_trade() -> None:
    rates = Rates()
    rates.observe({"A": 10}, 0.0)
    rates.observe({"A": 3}, 1.0)
    assert rates.expected("A", 1.0) == 0.0
