"""A clock that differs from the exchange's is reported once, as soon as it has been set."""

import logging
import math

import pytest

from ingest.binance.server_time import ClockDifference, parse_server_time
from ingest.core.errors import Reject, Retry
from ingest.metrics import Metrics
from ingest.service.clock_check import CHECK_SECONDS, RETRY_SECONDS, ClockCheck


class Machine:
    """A clock that a test sets, and the exchange that it is compared with."""

    def __init__(self) -> None:
        self.elapsed = 100.0
        self.ahead = 0.0
        self.requests = 0
        self.answers = True

    def monotonic(self) -> float:
        return self.elapsed

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + int((self.elapsed + self.ahead) * 1e9)

    async def measure(self) -> ClockDifference:
        self.requests += 1
        if not self.answers:
            raise Retry("no answer")
        return ClockDifference(self.ahead, 0.1)


async def after(check: ClockCheck, machine: Machine, seconds: float) -> int:
    """Poll once after this time; returns the number of requests that it made."""
    before = machine.requests
    machine.elapsed += seconds
    await check.step()
    return machine.requests - before


async def test_a_clock_that_has_been_set_is_reported_at_once_and_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine()
    check = ClockCheck(machine.measure, clock=machine)
    assert [await after(check, machine, 1.0) for _ in range(3)] == [1, 0, 0]
    assert not caplog.records
    machine.ahead = 7200.0
    assert await after(check, machine, 1.0) == 1
    assert await after(check, machine, CHECK_SECONDS) == 1
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "clock is 7200.0 s ahead of the exchange's" in warning.getMessage()
    assert vars(warning)["ahead_seconds"] == 7200.0
    machine.ahead = 0.0
    assert await after(check, machine, 1.0) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_clock_that_is_wrong_at_the_start_or_drifts_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.ahead = -6.0
    check = ClockCheck(machine.measure, clock=machine)
    await after(check, machine, 1.0)
    assert "6.0 s behind the exchange's" in caplog.text
    machine.ahead = 4.0
    check = ClockCheck(machine.measure, clock=machine)
    await after(check, machine, 1.0)
    for _ in range(5):
        machine.ahead += 0.5
        await after(check, machine, CHECK_SECONDS)
    assert len(caplog.records) == 2


async def test_each_comparison_is_shown_and_nothing_before_the_first() -> None:
    machine, metrics = Machine(), Metrics(process=False)
    check = ClockCheck(machine.measure, clock=machine, on_measured=metrics.clock_ahead.set)
    shown = metrics.registry.get_sample_value
    assert math.isnan(shown("ingest_clock_ahead_seconds") or 0.0)
    machine.ahead = -30.0
    await after(check, machine, 1.0)
    assert shown("ingest_clock_ahead_seconds") == -30.0
    machine.ahead = 0.5
    await after(check, machine, 1.0)
    assert shown("ingest_clock_ahead_seconds") == 0.5


async def test_an_exchange_that_does_not_answer_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.answers = False
    check = ClockCheck(machine.measure, clock=machine)
    assert await after(check, machine, 1.0) == 1
    assert await after(check, machine, RETRY_SECONDS - 1.0) == 0
    assert await after(check, machine, 1.0) == 1
    assert not caplog.records


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"serverTime": "x"}', b'{"serverTime": null}', b"\xff"])
def test_a_time_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Reject):
        parse_server_time(body)


def test_the_unit_of_the_time_is_recognised() -> None:
    assert parse_server_time(b'{"serverTime": 1700000000123}') == 1_700_000_000_123_000
    assert parse_server_time(b'{"serverTime": 1700000000123456}') == 1_700_000_000_123_456
