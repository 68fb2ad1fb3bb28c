"""Faults by kind: what the admin API and a fault plan may ask for.

Every kind has a counter ``fault_<kind>``. A request names what it wants to change; the rest has defaults.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

from ingest.simulator import book_faults, connection_faults, history_faults, truth_faults
from ingest.simulator.derived import Derived
from ingest.simulator.drivers import Driver
from ingest.simulator.exchange import Exchange
from ingest.simulator.fault_table import FAULTS, FaultError, Outcome, Site
from ingest.simulator.faults import TRADE_KINDS, TradeFault, check_options, stream_for

__all__ = ["KINDS", "FaultError", "Injector", "Outcome"]

REMEMBERED = 200
MOST = {"size": 256 * 2**20, "parts": 10_000, "times": 10_000}
"""Options that the simulator's own memory and time pay for, and their largest values."""
MODULES = (book_faults, connection_faults, history_faults, truth_faults)
"""Importing them fills the table."""
KINDS = tuple(sorted((*TRADE_KINDS, *FAULTS)))
"""Every fault there is."""


class Injector:
    """Injects faults: those of the table at once, those of events with the next ones."""

    def __init__(self, exchange: Exchange, driver: Driver, derived: Derived) -> None:
        self._exchange = exchange
        self._site = Site(exchange, driver, derived)
        self.done: deque[Outcome] = deque(maxlen=REMEMBERED)
        """What was injected last."""
        for kind in KINDS:
            exchange.counters[f"fault_{kind}"] = 0

    @property
    def plan_ended(self) -> bool:
        """Whether the rest of a plan has been called off."""
        return self._site.plan_ended

    def inject(self, kind: str, options: dict[str, Any]) -> Outcome:
        """Do one fault; what it hit. Raises FaultError."""
        if kind not in KINDS:
            raise FaultError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
        for name, most in MOST.items():
            if isinstance(value := options.get(name), int | float) and value > most:
                raise FaultError(f"{kind}: {name} may be {most:,} at most, got {value}")
        outcome = self._arm(kind, dict(options)) if kind in TRADE_KINDS else self._act(kind, options)
        self._exchange.counters[f"fault_{kind}"] += 1
        self.done.append({"time_us": self._exchange.clock.now_us(), "kind": kind, "options": options, "hit": outcome})
        return {"kind": kind, **outcome}

    def _act(self, kind: str, options: dict[str, Any]) -> Outcome:
        action = FAULTS[kind]
        try:
            inspect.signature(action).bind(self._site, **options)
        except TypeError as error:
            raise FaultError(f"{kind}: {error}") from error
        try:
            return action(self._site, **options)
        except FaultError:
            raise
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise FaultError(f"{kind}: {error}") from error

    def _arm(self, kind: str, options: dict[str, Any]) -> Outcome:
        symbol = options.pop("symbol", None)
        connection = options.pop("connection", "all")
        try:
            stream = stream_for(kind, options.pop("stream", None))
            count = int(options.pop("count", 1))
            check_options(kind, options)
        except (ValueError, TypeError, OverflowError) as error:
            raise FaultError(f"{kind}: {error}") from error
        if count < 1:
            raise FaultError(f"{kind}: count must be at least 1, got {count}")
        if symbol is not None:
            self._site.symbol(symbol)
        self._exchange.faults.arm(TradeFault(kind, count, symbol, stream, self._number(connection), options))
        return {"count": count}

    def _number(self, connection: str | int) -> int | None:
        if connection == "all":
            return None
        try:
            chosen = self._site.chosen(connection)
        except (ValueError, TypeError) as error:
            raise FaultError(f"there is no connection {connection!r}") from error
        if not chosen:
            raise FaultError(f"there is no connection {connection!r}")
        return chosen[0].number
