"""The table of faults by kind, and what they act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.simulator.derived import Derived
from ingest.simulator.drivers import Driver
from ingest.simulator.exchange import Exchange
from ingest.simulator.frames import COMBINED, frame, wrapped
from ingest.simulator.ledger import SymbolLedger
from ingest.simulator.market import Market
from ingest.simulator.rest import RestApi
from ingest.simulator.session import StreamSession
from ingest.simulator.streams import Streams

Outcome = dict[str, Any]
Action = Callable[..., Outcome]
FAULTS: dict[str, Action] = {}
"""Every fault that is done at once, by its kind; the keyword parameters are its options."""


class FaultError(ValueError):
    """A fault that does not exist or cannot be done here; the text says why."""


def fault(kind: str) -> Callable[[Action], Action]:
    """Register a fault under its kind. Raises ``ValueError`` if there is one already."""

    def register(action: Action) -> Action:
        if kind in FAULTS:
            raise ValueError(f"there are two faults {kind!r}")
        FAULTS[kind] = action
        return action

    return register


@dataclass
class Site:
    """What faults act on. ``connection`` is ``all``, ``oldest``, ``newest`` or a number from /admin/state."""

    exchange: Exchange
    driver: Driver
    derived: Derived
    plan_ended: bool = False

    @property
    def streams(self) -> Streams:
        """The stream server."""
        return self.exchange.streams

    @property
    def rest(self) -> RestApi:
        """The REST API."""
        return self.exchange.rest

    def chosen(self, connection: str | int) -> list[StreamSession]:
        """The connections that are meant."""
        sessions = list(self.streams.sessions.values())
        match connection:
            case "all":
                return sessions
            case "oldest":
                return sessions[:1]
            case "newest":
                return sessions[-1:]
            case _:
                number = int(connection)
                return [session for session in sessions if session.number == number]

    def symbol(self, name: str | None) -> SymbolLedger:
        """A listed symbol; by default the busiest. Raises ``FaultError``."""
        if name is None:
            return self.exchange.busiest()
        found = self.exchange.ledger.symbols.get(name)
        if found is None:
            raise FaultError(f"{name} is not listed")
        return found

    def market(self, kind: str) -> Market:
        """The seeded market. Raises ``FaultError`` where a recording is replayed."""
        if self.driver.market is None:
            raise FaultError(f"{kind} needs a seeded market: a recording has its own ids and symbols")
        return self.driver.market

    def send(
        self, connection: str | int, payload: bytes, *, stream: str | None = "btcusdt@huge", count: int = 1
    ) -> Outcome:
        """Send a payload to connections, wrapped where they are combined."""

        def send(session: StreamSession) -> None:
            combined = stream is not None and session.variant & COMBINED
            text = wrapped(stream, payload) if combined and stream is not None else payload
            for _ in range(count):
                session.push(frame(text))

        return each(self.chosen(connection), send)


def each(sessions: list[StreamSession], action: Callable[[StreamSession], object]) -> Outcome:
    """Act on connections, at once."""
    for session in sessions:
        action(session)
        session.flush()
    return {"connections": [session.number for session in sessions]}
