"""The faults of the streams besides trades."""

import random
from collections.abc import Callable
from typing import Any

from ingest.simulator.plan import MARKET_KINDS, SURVIVABLE_STREAMS
from tests.campaigns.chaos.fault_kind import Fault, simulated, undone

NOT_WITH_BARS = frozenset({"clock_skew"})
"""An exchange whose clock goes back trades in bars that it has closed: its history contradicts its stream."""
UNSEEN_IN_QUOTES = frozenset({"market_gap", "market_reorder"})
"""Of quotes nobody could tell these: their ids have gaps by design, and the exchange sends them in order."""


def _of_streams(kind: str) -> Callable[[random.Random], dict[str, Any]]:
    def draw(dice: random.Random) -> dict[str, Any]:
        while True:
            options = SURVIVABLE_STREAMS[kind][1](dice)
            if kind not in UNSEEN_IN_QUOTES or options.get("stream") != "bookTicker":
                return options

    return draw


STREAM_FAULTS: tuple[Fault, ...] = tuple(
    Fault(
        kind,
        0,
        undone(kind, {"stream": "depth@100ms", "seconds": 0.0})
        if kind == "stream_lag"
        else simulated(MARKET_KINDS.get(kind, kind)),
        weight,
        (1.0, 6.0) if kind == "stream_lag" else (0.0, 0.0),
        _of_streams(kind),
    )
    for kind, (weight, _) in SURVIVABLE_STREAMS.items()
    if kind != "market_backwards"  # between two ids that are missing anyway nobody can tell a false one from a true one
)
"""Of the streams besides trades; drawn where those are recorded."""
