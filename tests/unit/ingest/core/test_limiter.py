"""Rolling windows against a naive count, and back-off without sleeping."""

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from ingest.core.backoff import full_jitter
from ingest.core.limiter import RollingWindow


@given(st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 3), st.booleans()), max_size=80), st.integers(3, 8))
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[float, int, bool]], limit: int) -> None:
    window = RollingWindow(limit=limit, window=1.0)
    now, spent = 0.0, list[tuple[float, int]]()
    for step, cost, patient in steps:
        now += step
        delay = window.take(now, cost)
        naive = sum(units for at, units in spent if now - at < 1.0)
        assert (delay == 0.0) == (naive + cost <= limit)
        if delay > 0.0 and patient:
            now += delay + 1e-9
            assert window.take(now, cost) == 0.0
            delay = 0.0
        if delay == 0.0:
            spent.append((now, cost))
        assert window.used(now) == sum(units for at, units in spent if now - at < 1.0) <= limit


def test_what_is_spent_anyway_counts() -> None:
    window = RollingWindow(limit=5, window=1.0)
    for _ in range(6):
        window.note(0.0)
    assert window.wait(0.5) == 0.5
    assert window.take(1.0) == 0.0


def test_back_off_grows_to_its_ceiling_and_never_ends() -> None:
    ceilings = list(islice(full_jitter(initial=0.25, maximum=30, uniform=lambda _, high: high), 10))
    assert ceilings == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    drawn = list(islice(full_jitter(initial=0.25, maximum=30, uniform=random.Random(1).uniform), 1000))
    assert all(0 <= seconds <= 30 for seconds in drawn)
    assert len(set(drawn)) > 990


def test_what_never_fits_is_waited_for_a_window_at_a_time() -> None:
    window = RollingWindow(limit=5, window=1.0)
    assert window.wait(0.0, 6) == 1.0
    window.note(0.0, 2)
    assert window.wait(0.5, 9) == 1.0
