"""Whether data is due that does not arrive. Pure: observations and the time go in, a verdict comes out.

A heartbeat shows that Kafka takes transactions, not that trades are recorded. Data is due while no connection is live,
and while connections are silent although trades are expected of them: by the rate they had, or because the exchange's
REST API knows newer ones. A market that is quiet by that witness is not overdue.
"""

from typing import Final

import msgspec

from ingest.core.rates import HORIZON_SECONDS

SILENCE_SECONDS: Final = 15.0
"""Silence is looked into from here on."""
UNKNOWN_SECONDS: Final = 60.0
"""Silence is overdue after this time while nothing is known about the rate and REST does not answer."""
EXPECTED_TRADES: Final = 20.0
"""So many trades should have come in the silence: then it is no chance."""
WITNESS_SECONDS: Final = 90.0
"""How long the answer of the REST API to "is there a newer trade?" counts."""


class Overdue(msgspec.Struct, frozen=True):
    """Since how many seconds data is due, 0.0 for none, and why."""

    seconds: float = 0.0
    reason: str = ""


class DataDue:
    """Judges one feed. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._measured_at = now
        self._trades = 0
        self._rate = 0.0
        self._measured = 0.0
        self._last_trade: float | None = None
        self._down_since: dict[str, float] = {}
        self._quiet_at: float | None = None
        self._missing_at: float | None = None

    def observe(self, now: float, trades: int, last_trade: float | None, groups: dict[str, bool]) -> None:
        """Take the number of trades received so far, when the last one came, and each group's liveness."""
        if trades > self._trades and now > self._measured_at:
            self._measure(trades - self._trades, now - self._measured_at)
            self._measured_at = now
        self._trades = trades
        if last_trade is not None and (self._last_trade is None or last_trade > self._last_trade):
            self._last_trade = last_trade
            self._quiet_at = self._missing_at = None
        down = [name for name, live in groups.items() if not live] if groups else ["all"]
        self._down_since = {name: self._down_since.get(name, now) for name in down}

    def _measure(self, trades: int, seconds: float) -> None:
        """Average the rate over about ``HORIZON_SECONDS``; a silence counts when the next trade has ended it."""
        self._measured = min(HORIZON_SECONDS, self._measured + seconds)
        self._rate += min(1.0, seconds / self._measured) * (trades / seconds - self._rate)

    def silence(self, now: float) -> float:
        """Return the seconds since the last trade, or since the beginning."""
        return now - (self._last_trade if self._last_trade is not None else self._began)

    def wants_witness(self, now: float) -> bool:
        """Return whether the REST API should be asked for newer trades."""
        return self.silence(now) >= SILENCE_SECONDS

    def witness(self, now: float, *, newer: bool) -> None:
        """Take the REST API's answer: whether it knows trades that have not been received."""
        self._quiet_at, self._missing_at = (None, now) if newer else (now, None)

    def overdue(self, now: float) -> Overdue:
        """Judge."""
        if self._down_since:
            name, since = min(self._down_since.items(), key=lambda item: item[1])
            return Overdue(now - since, "no connection to the exchange is live" if name == "all" else f"{name} is down")
        silence = self.silence(now)
        if silence < SILENCE_SECONDS or self._fresh(self._quiet_at, now):
            return Overdue()
        if self._fresh(self._missing_at, now):
            return Overdue(silence, "the exchange has trades that do not arrive")
        expected = self._rate * silence
        if expected >= EXPECTED_TRADES:
            return Overdue(silence, f"no trade arrives, about {expected:.0f} are expected")
        if self._last_trade is None and silence >= UNKNOWN_SECONDS:
            return Overdue(silence, "no trade has arrived, and the REST API does not say whether there are any")
        return Overdue()

    def _fresh(self, at: float | None, now: float) -> bool:
        return at is not None and now - at <= WITNESS_SECONDS
