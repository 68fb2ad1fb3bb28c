"""A day looked at: its processes, its slots of one scrape each, and how much of it was seen."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest_ops.validation.counter_increments import Clock, clock_of, count, events, increments
from ingest_ops.validation.day import LOOK_BACK, Array, Day, Raw
from ingest_ops.validation.identity import Canonical, canonical
from ingest_ops.validation.process_runs import SAME_START, process_runs

Flags = NDArray[np.bool_]
STATUS, LIVE = "binance_connection_status", "binance_connections_live"
PER_CONNECTION = (STATUS, "binance_connection_age_seconds", "binance_last_pong_timestamp_seconds")
FUTURE_SECONDS = 5.0
"""A timestamp may lie so far after the sample that shows it: the clocks of two machines."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Process:
    """One run of a process: from its first sample in the day to its last. Times in seconds since 1970."""

    instance: str
    name: str
    shard: str
    slot: str
    started: float
    first: float
    last: float
    version: str
    revision: str
    restarted_from: float | None = None
    """The last sample of the run before it at the same address, where there was one."""
    version_before: str | None = None

    def continues(self, other: "Process") -> bool:
        """Whether it is the same process later on: at the same address, or at another one since."""
        same = abs(self.started - other.started) < SAME_START and (self.shard, self.slot) == (other.shard, other.slot)
        return same and self.first > other.last


@dataclass(frozen=True)
class Coverage:
    """Slots with everything that a check needs, of those that the day has; the worst metric is named."""

    samples: int
    expected: int
    worst: str = ""
    doubled: str = ""
    """Labels by which copies of the series differ; empty if each is there once."""

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.samples / self.expected if self.expected else 0.0


