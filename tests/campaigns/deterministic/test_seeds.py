"""Thousands of seeds without a fault of ours, and planted faults that must not survive them."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.chaos.mutants import DETERMINISTIC, MUTANTS, Applied, Mutant
from tests.campaigns.deterministic.scenario import Scenario, run

QUICK, SIZE = 1_500, 50
QUICK_STREAMS = 150
STREAMS_SHARE = 20
"""Of so many seeds one is played with all streams, too: it takes three times as long."""
COUNT = int(os.environ.get("SEEDS", QUICK))


def _failed_once(name: str) -> tuple[int, ...]:
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return tuple(int(line.split()[0]) for line in lines if line and not line.startswith("#"))


FAILED_ONCE, STREAMS_FAILED_ONCE = _failed_once("failed_once.txt"), _failed_once("failed_once_streams.txt")
"""Seeds that have shown a fault: played for ever."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


def play(seeds: Iterator[int] | range | tuple[int, ...], *, streams: bool = False) -> None:
    failed = {seed: result.problems[:5] for seed in seeds if (result := run(seed, streams=streams)).problems}
    again = f"python -m tests.campaigns.deterministic SEED 1{' streams' if streams else ''}"
    assert not failed, f"play one again with `{again}`: {failed}"


def seeds_of(mutant: Mutant) -> range:
    return range(mutant.first, mutant.first + mutant.seeds)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, COUNT, SIZE))
def test_exactly_once_whatever_happens(first: int) -> None:
    play(range(first, first + SIZE))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, max(QUICK_STREAMS, COUNT // STREAMS_SHARE if COUNT > QUICK else 0), SIZE))
def test_every_stream_keeps_its_contract_whatever_happens(first: int) -> None:
    play(range(first, first + SIZE), streams=True)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_what_failed_once(seed: int) -> None:
    play((seed,))


@pytest.mark.parametrize("seed", STREAMS_FAILED_ONCE)
def test_what_failed_once_with_all_streams(seed: int) -> None:
    play((seed,), streams=True)


def test_a_seed_is_the_same_every_time() -> None:
    first, again = run(7), run(7)
    assert (first.events, first.trades, first.schedule) == (again.events, again.trades, again.schedule)


def test_a_broker_that_is_always_slow_is_written_to() -> None:
    """Every commit takes longer than the limit, so every one is doubted: that may cost speed, and must not end it."""
    scenario = Scenario(3)
    scenario.network.latency = (0.17, 0.19)
    result = scenario.run()
    assert result.problems == []
    assert result.trades > 10


def test_late_commits_hit_the_wrong_transaction_on_the_model() -> None:
    """The fault that the recycle rule exists for must be possible here, or its absence proves nothing."""
    with Applied("no-recycle"):
        assert any(run(seed).late_ends for seed in range(200))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_planted_fault_is_caught(name: str) -> None:
    with Applied(name):
        caught = next(
            (seed for seed in seeds_of(MUTANTS[name]) if run(seed, streams=MUTANTS[name].streams).problems), None
        )
    assert caught is not None, f"{name} has survived {MUTANTS[name].seeds} seeds: {MUTANTS[name].breaks}"
