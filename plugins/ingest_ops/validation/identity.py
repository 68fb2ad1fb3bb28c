"""Which series are one: labels of the scrape may change or name a replica, the service's own labels may not.

A target that is relabelled ends one series and begins another with the same counter: they are joined. Two replicas of
Prometheus write the same series twice: one copy is kept, and the day is marked as doubled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingest_ops.validation.day import Raw

OWN_LABELS = ("__name__", "instance", "reason", "connection", "symbol", "level", "status", "version", "revision")
"""Labels that tell two series apart; all others come from the scrape's configuration."""


@dataclass(frozen=True)
class Canonical:
    """The series of a day, each once. ``doubled`` names the labels by which copies differed."""

    series: tuple[Raw, ...]
    doubled: str = ""


def canonical(series: Sequence[Raw]) -> Canonical:
    """Join relabelled series and drop copies."""
    groups: dict[tuple[str, ...], list[Raw]] = {}
    for one in series:
        if len(one.t):
            groups.setdefault(tuple(one.labels.get(name, "") for name in OWN_LABELS), []).append(one)
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
        found.append(_joined(kept))
    return Canonical(tuple(found), ", ".join(sorted(differing)))


def _joined(parts: list[Raw]) -> Raw:
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda one: float(one.t[0]))
    t, v = (np.concatenate([getattr(one, name) for one in ordered]) for name in ("t", "v"))
    return Raw(ordered[-1].labels, t, v)
