import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.checks import ALERTS
from ingest.core.leak import MB, leak_score, on_scale, retained
from tests.harness.leak_score import (
    ALARM,
    DEPLOYED_SAMPLES,
    HARMLESS,
    HOURLY_MB,
    HOURS,
    INTERVAL,
    LEAKS,
    STEPPED,
    WARNING,
    WINDOW,
    alert_fires,
    highest,
    leak,
    plus,
    regression_score,
    saw_tooth,
    series,
    step,
    warm_up,
)

SLOW_WARM_UP = "warm-up, constant 60 min"
"""The one harmless kind that cannot be told from a leak at 0.5: see the module."""


def rng() -> random.Random:
    return random.Random(7)


@pytest.mark.parametrize(("rate", "score"), [(-20, 0.0), (0, 0.0), (5, 0.25), (10, 0.5), (30, 0.75), (50, 1), (500, 1)])
def test_the_scale_of_the_origin(rate: float, score: float) -> None:
    assert on_scale(rate) == score


@pytest.mark.parametrize("rate", [0.0, 5.0, 10.0, 20.0, 30.0, 50.0, 400.0])
def test_a_steady_leak_without_noise_is_exactly_on_the_scale(rate: float) -> None:
    assert leak_score(series(leak(rate), rng(), 0.0, WINDOW)) == pytest.approx(on_scale(rate))


@pytest.mark.parametrize("rate", [20.0, 30.0, 50.0])
def test_a_steady_leak_with_noise_is_near_the_scale(rate: float) -> None:
    random_numbers = rng()
    for _ in range(20):
        found = leak_score(series(leak(rate), random_numbers, 0.3, WINDOW))
        assert found == pytest.approx(on_scale(rate), abs=0.06)


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_series_raise_no_alarm(kind: str) -> None:
    maker, noise = HARMLESS[kind]
    random_numbers = rng()
    scores = [highest(series(maker(random_numbers), random_numbers, noise), leak_score) for _ in range(20)]
    assert sum(score >= ALARM for score in scores) <= (2 if kind == SLOW_WARM_UP else 0), scores
    if kind not in (SLOW_WARM_UP, "warm-up and saw-tooth"):
        assert max(scores) < WARNING


@pytest.mark.parametrize("kind", LEAKS)
def test_leaks_are_found(kind: str) -> None:
    maker, noise, threshold = LEAKS[kind]
    random_numbers = rng()
    scores = [highest(series(maker(random_numbers), random_numbers, noise), leak_score) for _ in range(20)]
    assert min(scores) >= threshold


@pytest.mark.parametrize("kind", STEPPED)
def test_the_alert_finds_leaks_in_large_steps(kind: str) -> None:
    maker, noise = STEPPED[kind]
    random_numbers = rng()
    assert all(alert_fires(series(maker(random_numbers), random_numbers, noise, DEPLOYED_SAMPLES)) for _ in range(2))


@pytest.mark.parametrize("kind", ["three steps", "warm-up, constant 60 min", "saw-tooth, 20 to 45 min"])
def test_the_alert_stays_quiet_without_a_leak(kind: str) -> None:
    maker, noise = HARMLESS[kind]
    random_numbers = rng()
    assert not any(
        alert_fires(series(maker(random_numbers), random_numbers, noise, DEPLOYED_SAMPLES)) for _ in range(3)
    )


def test_the_measured_alert_is_the_deployed_one() -> None:
    expr = next(alert.expr for alert in ALERTS if alert.name == "BinanceMemoryLeakDetected")
    assert f"> {ALARM}" in expr
    assert "quantile_over_time(0.2," in expr
    assert expr.count(f"> {HOURLY_MB:g} * ") == HOURS


def test_the_regression_fires_on_a_warm_up_where_this_score_does_not() -> None:
    warming = series(warm_up(80.0, 1800.0), rng(), 0.3, WINDOW)
    assert regression_score(warming) >= ALARM
    assert leak_score(warming) < WARNING


def test_one_step_wherever_it_is_does_not_fire() -> None:
    for at in range(0, int(WINDOW * INTERVAL), 60):
        assert leak_score(series(step(100.0, at), rng(), 0.3, WINDOW)) < 0.25, at


def test_a_step_does_not_hide_a_leak() -> None:
    for at in range(0, int(WINDOW * INTERVAL), 60):
        assert leak_score(series(plus(leak(50.0), step(60.0, at)), rng(), 0.3, WINDOW)) >= ALARM, at


def test_memory_that_is_given_back_scores_nothing() -> None:
    falling = [(i * INTERVAL, (200.0 - i) * MB) for i in range(WINDOW)]
    assert leak_score(falling) == 0.0
    once = [
        (t, size if i < WINDOW - 1 else 70.0 * MB) for i, (t, size) in enumerate(series(leak(80.0), rng(), 0.0, 120))
    ]
    assert leak_score(once) < leak_score(once[:-1])


def test_the_last_tooth_is_no_leak() -> None:
    assert leak_score(series(saw_tooth(60.0, 1200.0, 300.0), rng(), 0.0, WINDOW)) == 0.0


@pytest.mark.parametrize("count", range(8))
def test_too_few_samples_score_nothing(count: int) -> None:
    assert leak_score([(i * INTERVAL, i * 100.0 * MB) for i in range(count)]) == 0.0


def test_samples_that_span_no_time_score_nothing() -> None:
    assert leak_score([(5.0, i * 100.0 * MB) for i in range(WINDOW)]) == 0.0


@given(st.lists(st.floats(0, 2**40), max_size=150), st.floats(0.001, 3600))
def test_it_is_a_score_whatever_it_is_given(sizes: list[float], interval: float) -> None:
    score = leak_score([(index * interval, size) for index, size in enumerate(sizes)])
    assert 0.0 <= score <= 1.0
    assert not math.isnan(score)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=100))
def test_what_is_retained_never_falls_and_is_never_above_the_sample(sizes: list[float]) -> None:
    floor = retained(sizes)
    assert all(low <= size for low, size in zip(floor, sizes, strict=True))
    assert floor == sorted(floor)
    assert floor[-1] == sizes[-1]
    assert floor[0] == min(sizes)


@given(st.integers(0, 10**9), st.floats(0, 1e6))
def test_base_and_start_time_do_not_matter(base: int, start: float) -> None:
    samples = series(leak(20.0), rng(), 0.3, WINDOW)
    moved = [(t + start, size + base) for t, size in samples]
    assert leak_score(moved) == pytest.approx(leak_score(samples), abs=1e-3)
