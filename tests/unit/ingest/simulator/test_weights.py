"""Request weight per address: the window, the patience, the ban and its growth."""

import pytest

from ingest.simulator.weights import FIRST_BAN_S, LONGEST_BAN_S, Refusal, WeightMeter

IP, OTHER = "10.0.0.1", "10.0.0.2"


def test_the_window_begins_anew_with_the_clock() -> None:
    meter = WeightMeter(100)
    assert [meter.charge(IP, 60, now) for now in (0.0, 59.9, 60.0)] == [60, 120, 60]
    assert meter.refusal(IP, 60.0) is None
    assert meter.used(OTHER, 60.0) == 0


def test_429_until_the_minute_ends() -> None:
    meter = WeightMeter(100)
    meter.charge(IP, 101, 30.0)
    assert meter.refusal(IP, 30.0) == Refusal(429, 30, 60.0)
    assert meter.refusal(OTHER, 30.0) is None
    assert meter.refusal(IP, 60.0) is None


def test_who_goes_on_is_banned_and_longer_each_time() -> None:
    meter = WeightMeter(10, patience=2)
    now, lengths = 0.0, []
    for _ in range(14):
        for _ in range(4):
            meter.charge(IP, 11, now)
        refusal = meter.refusal(IP, now)
        assert refusal is not None
        assert refusal.status == 418
        lengths.append(refusal.until - now)
        assert meter.charge(IP, 1, now) == meter.used(IP, now)  # a banned address is not charged
        now = refusal.until + 60.0
    assert lengths[:3] == [FIRST_BAN_S, 2 * FIRST_BAN_S, 4 * FIRST_BAN_S]
    assert lengths[-1] == LONGEST_BAN_S


def test_bans_on_demand_and_pardon() -> None:
    meter = WeightMeter()
    assert meter.ban(IP, 10.0, 5.0) == 15.0
    assert meter.refusal(IP, 14.5) == Refusal(418, 1, 15.0)
    meter.reset_ban(IP)
    assert meter.refusal(IP, 14.5) is None


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"window_s": 0}, {"patience": -1}])
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        WeightMeter(**wrong)
