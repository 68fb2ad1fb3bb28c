"""The replays of recordings, as tests: ``make replay`` and ``make replay-full`` print them."""

import pytest

from tests.campaigns.drills import replay, replay_full
from tests.harness.recordings import BTCUSDT_FULL, BTCUSDT_TRADES, recording

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(900)]


def test_recorded_trades_at_twenty_times_their_speed_are_all_exact() -> None:
    if recording(BTCUSDT_TRADES) is None:
        pytest.skip("no recordings: set K2_RECORDINGS_DIR")
    assert replay.drill() == 0


def test_the_recorded_market_keeps_every_contract_and_its_book_agrees_with_its_quotes() -> None:
    if recording(BTCUSDT_FULL) is None:
        pytest.skip("no recordings: set K2_RECORDINGS_DIR")
    assert replay_full.drill() == 0
