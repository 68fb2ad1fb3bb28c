"""An hour on one feed: the smoke test before and after a deployment. ``make soak-1h``."""

import pytest

from ingest_ops.soak.plan import SOAK_1H
from tests.campaigns.soak.conftest import Soak
from tests.campaigns.soak.verdicts import demand

HOUR_AND_AUDIT = 2 * 3600


@pytest.mark.soak
@pytest.mark.timeout(HOUR_AND_AUDIT)
def test_an_hour_passes(run_soak: Soak) -> None:
    demand(*run_soak(SOAK_1H))
