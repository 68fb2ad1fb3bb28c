"""The budget of request weight, shared by everything that speaks REST from this process. Pure.

The exchange counts per client address and calendar minute and states after each answer how much of the minute is used
(``X-MBX-USED-WEIGHT-1M``) [rest]. Our own use is counted over a rolling minute, which keeps it below the share in every
calendar minute, wherever that begins, and over all hosts together. What others behind the same address use is read
from the header. What a host states (its limit, the weight used) is applied to requests to that host only.
"""

from enum import Enum, auto

from ingest.binance.shared_weight import SharedWeight
from ingest.core.limiter import RollingWindow

WINDOW_SECONDS = 60.0
DEFAULT_LIMIT = 6000
"""Weight per minute until ``exchangeInfo`` has said otherwise [rest]."""
LARGEST_LIMIT = 10 * DEFAULT_LIMIT
"""A larger stated limit is not used."""
SHARED_FRACTION = 0.9
"""No call that would bring the address above this share, including the use by other processes."""
RESERVE_SHARE = 8
"""A reserve is at most this part of the budget."""
FINDING_RESERVE = 80
"""Left by requests for missing trades, while catching up, to those that find out what is missing."""
TRADES_RESERVE = 250
"""Left to trades by the requests of other streams: ten pages."""
DEAREST_CALL = 80
"""``ticker/24hr`` of all symbols: a smaller budget could never make that call."""
DEAREST_OF_STREAMS = 50
"""A snapshot of a book: fits in each part of the minute, whatever of it is left."""
PACE_SECONDS = 10.0
"""The requests of other streams are spread over the minute in parts of this length. Spent in one burst, all of the
weight would be free again only a minute later, and trades that are missing by then would wait for it."""


class Urgency(Enum):
    """Which requests may use which part of the weight."""

    FINDING = auto()
    """Finds out what is missing, and everything else that is asked for once: may use all of it."""
    TRADES = auto()
    """Missing trades."""
    STREAMS = auto()
    """Missing numbers of other streams and snapshots of books: what trades leave."""


class HostWeight:
    """What one host states about the weight."""

    __slots__ = ("earlier", "limit", "seen", "seen_until", "trades_wait_until")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen = 0
        self.seen_until: float | None = None
        self.earlier = RollingWindow(limit=limit, window=WINDOW_SECONDS)
        """Weight used before our first call: most likely by our own predecessor, so it counts as ours."""
        self.trades_wait_until = 0.0
        """Until when a request about trades has to wait for weight: other streams get none before."""


class WeightBudget:
    """Weight that may be spent now."""

    def __init__(self, fraction: float, *, catch_up_fraction: float | None = None, limit: int = DEFAULT_LIMIT) -> None:
        """``catch_up_fraction`` is the share while ``catching_up`` is set."""
        self._fraction = fraction
        self._catch_up_fraction = max(fraction, catch_up_fraction or fraction)
        self._default_limit = limit
        self._own = RollingWindow(limit=limit, window=WINDOW_SECONDS)
        self._hosts: dict[str, HostWeight] = {}
        self._of_streams = RollingWindow(limit=limit, window=PACE_SECONDS)
        self.shared: SharedWeight | None = None
        """Set where other processes use the same address."""
        self.catching_up = False
        """Whether trades are missing that only REST can give."""

    def _host(self, host: str) -> HostWeight:
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = HostWeight(self._default_limit)
        return known

    @property
    def fraction(self) -> float:
        """The share of the limit that may be used now."""
        return self._catch_up_fraction if self.catching_up else self._fraction

    def allowed(self, host: str = "") -> int:
        """Return the weight per minute that may be used now."""
        return max(int(self._host(host).limit * self.fraction), DEAREST_CALL)

    def set_limit(self, limit: int, host: str = "") -> None:
        """Take over the limit per minute that a host states."""
        if limit > 0:
            self._host(host).limit = min(limit, LARGEST_LIMIT)

    def _kept(self, urgency: Urgency, allowed: int) -> int:
        """Return the weight that is left to more urgent requests."""
        if urgency is Urgency.STREAMS:
            return min(FINDING_RESERVE + TRADES_RESERVE, allowed // RESERVE_SHARE)
        if urgency is Urgency.TRADES and self.catching_up:
            return min(FINDING_RESERVE, allowed // RESERVE_SHARE)
        return 0

    def wait(self, cost: int, now: float, host: str = "", *, urgency: Urgency = Urgency.FINDING) -> float:
        """Return 0.0 where ``cost`` fits now, else the seconds to wait. Nothing is spent."""
        known, allowed = self._host(host), self.allowed(host)
        allowed -= self._kept(urgency, allowed)
        delay = self._own.wait(now, cost, limit=allowed - known.earlier.used(now))
        if urgency is Urgency.STREAMS:
            pace = int(allowed * PACE_SECONDS / WINDOW_SECONDS) + DEAREST_OF_STREAMS - 1
            delay = max(delay, self._of_streams.wait(now, cost, limit=pace), known.trades_wait_until - now)
        if self.shared is not None:
            finding = urgency is Urgency.FINDING
            delay = max(delay, self.shared.wait(cost, now, host, limit=known.limit, finding=finding))
        elif known.seen_until is not None and now < known.seen_until:
            # A limit below the dearest call would never allow it.
            ceiling = max(known.limit * max(self.fraction, SHARED_FRACTION), DEAREST_CALL)
            if known.seen + cost > ceiling:
                delay = max(delay, known.seen_until - now)
        return delay

    def take(self, cost: int, now: float, host: str = "", *, urgency: Urgency = Urgency.FINDING) -> float:
        """Spend ``cost`` and return 0.0, or spend nothing and return the seconds to wait first."""
        delay = self.wait(cost, now, host, urgency=urgency)
        of_streams = urgency is Urgency.STREAMS
        if delay == 0.0:
            self._own.note(now, cost)
            if self.shared is not None:
                self.shared.sent(cost, host)
            if of_streams:
                self._of_streams.note(now, cost)
        elif not of_streams:
            self._host(host).trades_wait_until = now + delay
        return delay

    def lost(self, cost: int, now: float, host: str = "") -> None:
        """Note that a request had no answer, or one that does not say what is used."""
        if self.shared is not None:
            self.shared.lost(cost, now, host)

    def observed(self, used: int, now: float, wall_seconds: float, host: str = "", *, cost: int = 0) -> None:
        """Note what a host says is used of the current calendar minute, ``wall_seconds`` being the time of day.

        ``cost``: of the request that it answers.
        """
        known = self._host(host)
        if known.seen_until is None and self.shared is None:  # else it is the use of the processes beside
            known.earlier.note(now, max(0, used - self._own.used(now)))
        known.seen = used
        known.seen_until = now + WINDOW_SECONDS - wall_seconds % WINDOW_SECONDS + 1.0
        if self.shared is not None:
            self.shared.answered(cost, now, host, used=used, until=known.seen_until)
