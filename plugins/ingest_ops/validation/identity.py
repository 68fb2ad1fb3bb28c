"""Which series are one: labels of the scrape may change or name a replica, the service's own labels may not.

A target that is relabelled ends one series and begins another with the same counter: they are joined. Two replicas of
Prometheus write the same series twice: one copy is kept where both have samples, and the day is marked as doubled. So
is a process that is scraped at two addresses at a time; which addresses those are may change with every restart.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest_ops.validation.day import Raw
from ingest_ops.validation.process_runs import SAME_START, START, process_runs

OWN_LABELS = ("__name__", "instance", "reason", "connection", "symbol", "level", "status", "version", "revision")
"""Labels that tell two series apart; all others come from the scrape's configuration."""


@dataclass(frozen=True)
class Canonical:
    """The series of a day, each once. ``doubled`` names the labels by which copies differed."""

    series: tuple[Raw, ...]
    doubled: str = ""


@dataclass(frozen=True)
class Alias:
    """From ``begin`` until before ``end`` an address shows a process that is kept as the address ``kept``'s.

    Times in seconds since 1970.
    """

    begin: float
    end: float
    kept: str


Aliases = Mapping[str, Sequence[Alias]]
"""By address; the times of one address do not overlap."""


@dataclass(frozen=True)
class _Run:
    """A process as one address shows it. Times in seconds since 1970."""

    instance: str
    place: tuple[str, str]
    started: float
    first: float
    last: float
    samples: int
    after: float
    """The last sample of the process before it at the address; minus infinity for the first one."""
    since: float
    """From then on the address shows this process: ``first``, or minus infinity for the first one."""
    until: float
    """Until before then: the first sample of the next process; infinity for the last one."""

    def same(self, other: "_Run") -> bool:
        return self.place == other.place and abs(self.started - other.started) < SAME_START


def aliases(series: Sequence[Raw]) -> Aliases:
    """The addresses at which a process is scraped that is scraped at another one at the same time, and when."""
    found: dict[str, list[Alias]] = defaultdict(list)
    for same in _processes([run for one in series if one.name == START for run in _runs(one)]):
        samples = Counter[str]()
        for run in same:
            samples[run.instance] += run.samples
        kept = min(samples, key=lambda address: (-samples[address], address))
        for run in same:
            if run.instance != kept:
                found[run.instance] += _overlaps(run, [one for one in same if one.instance == kept])
    return found


def _runs(one: Raw) -> Iterator[_Run]:
    place = (one.labels.get("shard", ""), one.labels.get("slot", ""))
    for begin, end in process_runs(one.v):
        yield _Run(
            instance=one.instance,
            place=place,
            started=float(one.v[begin]),
            first=float(one.t[begin]),
            last=float(one.t[end - 1]),
            samples=end - begin,
            after=float(one.t[begin - 1]) if begin else -np.inf,
            since=float(one.t[begin]) if begin else -np.inf,
            until=float(one.t[end]) if end < len(one.t) else np.inf,
        )


def _processes(found: Sequence[_Run]) -> Iterator[list[_Run]]:
    """Runs that are one process's and overlap in time, directly or through others between them."""
    alike: list[list[_Run]] = []
    for run in sorted(found, key=lambda one: (one.place, one.started)):
        if alike and alike[-1][-1].same(run):
            alike[-1].append(run)
        else:
            alike.append([run])
    for cluster in alike:
        group: list[_Run] = []
        for run in sorted(cluster, key=lambda one: one.first):
            if group and run.first > max(one.last for one in group):
                yield group
                group = []
            group.append(run)
        yield group


def _overlaps(run: _Run, kept: Sequence[_Run]) -> Iterator[Alias]:
    """When the other address shows no other process. One is scraped a little after the other: first samples differ."""
    for other in kept:
        begin, end = max(run.since, other.after), min(run.until, other.until)
        if begin < end:
            yield Alias(begin, end, other.instance)


def canonical(series: Sequence[Raw], same: Aliases | None = None) -> Canonical:
    """Join relabelled series and drop copies. ``same``: the aliases; those that the series show, if not given."""
    known = aliases(series) if same is None else same
    groups: dict[tuple[str, ...], list[Raw]] = {}
    for one in series:
        for address, part in _by_address(one, known.get(one.instance, ())):
            labels = {**one.labels, "instance": address}
            groups.setdefault(tuple(labels.get(name, "") for name in OWN_LABELS), []).append(part)
    found, differing = [], set[str]()
    for key, parts in groups.items():
        kept: list[Raw] = []
        # The copy with the most samples first: one without a gap is kept whole.
        for one in sorted(parts, key=lambda part: (-len(part.t), sorted(part.labels.items()))):
            left = one
            for other in kept:
                if one.t[0] <= other.t[-1] and other.t[0] <= one.t[-1]:
                    differing |= {name for name, _ in set(one.labels.items()) ^ set(other.labels.items())}
                    left = _where(left, (left.t < other.t[0]) | (left.t > other.t[-1]))
            if len(left.t):
                kept.append(left)
        found.append(_joined(kept, key[OWN_LABELS.index("instance")]))
    return Canonical(tuple(found), ", ".join(sorted(differing)))


def _by_address(one: Raw, known: Sequence[Alias]) -> Iterator[tuple[str, Raw]]:
    """The samples of a series by the address as which they are kept; none without samples."""
    own = np.ones(len(one.t), dtype=np.bool_)
    for alias in known:
        inside = (one.t >= alias.begin) & (one.t < alias.end)
        own &= ~inside
        if inside.any():
            yield alias.kept, _where(one, inside)
    if own.any():
        yield one.instance, _where(one, own)


def _where(one: Raw, keep: NDArray[np.bool_]) -> Raw:
    return one if keep.all() else one.with_samples(one.t[keep], one.v[keep])


def _joined(parts: list[Raw], address: str) -> Raw:
    """All samples in the order of time, with the labels of the part that ends last."""
    latest = max(parts, key=lambda one: float(one.t[-1]))
    labels = latest.labels if latest.instance == address else {**latest.labels, "instance": address}
    t, v = (np.concatenate([getattr(one, name) for one in parts]) for name in ("t", "v"))
    order = np.argsort(t, kind="stable")
    return Raw(labels, t[order], v[order])
