"""The connection attempts of an address, shared by all processes behind it. Pure.

**Between instances.** No instance gives out shares: each computes its own from the group's members. ``RESERVED`` is for
those that are new or have no valid view of the group; the rest is divided evenly among all that were seen within a
``memory``, which is longer than the exchange's window. So every instance shrinks as soon as it sees a newcomer, and a
newcomer grows only when all others have had the time to see it. Why the sum holds: decision 21; a model tries it in
``tests/unit/ingest/fleet/test_budget.py``.

**Between the children of one instance** the supervisor knows what each has used: a child reports each use before it
makes it, and the report outlives the child. So what a dead child has used stays taken until it has left the window.
"""

import math
from collections.abc import Iterable, Mapping

import msgspec

from ingest.core.limiter import RollingWindow

RESERVED = 0.5
"""Part of an address's limit for instances that are new or have no valid view of the group."""
VALID_SECONDS = 10.0
"""A view of the group that is older says nothing."""
ATTEMPTS_SECONDS = 300.0
"""The window in which the exchange counts."""


class AddressShare:
    """The share that one instance has of one limit."""

    def __init__(self, instance: str, *, window: float, valid: float = VALID_SECONDS) -> None:
        self._instance = instance
        self._window = window
        self._valid = valid
        self.memory = window + 2 * valid
        """Seconds for which a member that has gone is counted, and for which a new one has a newcomer's part."""
        self._clock = 0.0
        """Seconds in which views were valid."""
        self._last_view: float | None = None
        self._seen: dict[str, float] = {}
        self._grown_at = math.inf
        """By ``_clock``: from when on the even share may be used."""
        self._rank = 1

    def observe(self, instances: Iterable[str], now: float) -> None:
        """Take a view of the group that is of ``now``. One without this instance is none: it is not a member."""
        present = set(instances)
        if self._instance not in present:
            return
        gap = None if self._last_view is None else now - self._last_view
        if gap is None or gap > self._window:
            self._seen.clear()
            self._grown_at = self._clock + self.memory
            self._rank = len(present)
        else:
            self._clock += min(gap, self._valid)
        self._last_view = now
        self._seen.update(dict.fromkeys(present, self._clock))
        self._seen = {name: seen for name, seen in self._seen.items() if self._clock - seen <= self.memory}

    def share(self, now: float) -> float:
        """The part of the limit that this instance may use now: 0 before the first view."""
        if self._last_view is None:
            return 0.0
        outdated = now - self._last_view > self._valid
        if outdated or self._clock < self._grown_at:
            rank = max(self._rank, len(self._seen) if outdated else 1)
            return RESERVED / (rank * (rank + 1))  # 1/2 + 1/6 + 1/12 + ... = 1
        return (1.0 - RESERVED) / len(self._seen)

    @property
    def instances(self) -> int:
        """How many instances share the address, those of the last minutes included."""
        return len(self._seen)


def usage() -> RollingWindow:
    """A count of attempts within the exchange's window."""
    return RollingWindow(limit=0, window=ATTEMPTS_SECONDS)


class Holding(msgspec.Struct, frozen=True):
    """What one child has: parts of the address's limit."""

    allowed: float
    """By the latest command, 0 for a child that has had none."""
    in_force: float
    """By its latest report: it may not have read the command yet."""
    used: float


def split(total: float, children: Mapping[str, Holding], dead_used: float) -> dict[str, float]:
    """Divide ``total`` among children; one part more is kept for the next child.

    Shrinking comes first: what a child may still use, or has used, is not given to another one.
    """
    target = total / (len(children) + 1)
    given = {name: min(one.allowed, target) for name, one in children.items()}
    held = sum(max(given[name], one.in_force, one.used) for name, one in children.items())
    free = max(0.0, total - held - dead_used)
    for name, one in sorted(children.items(), key=lambda item: (item[1].allowed, item[0])):
        more = min(target - given[name], free)
        if more > 0:
            before = max(given[name], one.in_force, one.used)
            given[name] += more
            free -= max(0.0, max(given[name], one.in_force, one.used) - before)
    return given
