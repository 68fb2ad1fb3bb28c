"""Made-up soaks for the tests: samples as a sound service would give them, and what to change in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ingest.metrics import RECONNECT_REASONS, ROTATION_REASONS
from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.plan import MB, Plan
from ingest_ops.soak.record import CANDIDATE, Record, State
from ingest_ops.soak.samples import Sample
from ingest_ops.soak.sources import SourceError

START = 1_790_000_000.0
AUDITED = AuditResult(Verdict.PASS, "exit 0: PASS", {"verdict": "PASS", "reason": "clean", "totals": {"missing": 0}})


def sample(at: float, seconds: float, *, rss: float = 60.0, rate: float = 2000.0, **values: float) -> Sample:
    """One sample ``seconds`` after the start."""
    base = {
        "rss": rss * MB, "vms": 1200.0 * MB, "started": START - 30.0, "heap": 45_000.0, "descriptors": 42.0,
        "tasks": 14.0, "received": 1000.0 + rate * seconds, "committed": rate * seconds, "last_commit": at - 0.2,
        **dict.fromkeys((f"drops.{reason}" for reason in RECONNECT_REASONS), 0.0),
        **dict.fromkeys((f"rotations.{reason}" for reason in ROTATION_REASONS), 0.0),
        "rotations.scheduled": seconds // 600, "pongs": seconds // 180, "gaps_found": 0.0,
    }  # fmt: skip
    return Sample(at, base | values)


def sound(plan: Plan, leak_mb: float = 0.0, noise: float = 0.05) -> list[Sample]:
    """A whole soak; ``leak_mb`` over the plan's required time."""
    random = np.random.default_rng(1)
    found = []
    for slot in range(plan.expected_samples):
        seconds = slot * plan.sample_seconds
        rss = 60.0 + leak_mb * seconds / plan.run_seconds + float(random.normal(0.0, noise))
        found.append(sample(START + seconds, seconds, rss=rss, rate=2000.0 * plan.factor))
    return found


def finished(plan: Plan, samples: Sequence[Sample]) -> Record:
    """The record of a soak that ran to its end."""
    record = Record(run_id="soak-test", plan=plan, started=START, state=State.FINISHED)
    record.ended = START + plan.run_seconds
    record.tracks = {CANDIDATE: list(samples)}
    return record


class Clock:
    """A clock that only ``sleep`` moves."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)


Make = Callable[[float], Sample]


class LiveSource:
    """Like /metrics: what was not read is gone. ``make`` gives the sample of so many seconds after the start."""

    remembers = False

    def __init__(self, clock: Clock, make: Make | None = None) -> None:
        self._clock = clock
        self._make = make or (lambda seconds: sample(START + seconds, seconds))
        self.broken = False
        self.reads = 0

    def read(self, since: float, until: float) -> list[Sample]:
        del since
        self.reads += 1
        if self.broken:
            raise SourceError("connection refused")
        return [Sample(until, self._make(self._clock.now - START).values)]

    def build(self) -> dict[str, str]:
        return {"version": "1.2.3", "revision": "abc"}

    def describe(self) -> str:
        return "a made-up service"


class ScrapedSource(LiveSource):
    """Like Prometheus: a scrape each 15 s, all of them still there."""

    remembers = True

    def read(self, since: float, until: float) -> list[Sample]:
        self.reads += 1
        if self.broken:
            raise SourceError("connection refused")
        first = int((since - START) // 15) + 1
        last = int((min(until, self._clock.now) - START) // 15)
        return [Sample(START + 15.0 * n, self._make(15.0 * n).values) for n in range(max(first, 0), last + 1)]


def record_file(folder: Path) -> Path:
    """Where the tests' records go."""
    return folder / "records" / "soak-test.json"
