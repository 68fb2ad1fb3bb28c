"""An operator resumes a halted symbol: never twice the same id, never past a trade that was received."""

import pytest

from ingest.core.errors import Stop
from ingest.service.loop_commands import operator_void


def test_the_current_id_resumes_without_a_void() -> None:
    assert operator_void("BTCUSDT", 10, 10, None, "jane") is None
    assert operator_void("BTCUSDT", 10, 10, 12, "jane") is None


def test_a_higher_id_is_a_void_up_to_the_first_trade_in_memory() -> None:
    void = operator_void("BTCUSDT", 12, 10, 12, "jane" * 40)
    assert void is not None
    assert (void.first_id, void.last_id, void.reason) == (10, 11, "operator")
    assert void.evidence == {"actor": ("jane" * 40)[:64]}
    assert operator_void("BTCUSDT", 10**12, 10, None, "jane") is not None


def test_going_back_and_skipping_received_trades_are_refused() -> None:
    with pytest.raises(Stop, match="would write ids twice"):
        operator_void("BTCUSDT", 9, 10, None, "jane")
    with pytest.raises(Stop, match="Name an id from 10 to 12"):
        operator_void("BTCUSDT", 13, 10, 12, "jane")
