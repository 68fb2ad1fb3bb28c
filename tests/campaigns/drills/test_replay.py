"""The replay of recorded trades, as a test: ``make replay`` prints it."""

import pytest

from tests.campaigns.drills import replay
from tests.harness.recordings import BTCUSDT_TRADES, recording

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(900)]


def test_recorded_trades_at_twenty_times_their_speed_are_all_exact() -> None:
    if recording(BTCUSDT_TRADES) is None:
        pytest.skip("no recordings: set K2_RECORDINGS_DIR")
    assert replay.drill() == 0
