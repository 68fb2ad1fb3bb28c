"""The growth judged on series whose truth is plain: the examples in which earlier methods were wrong."""

import numpy as np
import pytest

from ingest_ops.common.growth import assess
from ingest_ops.common.verdict import Verdict

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
T = np.arange(3600.0, 86_401.0, 60.0)
X = T / 86_400.0
LIMIT = 50.0


def verdict(y: np.ndarray, load: np.ndarray | None = None, noise: float = 0.3) -> Verdict:
    found = assess(
        T, 70.0 + y + np.random.default_rng(3).normal(0, noise, len(T)), over=86_400.0, start=3600.0, load=load
    )
    assert found is not None
    return found.verdict(LIMIT)[0]


LATE = np.maximum(0.0, X - 0.75) / 0.25
EXPONENTIAL = np.exp((X - 1) * 8)
BUSY = np.clip((X - 1 / 3) * 3, 0, 1)
SPIKE = 200.0 * np.where(X > 0.06, np.exp(-np.maximum(X - 0.06, 0) / 0.08), 0.0)


@pytest.mark.parametrize(
    ("name", "y", "right"),
    [
        ("no leak", 0.0 * X, {PASS}),
        ("40 MB", 40.0 * X, {PASS}),
        ("60 MB", 60.0 * X, {FAIL}),
        ("late, 60 MB", 60.0 * LATE, {INCONCLUSIVE, FAIL}),
        ("late, 100 MB", 100.0 * LATE, {FAIL}),
        ("exponential, 60 MB", 60.0 * EXPONENTIAL, {INCONCLUSIVE, FAIL}),
        ("under load only, 60 MB", 60.0 * BUSY, {INCONCLUSIVE, FAIL}),
        ("under load only, 200 MB", 200.0 * BUSY, {FAIL, INCONCLUSIVE}),
        ("60 MB and a back-fill spike", 60.0 * X + SPIKE, {INCONCLUSIVE, FAIL}),
        ("100 MB and a back-fill spike", 100.0 * X + SPIKE, {INCONCLUSIVE, FAIL}),
        ("60 MB in the last hour", 60.0 * np.maximum(0, X - 23 / 24) * 24, {INCONCLUSIVE, FAIL}),
        ("60 MB, daily wave of 60 MB", 60.0 * X + 30.0 * np.sin(2 * np.pi * (X + 0.4)), {INCONCLUSIVE, FAIL}),
        ("daily wave of 60 MB", 30.0 * np.sin(2 * np.pi * (X + 0.4)), {INCONCLUSIVE, PASS}),
        ("warm-up 100 MB, 6 h", 100.0 * (1 - np.exp(-X * 4)), {INCONCLUSIVE}),
        ("warm-up 100 MB, 12 h", 100.0 * (1 - np.exp(-X * 2)), {INCONCLUSIVE}),
        ("one step of 60 MB", 60.0 * (X > 0.5), {INCONCLUSIVE, FAIL}),
    ],
)  # fmt: skip
def test_the_verdict_on_a_known_shape(name: str, y: np.ndarray, right: set[Verdict]) -> None:
    assert verdict(y) in right, name


def test_steps_of_the_resolution_hide_no_growth() -> None:
    leak = np.floor(60.0 * X / 16) * 16
    found = assess(T, 70.0 + leak, over=86_400.0, start=3600.0)
    assert found is not None
    assert found.verdict(LIMIT)[0] is not PASS
    still = assess(T, 0.0 * T + 70.0, over=86_400.0, start=3600.0, step=16.0)
    assert still is not None
    assert still.verdict(LIMIT)[0] is PASS
    assert still.high == pytest.approx(32.0, rel=0.2)


def test_a_leak_in_the_last_hour_does_not_hide_in_memory_that_falls() -> None:
    falling = -60.0 * X
    assert verdict(falling) is INCONCLUSIVE, "what goes on to fall may hide as much growth"
    assert verdict(falling + 60.0 * np.maximum(0.0, X - 11 / 12) * 12) is not PASS


@pytest.mark.parametrize(("mb", "fold"), [(100, 0.5), (300, 0.5), (100, 1.0), (300, 1.0)])
def test_memory_that_decays_for_another_reason_than_the_load_hides_no_leak(mb: float, fold: float) -> None:
    decay = mb * np.exp(-X / fold)
    assert verdict(decay + 60.0 * X) is not PASS
    assert verdict(30.0 * np.exp(-X / 0.02)) is PASS, "the start's own spike, over before the window"


@pytest.mark.parametrize("drop", [20.0, 40.0])
@pytest.mark.parametrize("at", [0.2, 0.5, 0.8, 0.93])
def test_one_drop_hides_no_leak(drop: float, at: float) -> None:
    for leak in (X, LATE):
        assert verdict(60.0 * leak - drop * (at <= X)) is not PASS


@pytest.mark.parametrize("step", [16.0, 24.0, 32.0, 48.0])
@pytest.mark.parametrize("jitter", [0.05, 0.5])
def test_steps_hide_no_leak_whatever_single_samples_do_beside(step: float, jitter: float) -> None:
    for leak in (X, LATE, np.maximum(0.0, X - 11 / 12) * 12):
        for begin in (0.0, 3.0, 7.0, 13.0):
            steps = np.floor((begin + 60.0 * leak) / step) * step
            assert verdict(steps, noise=jitter) is not PASS
    assert verdict(0.0 * X, noise=jitter) is PASS


