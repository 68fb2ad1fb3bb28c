"""Request weight of an address that several processes use at once, without a word between them. Pure.

The exchange itself says with each answer what the address has used in this minute. A process may have requests of
``BURST`` unanswered, and sends nothing that would bring what it knows of beyond a ceiling, which lies ``BURST`` for
each process below the limit. Why the limit holds: once the address has used as much as the ceiling, every process
learns it from its next answer, and until then it sends ``BURST`` at most.
"""

from ingest.core.limiter import RollingWindow

BURST = 80
"""Unanswered weight of one process: three pages of trades, or the dearest call of all."""
LEAST_PART = 0.25
"""Of the limit: the ceiling is not lower, and not safe with so many processes that it ought to be."""
FOR_FINDING = 0.15
"""Part of the ceiling that is left to requests that find out what is missing: a busy process shuts no new one out."""
ASK_AGAIN_SECONDS = 0.05
LOST_SECONDS = 10.0
"""A request without an answer counts for so long as one that is still on its way."""


class _Host:
    __slots__ = ("lost", "seen", "seen_until", "unanswered")

    def __init__(self) -> None:
        self.seen = 0
        self.seen_until = 0.0
        self.unanswered = 0
        self.lost = RollingWindow(limit=BURST, window=LOST_SECONDS)


class SharedWeight:
    """What one of ``processes`` behind an address may ask for."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._hosts: dict[str, _Host] = {}

    def _host(self, host: str) -> _Host:
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = _Host()
        return known

    def ceiling(self, limit: int) -> int:
        """The weight a minute, of the whole address, up to which this process asks for anything."""
        return max(limit - BURST * self.processes, int(limit * LEAST_PART))

    def wait(self, cost: int, now: float, host: str, *, limit: int, finding: bool) -> float:
        """Return 0.0 where ``cost`` may be sent now, else the seconds to wait."""
        known = self._host(host)
        open_weight = known.unanswered + known.lost.used(now)
        if open_weight and open_weight + cost > BURST:
            return ASK_AGAIN_SECONDS
        ceiling = self.ceiling(limit) * (1.0 if finding else 1.0 - FOR_FINDING)
        seen = known.seen if now < known.seen_until else 0
        if seen and seen + open_weight + cost > ceiling:
            return known.seen_until - now
        return 0.0

    def sent(self, cost: int, host: str) -> None:
        """A request is on its way."""
        self._host(host).unanswered += cost

    def answered(self, cost: int, now: float, host: str, *, used: int, until: float) -> None:
        """It was answered: the address has used this much, of the minute that ends ``until``."""
        known = self._host(host)
        known.unanswered -= cost
        known.seen = max(used, known.seen) if now < known.seen_until else used
        known.seen_until = until

    def lost(self, cost: int, now: float, host: str) -> None:
        """There was no answer, or it did not say what is used."""
        known = self._host(host)
        known.unanswered -= cost
        known.lost.note(now, cost)