class DayView:
    """What the checks ask of a day. Computed once, when asked for."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.before: DayView | None = None
        self.after: DayView | None = None
        """The day before and the day after, if they are stored: processes run past midnight."""
        self.step = day.scrape_seconds
        self.slots = round(86_400.0 / self.step)
        self._clocks: dict[str, Clock] = {}
        self._made: dict[Hashable, Any] = {}
        self._flags: dict[tuple[str, str], Flags] = {}

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """What ``make`` returned the first time."""
        if key not in self._made:
            self._made[key] = make()
        found: Result = self._made[key]
        return found

    @cached_property
    def _canonical(self) -> Canonical:
        return canonical(self.day.series)

    @property
    def doubled(self) -> str:
        """Labels by which copies of the series differ; empty if each is there once."""
        return self._canonical.doubled

    @cached_property
    def _by_name(self) -> dict[str, list[Raw]]:
        found: dict[str, list[Raw]] = {}
        for one in self._canonical.series:
            found.setdefault(one.name, []).append(one)
        return found

    def series(self, name: str, instance: str | None = None) -> list[Raw]:
        """The series of a metric of the service."""
        return [one for one in self._by_name.get(name, ()) if instance in (None, one.instance)]

    def of(self, instance: str) -> list[Raw]:
        """Every series of an address."""
        return [one for one in self._canonical.series if one.instance == instance]

    @cached_property
    def instances(self) -> tuple[str, ...]:
        """The scrape addresses of the service; of a process that is scraped at two of them, one."""
        return tuple(sorted({one.instance for one in self._canonical.series}))

    @cached_property
    def shards(self) -> dict[str, tuple[str, ...]]:
        """The scrape addresses of each shard; the shard of a service without the label is ''."""
        found: dict[str, set[str]] = {}
        for one in self._canonical.series:
            found.setdefault(one.labels.get("shard", ""), set()).add(one.instance)
        return {shard: tuple(sorted(addresses)) for shard, addresses in sorted(found.items())}

    def name_of(self, instance: str) -> str:
        """The slot that the address belongs to (blue, green), else the address."""
        return self._label(instance, "slot") or instance

    def _label(self, instance: str, label: str) -> str:
        return next(
            (one.labels[label] for one in self.day.series if one.instance == instance and one.labels.get(label)), ""
        )

    def clock(self, instance: str) -> Clock:
        """When its processes began."""
        if instance not in self._clocks:
            self._clocks[instance] = clock_of(self._canonical.series, instance)
        return self._clocks[instance]

    @property
    def window_start(self) -> float:
        """Where the samples begin: an hour before the day."""
        return self.day.start - LOOK_BACK

    @cached_property
    def has_data(self) -> bool:
        """Whether anything was scraped in the day, be it that nothing was up."""
        return any(bool((one.t >= self.day.start).any()) for one in self.day.series)

    # Counters

    def count(self, name: str, **labels: str) -> int:
        """The whole day's increments of a counter, over all processes and children."""
        day = self.day
        return sum(
            count(one, self.clock(one.instance), self.window_start, day.start, day.end)
            for one in self.series(name)
            if all(one.labels.get(label) == value for label, value in labels.items())
        )

    def count_by(self, name: str, label: str) -> dict[str, int]:
        """The same for each value of a label."""
        return {
            value: self.count(name, **{label: value})
            for value in sorted({one.labels.get(label, "") for one in self.series(name)})
        }

    def events(self, name: str) -> list[tuple[float, Raw, int]]:
        """When a counter rose, which child, and by how much."""
        found = [
            (at, one, by)
            for one in self.series(name)
            for at, by in events(one, self.clock(one.instance), self.window_start, self.day.start, self.day.end)
        ]
        return sorted(found, key=lambda row: (row[0], sorted(row[1].labels.items())))

    def increments(self, one: Raw) -> Array:
        """The increments of one series, sample by sample."""
        return increments(one, self.clock(one.instance), self.window_start)

    # Slots

    def slot_of(self, t: Array, instance: str) -> NDArray[np.int64]:
        """The slot of each sample. Slots are laid around the instance's own rhythm, so that a jitter moves nothing."""
        phase = self._phase(instance)
        return np.floor((t - self.day.start - phase) / self.step + 0.5).astype(np.int64)

    def _phase(self, instance: str) -> float:
        if instance not in self._phases:
            ups = [one for one in self.series("up", instance) if len(one.t)]
            times = (ups[0].t if ups else np.empty(0)) - self.day.start
            if len(times):
                # The mean of an angle: a rhythm just around 0 has samples at both ends of the scale.
                angles = np.exp(2j * np.pi * times / self.step)
                self._phases[instance] = float(np.angle(angles.mean()) / (2 * np.pi) * self.step) % self.step
            else:
                self._phases[instance] = 0.0
        return self._phases[instance]

    @cached_property
    def _phases(self) -> dict[str, float]:
        return {}

    def filled(self, name: str, instance: str) -> Flags:
        """For each slot whether every child of this metric that should be there has a sample."""
        key = (name, instance)
        if key not in self._flags:
            self._flags[key] = self._complete(name, instance)
        return self._flags[key]

    def _sampled(self, one: Raw) -> Flags:
        flags = np.zeros(self.slots, dtype=np.bool_)
        at = self.slot_of(one.t if one.name != "up" else one.t[one.v > 0], one.instance)
        flags[at[(at >= 0) & (at < self.slots)]] = True
        return flags

    def _complete(self, name: str, instance: str) -> Flags:
        children = self.series(name, instance)
        sampled = [self._sampled(one) for one in children]
        found = np.zeros(self.slots, dtype=np.bool_)
        for flags in sampled:
            found |= flags
        for one, flags in zip(children, sampled, strict=True):
            found &= flags | ~self._due(one, flags)
        if name in PER_CONNECTION:
            found &= self._each_connection(name, instance)
        return found

    def _due(self, one: Raw, flags: Flags) -> Flags:
        """Where a child must have a sample: from its first sample in each run of its process to the end of that run."""
        due = np.zeros(self.slots, dtype=np.bool_)
        for begin, end in self._run_slots(one.instance):
            born = np.flatnonzero(flags[begin:end])
            if len(born):
                due[begin + int(born[0]) : end] = True
        return due

    def _run_slots(self, instance: str) -> list[tuple[int, int]]:
        """The slots of each run of the processes at an address."""
        clock = self.clock(instance)
        if not len(clock.t):
            return [(0, self.slots)]
        begins = np.array([begin for begin, _ in process_runs(clock.started)[1:]], dtype=np.int64)
        borders = np.clip(self.slot_of(clock.t[begins], instance), 0, self.slots).tolist()
        return list(pairwise([0, *borders, self.slots]))

    def _each_connection(self, name: str, instance: str) -> Flags:
        """Where each live connection has a sample of this metric, and as many are live as the process says."""
        found = np.ones(self.slots, dtype=np.bool_)
        mine = {one.labels.get("connection"): self._sampled(one) for one in self.series(name, instance)}
        live = np.zeros(self.slots)
        for status in self.series(STATUS, instance):
            open_now = np.nan_to_num(self.in_slots(status)) > 0
            live += open_now
            none = np.zeros(self.slots, dtype=np.bool_)
            found &= ~open_now | mine.get(status.labels.get("connection"), none)
        for said in self.series(LIVE, instance):
            found &= ~(np.nan_to_num(self.in_slots(said)) > live)
        return found

    def in_slots(self, one: Raw, values: Array | None = None, *, before: int = 0) -> Array:
        """A gauge slot by slot, from ``before`` slots before midnight on; not a number where it has no sample."""
        found = np.full(before + self.slots, np.nan)
        at = self.slot_of(one.t, one.instance) + before
        keep = (at >= 0) & (at < len(found))
        found[at[keep]] = (one.v if values is None else values)[keep]
        return found

    def coverage(self, names: Sequence[str]) -> Coverage:
        """The slots in which each process that was up exposed each of the metrics, with each child that was due.

        A slot in which nothing was up has nothing.
        """
        best, worst = self.slots + 1, ""
        for name in names:
            any_up = np.zeros(self.slots, dtype=np.bool_)
            complete = np.ones(self.slots, dtype=np.bool_)
            for instance in self.instances:
                up = self.filled("up", instance)
                any_up |= up
                complete &= ~up | self.filled(name, instance)
            seen = int((any_up & complete).sum())
            if seen < best:
                best, worst = seen, name
        return Coverage(min(best, self.slots), self.slots, worst, self.doubled)

    @cached_property
    def holes(self) -> list[tuple[float, float]]:
        """Stretches of three slots or more in which no process was up, as seconds since 1970."""
        up = np.zeros(self.slots, dtype=np.bool_)
        for instance in self.instances:
            up |= self.filled("up", instance)
        return [(self.day.start + a * self.step, self.day.start + b * self.step) for a, b in runs(~up) if b - a >= 3]

    # Processes

    @cached_property
    def processes(self) -> list[Process]:
        """Every run of every process that was seen in the day, by its first sample."""
        found = (process for instance in self.instances for process in self._runs(instance))
        return sorted(found, key=lambda one: (one.first, one.instance))

    def _runs(self, instance: str) -> Iterator[Process]:
        clock, day = self.clock(instance), self.day
        for begin, end in process_runs(clock.started):
            t = clock.t[begin:end]
            version, revision = self._build(instance, float(t[0]), float(t[-1]))
            inside = t[t >= day.start]
            if len(inside):
                restarted = self._before(instance, float(t[0])) if float(t[0]) >= day.start else None
                yield Process(
                    instance=instance,
                    name=self.name_of(instance),
                    shard=self._label(instance, "shard"),
                    slot=self._label(instance, "slot"),
                    started=float(clock.started[begin]),
                    first=float(inside[0]),
                    last=float(inside[-1]),
                    version=version,
                    revision=revision,
                    restarted_from=restarted[0] if restarted else None,
                    version_before=restarted[1] if restarted else None,
                )

    def _before(self, instance: str, first: float) -> tuple[float, str] | None:
        """The last sample and the version of the process that the address showed before, whatever it is kept as."""
        begins, ends = self.once(("shown", instance), lambda: self._shown(instance))
        number = int(np.searchsorted(ends, first)) - 1
        if number < 0:
            return None
        begin, end = float(begins[number]), float(ends[number])
        return end, self._build(instance, begin, end)[0]

    def _shown(self, instance: str) -> tuple[Array, Array]:
        """The first and the last sample of each process that the address showed, kept as whichever address."""
        clock = clock_of(self.day.series, instance)
        parts = np.asarray(process_runs(clock.started), dtype=np.int64).reshape(-1, 2)
        return clock.t[parts[:, 0]], clock.t[parts[:, 1] - 1]

    def _build(self, instance: str, first: float, last: float) -> tuple[str, str]:
        for one in self.day.series:
            if (one.name, one.instance) != ("ingest_build_info", instance):
                continue
            if len(one.t) and ((one.t >= first) & (one.t <= last)).any():
                return one.labels.get("version", ""), one.labels.get("revision", "")
        return "", ""


def runs(flags: Flags) -> list[tuple[int, int]]:
    """The stretches of True as (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]
