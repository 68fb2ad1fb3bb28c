"""The exchange's trades: all symbols, listed and delisted, each with a ledger of its own.

With a journal every change is recorded in it where it happens; see ``operations``.
"""

from __future__ import annotations

from typing import Any

from ingest.simulator.operations import Journal
from ingest.simulator.segments import INT64_MAX, Aggregate, Columns, Row, decimal
from ingest.simulator.symbol_ledger import SymbolLedger

__all__ = ["INT64_MAX", "Aggregate", "Columns", "Ledger", "Row", "SymbolLedger", "decimal"]


class Ledger:
    """All symbols of the exchange."""

    def __init__(self) -> None:
        self.symbols: dict[str, SymbolLedger] = {}
        self.delisted: dict[str, SymbolLedger] = {}
        """Off the exchange; their trades are kept."""
        self._journal: Journal | None = None
        self._numbers = 0  # given out, one to each listing

    def attach(self, journal: Journal | None) -> None:
        """Record every change from now on."""
        self._journal = journal
        for one in self.all_symbols.values():
            one.journal = journal

    def add(
        self,
        symbol: str,
        base_asset: str,
        quote_asset: str,
        first_id: int,
        *,
        status: str = "TRADING",
        tick_size: str = "0.01000000",
        step_size: str = "0.00001000",
    ) -> SymbolLedger:
        """List a symbol. Raises ValueError when it is listed already, or was before."""
        if symbol in self.symbols or symbol in self.delisted:
            raise ValueError(f"{symbol} is listed already, or was before")
        ledger = SymbolLedger(
            symbol, base_asset, quote_asset, first_id, status=status, tick_size=tick_size, step_size=step_size
        )
        self._number(ledger)
        if self._journal is not None:
            self._journal.change(
                "list", symbol=symbol, base_asset=base_asset, quote_asset=quote_asset, first_id=first_id,
                status=status, tick_size=tick_size, step_size=step_size,
            )  # fmt: skip
        return ledger

    def relist(self, symbol: str, first_id: int) -> SymbolLedger:
        """List a symbol again, at any id: its earlier trades are gone. Raises ValueError when it never was listed."""
        old = self.all_symbols.get(symbol)
        if old is None:
            raise ValueError(f"{symbol} never was listed")
        made = SymbolLedger(
            symbol, old.base_asset, old.quote_asset, first_id, tick_size=old.tick_size, step_size=old.step_size
        )
        made.former = [*old.former, *old.id_ranges()]
        self.symbols.pop(symbol, None)
        self.delisted.pop(symbol, None)
        old.journal = None
        self._number(made)
        if self._journal is not None:
            self._journal.change("relist", symbol=symbol, first_id=first_id)
        return made

    def delist(self, symbol: str) -> None:
        """Take a symbol off the exchange and keep its trades. Raises KeyError when it is not listed."""
        self.delisted[symbol] = self.symbols.pop(symbol)
        if self._journal is not None:
            self._journal.change("delist", symbol=symbol)

    @property
    def all_symbols(self) -> dict[str, SymbolLedger]:
        """All symbols, those that were taken off included."""
        return self.symbols | self.delisted

    @property
    def last_us(self) -> int:
        """The time of the newest trade of all symbols, 0 without one."""
        return max((one.last_us for one in self.all_symbols.values()), default=0)

    def state(self) -> dict[str, Any]:
        """Everything but the trades, as JSON takes it."""
        return {
            "numbers": self._numbers,
            "symbols": [one.state() for one in self.symbols.values()],
            "delisted": [one.state() for one in self.delisted.values()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become the ledger of a state, which has forgotten all trades. Raises KeyError, TypeError, ValueError."""
        self._numbers = state["numbers"]
        for listed, known in (("symbols", self.symbols), ("delisted", self.delisted)):
            known.clear()
            known.update({one["symbol"]: SymbolLedger.restored(one) for one in state[listed]})

    def _number(self, ledger: SymbolLedger) -> None:
        ledger.number, ledger.journal = self._numbers, self._journal
        self._numbers += 1
        self.symbols[ledger.symbol] = ledger
