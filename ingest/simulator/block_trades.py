"""Block trades of a symbol: large ones with ids of their own, one after so many trades, at the price of that trade."""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

from ingest.simulator.ledger import INT64_MAX, SymbolLedger

EVERY = 400
"""Trades of a symbol from one block trade to the next."""
KEPT = 10_000
"""Of one symbol."""


class BlockTrade(NamedTuple):
    """Price and quantity in units of 1e-8."""

    block_id: int
    price: int
    quantity: int
    time_us: int
    buyer_is_maker: bool


class BlockTrades:
    """They depend on the seed and on the symbol's trades, and follow these when they are looked at."""

    def __init__(self, ledger: SymbolLedger, seed: int | None) -> None:
        """``seed``: None if there are none."""
        self.ledger = ledger
        self._draw = random.Random(f"{seed}:{ledger.symbol}:{ledger.first_id}:block")  # noqa: S311 - repeatable
        self._next_id = 1 + self._draw.randrange(1000)
        self._due = self._draw.randrange(EVERY) if seed is not None else 2**63
        self._kept: deque[BlockTrade] = deque(maxlen=KEPT)

    @property
    def next_id(self) -> int:
        """The id of the next one."""
        self._follow()
        return self._next_id

    @property
    def floor_id(self) -> int:
        """The oldest id that is remembered."""
        self._follow()
        return self._kept[0].block_id if self._kept else self._next_id

    def page(self, from_id: int, limit: int) -> list[BlockTrade]:
        """Up to ``limit`` of them with ids from ``from_id`` on, ascending."""
        self._follow()
        if not self._kept:
            return []
        first = max(0, from_id - self._kept[0].block_id)
        return [self._kept[at] for at in range(first, min(len(self._kept), first + limit))]

    def _follow(self) -> None:
        while self._due < self.ledger.sent_trades:
            value = 5 * 10**19 * (1 + self._draw.getrandbits(4))
            if self._due not in self.ledger.held:  # forgotten before it was looked at, with those before it
                self._kept.clear()
            for run in self.ledger.columns(range(self._due, self._due + 1)):
                quantity = max(10**6, min(INT64_MAX // 4, value // run.prices[0]) // 10**6 * 10**6)
                self._kept.append(BlockTrade(self._next_id, run.prices[0], quantity, run.times[0], bool(run.makers[0])))
            self._next_id += 1
            self._due += EVERY
