"""Which series are one: labels of the scrape may change or name a replica, the service's own labels may not.

A target that is relabelled ends one series and begins another with the same counter: they are joined. Two replicas of
Prometheus write the same series twice: one copy is kept, and the day is marked as doubled. So is a process that is
scraped at two addresses at a time: two processes of one slot do not start within the same hundredth of a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingest_ops.validation.day import Raw

OWN_LABELS = ("__name__", "instance", "reason", "connection", "symbol", "level", "status", "version", "revision")
"""Labels that tell two series apart; all others come from the scrape's configuration."""

START = "process_start_time_seconds"
SAME_PROCESS = 0.005
"""Seconds by which one process's start may differ at two addresses: it is the same number, written twice."""


@dataclass(frozen=True)
class Canonical:
    """The series of a day, each once. ``doubled`` names the labels by which copies differed."""

    series: tuple[Raw, ...]
    doubled: str = ""


Aliases = Mapping[str, str]
"""Address -> the address under which the same process is kept."""


def aliases(series: Sequence[Raw]) -> Aliases:
    """The addresses at which a process is scraped that is scraped at another one at the same time."""
    runs = sorted(
        (run for one in series if one.name == START and len(one.t) for run in _runs(one)),
        key=lambda run: (-run.samples, run.instance),
    )
    found: dict[str, str] = {}
    for position, run in enumerate(runs):
        for other in runs[:position]:
            if run.instance != other.instance and run.same(other) and run.instance not in found:
                found[run.instance] = found.get(other.instance, other.instance)
    return {address: kept for address, kept in found.items() if address != kept}


@dataclass(frozen=True)
class _Run:
    """From a start of a process to its end, as one address shows it. Times in seconds since 1970."""

    instance: str
    place: tuple[str, str]
    started: float
    first: float
    last: float
    samples: int

    def same(self, other: "_Run") -> bool:
        alike = self.place == other.place and abs(self.started - other.started) < SAME_PROCESS
        return alike and self.first <= other.last and other.first <= self.last


def _runs(one: Raw) -> list[_Run]:
    place = (one.labels.get("shard", ""), one.labels.get("slot", ""))
    found = []
    for started in np.unique(one.v):
        t = one.t[one.v == started]
        found.append(_Run(one.instance, place, float(started), float(t[0]), float(t[-1]), len(t)))
    return found


def canonical(series: Sequence[Raw], same: Aliases | None = None) -> Canonical:
    """Join relabelled series and drop copies. ``same``: the aliases; those that the series show, if not given."""
    known = aliases(series) if same is None else same
    groups: dict[tuple[str, ...], list[Raw]] = {}
    for one in series:
        if len(one.t):
            labels = {**one.labels, "instance": known.get(one.instance, one.instance)}
            groups.setdefault(tuple(labels.get(name, "") for name in OWN_LABELS), []).append(one)
    found, differing = [], set[str]()
    for parts in groups.values():
        kept: list[Raw] = []
        # The copy with the most samples first: one without a gap is kept whole.
        for one in sorted(parts, key=lambda part: (-len(part.t), sorted(part.labels.items()))):
            copy = next((other for other in kept if one.t[0] <= other.t[-1] and other.t[0] <= one.t[-1]), None)
            if copy is None:
                kept.append(one)
            else:
                differing |= {name for name, _ in set(one.labels.items()) ^ set(copy.labels.items())}
        found.append(_at(_joined(kept), known))
    return Canonical(tuple(found), ", ".join(sorted(differing)))


def _at(one: Raw, known: Aliases) -> Raw:
    address = known.get(one.instance)
    return one if address is None else Raw({**one.labels, "instance": address}, one.t, one.v)


def _joined(parts: list[Raw]) -> Raw:
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda one: float(one.t[0]))
    t, v = (np.concatenate([getattr(one, name) for one in ordered]) for name in ("t", "v"))
    return Raw(ordered[-1].labels, t, v)
