"""A day on one feed: no leak, no silence, nothing lost. ``make soak-24h``."""

import pytest

from ingest_ops.soak.plan import SOAK_24H
from tests.campaigns.soak.conftest import Soak
from tests.campaigns.soak.verdicts import demand

DAY_AND_AUDIT = 30 * 3600


@pytest.mark.soak
@pytest.mark.timeout(DAY_AND_AUDIT)
def test_a_day_passes(run_soak: Soak) -> None:
    demand(*run_soak(SOAK_24H))
