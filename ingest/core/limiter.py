"""Budgets over a rolling window, with the time as an argument."""

from collections import deque
from collections.abc import Callable

MOST_ENTRIES = 1024
"""Entries kept of a window. Beyond that the newest are merged, which can only lengthen a wait."""


class RollingWindow:
    """At most ``limit`` units in any ``window`` seconds.

    The exchange counts a strict rolling second on each connection: a token bucket that refills while it bursts sends
    nine messages in the first second and is cut off [obs nautilus_trader#5012].
    """

    def __init__(self, *, limit: int, window: float) -> None:
        self.limit = limit
        """May be changed: what was spent stays counted."""
        self.before_note: Callable[[int], None] | None = None
        """Called with each cost before it is counted, and so before it is spent."""
        self._window = window
        self._spent: deque[tuple[float, int]] = deque()
        self._total = 0

    def note(self, now: float, cost: int = 1) -> None:
        """Count ``cost`` units that are spent whether they fit or not (an automatic pong, another client's use)."""
        if self.before_note is not None:
            self.before_note(cost)
        self.used(now)  # drops what has left the window
        self._total += cost
        if len(self._spent) >= MOST_ENTRIES:
            cost += self._spent.pop()[1]
        self._spent.append((now, cost))

    def used(self, now: float) -> int:
        """Return the units spent in the window that ends now."""
        while self._spent and now - self._spent[0][0] >= self._window:
            self._total -= self._spent.popleft()[1]
        return self._total

    def wait(self, now: float, cost: int = 1, *, limit: int | None = None) -> float:
        """Return 0.0 where ``cost`` fits now, else the seconds until it will. Nothing is spent.

        ``limit`` replaces the window's own limit for this question.
        """
        excess = self.used(now) + cost - (self.limit if limit is None else limit)
        if excess <= 0:
            return 0.0
        for spent_at, units in self._spent:
            excess -= units
            if excess <= 0:
                return spent_at + self._window - now
        return self._window

    def take(self, now: float, cost: int = 1) -> float:
        """Spend ``cost`` and return 0.0, or spend nothing and return the seconds to wait first."""
        delay = self.wait(now, cost)
        if delay == 0.0:
            self.note(now, cost)
        return delay
