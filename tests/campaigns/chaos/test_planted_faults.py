"""Faults planted into the service, on the real processes: the chaos runner must catch each."""

import pytest

from tests.campaigns.chaos.environment import SharedParts
from tests.campaigns.chaos.hunt import attempts, pursue
from tests.campaigns.chaos.mutants import MUTANTS

FIVE = (
    "no-deduplication",
    "resume-at-the-live-head",
    "no-recycle",
    "random-transactional-ids",
    "time-in-milliseconds",
)


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FIVE)
def test_a_planted_fault_is_caught(shared: SharedParts, name: str) -> None:
    # A plan may miss it, and is followed by others: when a fault strikes is the machine's to say, too.
    found = pursue(shared, name, attempts(name))
    assert found.caught, f"{name} has survived {found.faults} faults: {MUTANTS[name].breaks}; {found.problems}"
