"""Whole numbers from raw samples: what ``increase()`` and ``changes()`` estimate, counted.

``increase()`` extrapolates (8.0005 rotations) and does not see the first increment of a child born at 1. Here each
series of each process is walked from sample to sample, and a sample's increment belongs to the day in which it was
first seen, so that the days of a week add up to the week.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ingest_ops.validation.day import Array, Raw
from ingest_ops.validation.process_runs import START, replaced


@dataclass(frozen=True)
class Clock:
    """When the processes behind one scrape address were started, as they say themselves, and since when it is known."""

    t: Array
    started: Array
    first_seen: float
    """The first sample of anything from this address."""

    def at(self, times: Array) -> Array:
        """The start of the process that each sample comes from: as of the same scrape, or the last one before it.

        Not a number where that is unknown.
        """
        if not len(self.t):
            return np.full(len(times), np.nan)
        index = np.searchsorted(self.t, times, side="right") - 1
        return np.where(index >= 0, self.started[np.maximum(index, 0)], np.nan)


def clock_of(series: Iterable[Raw], instance: str) -> Clock:
    """The clock of an address, from its ``process_start_time_seconds`` and ``up``."""
    mine = [one for one in series if one.instance == instance and len(one.t)]
    starts = [one for one in mine if one.name == START]
    first = min((float(one.t[0]) for one in mine if _alive(one)), default=np.inf)
    if not starts:
        return Clock(np.empty(0), np.empty(0), first)
    t = np.concatenate([one.t for one in starts])
    order = np.argsort(t, kind="stable")
    return Clock(t[order], np.concatenate([one.v for one in starts])[order], first)


def _alive(one: Raw) -> bool:
    return one.name != "up" or bool(one.v[0])


def increments(one: Raw, clock: Clock, window_start: float) -> Array:
    """What the counter gained up to each of its samples since the one before.

    A process that was replaced began again at 0, whether or not the value fell: a counter that comes back at its old
    value has counted, too. A series that appears while its process was already known was born at 0; one that was there
    when we began to look (``window_start``) has an unknown past, which is not counted, unless its process began later.
    """
    if not len(one.t):
        return np.empty(0)
    started = clock.at(one.t)
    gained = np.diff(one.v, prepend=one.v[0])
    reset = np.concatenate([[False], replaced(started)]) | (gained < 0)
    gained[reset] = one.v[reset]
    born_late = float(one.t[0]) > clock.first_seen or started[0] >= window_start
    gained[0] = one.v[0] if born_late else 0.0
    return gained


def count(one: Raw, clock: Clock, window_start: float, start: float, end: float) -> int:
    """The increments first seen in ``[start, end)``, as a whole number."""
    inside = (one.t >= start) & (one.t < end)
    return round(float(increments(one, clock, window_start)[inside].sum()))


def events(one: Raw, clock: Clock, window_start: float, start: float, end: float) -> list[tuple[float, int]]:
    """When a counter rose within ``[start, end)``, and by how much."""
    gained = increments(one, clock, window_start)
    inside = (one.t >= start) & (one.t < end) & (gained > 0)
    return [(float(at), round(float(by))) for at, by in zip(one.t[inside], gained[inside], strict=True)]
