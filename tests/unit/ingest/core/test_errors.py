"""Errors are named by what the caller does next, and say it."""

import pytest

from ingest.core.clock import Clock
from ingest.core.errors import BadSettings, Banned, Fenced, IngestError, Recycle, Reject, Retry, Stop, ending


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


class Done(Exception):
    """What a task raises to end its group."""


CRASH, STOP, DONE = ValueError("crash"), Stop("unknown symbol"), Done()


def nested(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", errors)])


def test_a_finished_group_has_nothing_to_raise() -> None:
    assert ending(nested(DONE, Done()), Done) is None


@pytest.mark.parametrize("errors", [(STOP,), (DONE, STOP), (STOP, Stop("second"))])
def test_a_stop_comes_out_by_itself(errors: tuple[BaseException, ...]) -> None:
    assert ending(nested(*errors), Done) is STOP


@pytest.mark.parametrize("errors", [(CRASH,), (DONE, CRASH), (STOP, CRASH), (CRASH, STOP, DONE)])
def test_a_crash_stays_a_group_and_is_never_hidden_by_a_stop(errors: tuple[BaseException, ...]) -> None:
    error = ending(nested(*errors), Done)
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(ValueError) is not None
    assert error.subgroup(Done) is None
