"""Errors are named by what the caller does next, and say it."""

from ingest.core.clock import Clock
from ingest.core.errors import BadSettings, Banned, Fenced, IngestError, Recycle, Reject, Retry, Stop


def test_the_tree_is_what_a_caller_can_rely_on() -> None:
    assert issubclass(Banned, Retry)
    assert issubclass(BadSettings, Stop)
    assert all(issubclass(kind, IngestError) for kind in (Retry, Reject, Fenced, Recycle, Stop))
    assert not issubclass(Fenced, (Retry, Stop, Recycle))


def test_they_carry_what_is_needed_to_go_on() -> None:
    assert (str(Retry("away", after=2.5)), Retry("away", after=2.5).after, Retry("x").after) == ("away", 2.5, 0.0)
    reject = Reject("bad_decimal", "NaN", symbol="BTCUSDT", trade_id=7)
    assert (str(reject), reject.reason, reject.symbol, reject.trade_id) == (
        "bad_decimal: NaN",
        "bad_decimal",
        "BTCUSDT",
        7,
    )
    assert (str(Recycle("timeout")), str(Recycle("timeout", "12 s"))) == ("timeout", "timeout: 12 s")
    assert Recycle("timeout", "12 s").reason == "timeout"
    bad = BadSettings(["A=1: no", "B=2: no"])
    assert (str(bad), bad.problems) == ("A=1: no\nB=2: no", ["A=1: no", "B=2: no"])


def test_the_module_time_is_a_clock() -> None:
    import time

    clock: Clock = time
    assert clock.time_ns() > 0
    assert clock.monotonic() >= 0.0
