"""The service with a planted leak: ``python -m tests.soak.leaky run`` keeps some bytes of every trade for ever."""

import os
import sys

from ingest.cli import main
from ingest.core.trade import Trade
from ingest.service.pipeline import Pipeline

VARIABLE = "SOAK_LEAK_BYTES_PER_TRADE"


def plant(size: int) -> None:
    """Make every pipeline leak ``size`` bytes a trade, written to, so that they are resident."""
    kept: list[bytes] = []
    honest = Pipeline.on_trades

    def leaking(self: Pipeline, connection: str, trades: list[Trade]) -> None:
        kept.append(os.urandom(1) * (size * len(trades)))
        honest(self, connection, trades)

    Pipeline.on_trades = leaking  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(int(os.environ[VARIABLE]))
    sys.exit(main())
