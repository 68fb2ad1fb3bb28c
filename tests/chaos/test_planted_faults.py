"""Faults planted into the service, on the real processes: the chaos runner must catch each."""

import pytest

from tests.chaos.arena import Ground
from tests.chaos.hunt import caught, hunt
from tests.chaos.mutants import MUTANTS

FIVE = (
    "no-deduplication",
    "resume-at-the-live-head",
    "hole-filler-off-by-one",
    "random-transactional-ids",
    "time-in-milliseconds",
)


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FIVE)
def test_a_planted_fault_is_caught(ground: Ground, name: str) -> None:
    tried = 0
    for seed in (1, 2, 3):  # a schedule may miss it: when a fault strikes is the machine's to say, too
        outcome = hunt(ground, name, faults=30, seconds=15.0, seed=seed)
        tried += len(outcome.injected)
        if caught(outcome):
            return
    pytest.fail(f"{name} has survived {tried} faults: {MUTANTS[name].breaks}")