@pytest.mark.parametrize("keeps", [60.0, 100.0])
def test_what_an_allocator_keeps_of_the_highest_load_is_no_leak(keeps: float) -> None:
    for at in (0.3, 0.6, 0.8):
        peak = np.exp(-(((X - at) / 0.08) ** 2))
        load = 2000.0 * (1.0 + peak)
        assert verdict(keeps * np.maximum.accumulate(peak), load) is not FAIL
        assert verdict(keeps * np.maximum.accumulate(peak) + 200.0 * X, load) is FAIL


def test_memory_that_follows_the_load_is_judged_without_it() -> None:
    load = 2000.0 * (1.0 + 0.7 * np.sin(2 * np.pi * (X + 0.4)))
    wave = 30.0 * load / 2000.0
    assert verdict(wave) is INCONCLUSIVE
    assert verdict(wave, load) is PASS
    assert verdict(wave + 100.0 * X, load) is FAIL


def test_a_leak_under_load_is_not_explained_by_the_load() -> None:
    """It stays when the load ends, also where the load ends with the window."""
    for begin in (0.1, 1 / 3, 0.66):
        load = np.where((begin <= X) & (begin + 1 / 3 > X), 4000.0, 1000.0)
        leak = 100.0 * np.clip((X - begin) * 3, 0, 1)
        found = assess(T, 70.0 + leak, over=86_400.0, start=3600.0, load=load)
        assert found is not None
        assert found.per_load is None
        assert found.verdict(LIMIT)[0] is not PASS


STEP = np.where(X >= 0.75, 1.0, 0.0)
LASTING = {
    "rises": X, "step": STEP, "squared": X * X, "quarter sine": np.sin(np.pi / 2 * X), "stairs": np.floor(X * 4) / 4,
    "rising wave": X + 0.2 * np.sin(4 * np.pi * X), "last hours": np.maximum(0.0, X - 11 / 12) * 12,
    "peak": np.exp(-(((X - 0.6) / 0.1) ** 2)),
}  # fmt: skip
LEAKS = {"late": LATE, "step": STEP, "linear": X, "in the last two hours": np.maximum(0.0, X - 11 / 12) * 12}


def following(load: np.ndarray) -> np.ndarray:
    """The same growth as the load: a leak that only adds."""
    grown = np.concatenate([[0.0], np.cumsum(np.maximum(np.diff(load), 0.0))])
    return np.asarray(grown / grown[-1])


@pytest.mark.parametrize("course", LASTING)
@pytest.mark.parametrize("mb", [60.0, 100.0, 200.0])
def test_a_load_that_rises_explains_no_leak_away(course: str, mb: float) -> None:
    shape = LASTING[course]
    for leak in (*LEAKS.values(), following(shape)):
        for follows in (0.0, 60.0):
            load = 2000.0 * (1.0 + 1.5 * shape)
            assert verdict(mb * leak + follows * shape, load) is not PASS


@pytest.mark.parametrize("course", LASTING)
def test_memory_that_follows_a_lasting_rise_is_no_leak(course: str) -> None:
    shape = LASTING[course]
    for mb in (60.0, 150.0):
        assert verdict(mb * shape, 2000.0 * (1.0 + 1.5 * shape)) is not FAIL


@pytest.mark.parametrize("course", ["rises", "step", "squared", "quarter sine"])
def test_memory_that_a_falling_load_frees_hides_no_leak(course: str) -> None:
    shape = 1.0 - LASTING[course]
    for mb in (60.0, 100.0):
        assert verdict(mb * (1.0 - shape) + mb * shape, 2000.0 * (0.5 + shape)) is not PASS


def test_a_constant_load_and_one_that_memory_does_not_follow_change_nothing() -> None:
    jitter = 1.0 + 0.02 * np.random.default_rng(4).normal(size=len(T))
    for load in (2000.0 * jitter, 2000.0 * jitter * (1.0 + X), 2000.0 * jitter * (1.0 + 0.7 * np.sin(2 * np.pi * X))):
        assert verdict(0.0 * X, load) is PASS
    assert verdict(60.0 * X, 2000.0 * jitter) is FAIL


def test_a_step_in_the_last_minutes_is_seen() -> None:
    for samples in (2, 4, 6, 30):
        y = np.where(np.arange(len(T)) >= len(T) - samples, 60.0, 0.0)
        assert verdict(y) is not PASS, samples


def test_one_wrong_sample_changes_nothing() -> None:
    y = 70.0 + np.random.default_rng(3).normal(0, 0.3, len(T))
    y[700] = 0.0
    found = assess(T, y, over=86_400.0, start=3600.0)
    assert found is not None
    assert found.verdict(LIMIT)[0] is PASS


def test_a_block_without_samples_has_no_growth() -> None:
    keep = (X < 0.5) | (X > 0.7)
    assert assess(T[keep], 0.0 * T[keep], over=86_400.0, start=3600.0) is None


def test_a_random_walk_of_the_leaks_own_size_is_not_trusted() -> None:
    random = np.random.default_rng(1)
    walks = [np.cumsum(random.normal(0, 20.0 / len(T) ** 0.5, len(T))) for _ in range(200)]
    assert sum(verdict(60.0 * X + walk) is PASS for walk in walks) <= 2
    assert sum(verdict(walk) is FAIL for walk in walks) <= 2
