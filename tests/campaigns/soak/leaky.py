"""The service with a planted leak: ``python -m tests.campaigns.soak.leaky run`` keeps some bytes of every trade.

With ``SOAK_LEAK_ON_SIGNAL`` it is sound until SIGUSR1.
"""

import os
import signal
import sys

from ingest.cli import main
from ingest.core.trade import Trade
from ingest.service.pipeline import Pipeline

SIZE = "SOAK_LEAK_BYTES_PER_TRADE"
ON_SIGNAL = "SOAK_LEAK_ON_SIGNAL"


def plant(size: int, *, dormant: bool) -> None:
    """Make every pipeline leak ``size`` bytes a trade, written to, so that they are resident."""
    kept: list[bytes] = []
    leaking = not dormant
    honest = Pipeline.on_trades

    def begin(_number: int, _frame: object) -> None:
        nonlocal leaking
        leaking = True

    def on_trades(self: Pipeline, connection: str, trades: list[Trade]) -> None:
        if leaking:
            kept.append(os.urandom(1) * (size * len(trades)))
        honest(self, connection, trades)

    signal.signal(signal.SIGUSR1, begin)
    Pipeline.on_trades = on_trades  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    plant(int(os.environ[SIZE]), dormant=ON_SIGNAL in os.environ)
    sys.exit(main())
