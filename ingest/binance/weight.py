"""The budget of request weight, shared by everything that speaks REST from this process. Pure.

The exchange counts per address and calendar minute and says after each answer how much of the minute is used
(``X-MBX-USED-WEIGHT-1M``) [rest]. Our own use is counted over a rolling minute, which keeps it below the share in every
calendar minute, wherever that begins. What others behind the same address use is watched through the header.
"""

from ingest.core.limiter import RollingWindow

WINDOW_SECONDS = 60.0
DEFAULT_LIMIT = 6000
"""Weight per minute until ``exchangeInfo`` has said otherwise [rest]."""
SHARED_FRACTION = 0.9
"""No call that would bring the address as a whole above this share, whoever used the rest."""
DEAREST_CALL = 80
"""``ticker/24hr`` of all symbols: a smaller budget could never make that call."""


class WeightBudget:
    """Weight that may be spent now."""

    def __init__(self, fraction: float, *, limit: int = DEFAULT_LIMIT) -> None:
        self._fraction = fraction
        self._limit = limit
        self._own = RollingWindow(limit=self.allowed, window=WINDOW_SECONDS)
        self._seen = 0
        self._seen_until: float | None = None

    @property
    def allowed(self) -> int:
        """Weight per minute that we allow ourselves."""
        return max(int(self._limit * self._fraction), DEAREST_CALL)

    def set_limit(self, limit: int, now: float) -> None:
        """Take over the exchange's limit per minute."""
        if limit > 0 and limit != self._limit:
            self._limit = limit
            used = self._own.used(now)
            self._own = RollingWindow(limit=self.allowed, window=WINDOW_SECONDS)
            self._own.note(now, used)

    def wait(self, cost: int, now: float) -> float:
        """Return 0.0 where ``cost`` fits now, else the seconds to wait. Nothing is spent by asking."""
        delay = self._own.wait(now, cost)
        if self._seen_until is not None and now < self._seen_until:
            ceiling = self._limit * max(self._fraction, SHARED_FRACTION)
            if self._seen + cost > ceiling:
                delay = max(delay, self._seen_until - now)
        return delay

    def take(self, cost: int, now: float) -> float:
        """Spend ``cost`` and return 0.0, or spend nothing and return the seconds to wait first."""
        delay = self.wait(cost, now)
        if delay == 0.0:
            self._own.note(now, cost)
        return delay

    def observed(self, used: int, now: float, wall_seconds: float) -> None:
        """Note what the exchange says is used of the current calendar minute, ``wall_seconds`` being the time of day.

        What was used before our first call is counted as ours: most likely it is our own predecessor's.
        """
        if self._seen_until is None:
            self._own.note(now, max(0, used - self._own.used(now)))
        self._seen = used
        self._seen_until = now + WINDOW_SECONDS - wall_seconds % WINDOW_SECONDS + 1.0
