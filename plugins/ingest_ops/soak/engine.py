"""The engine: read, keep, judge whether to go on. The same for pytest, the command line and the trigger."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ingest_ops.soak.plan import MB, Plan
from ingest_ops.soak.record import CANDIDATE, PROCESS_EXITED, Record, State
from ingest_ops.soak.samples import Sample, increase, increase_by, restarts
from ingest_ops.soak.sources import Source, SourceError

log = logging.getLogger(__name__)

Watch = Callable[[], str | None]
"""Says how the service's process ended, or ``None`` while it runs."""


class Engine:
    """Drives one soak. All that it knows is in the record: make another one on the same file and it goes on.

    ``clock`` gives seconds since 1970; ``watch`` is asked at each tick where the caller can see the process itself.
    """

    def __init__(
        self,
        path: Path,
        record: Record,
        sources: Mapping[str, Source],
        *,
        clock: Callable[[], float],
        watch: Watch = lambda: None,
    ) -> None:
        self.path = path
        self.record = record
        self._sources = sources
        self._clock = clock
        self._watch = watch
        self._known_until = record.started
        self._saved = False

    @classmethod
    def start(
        cls,
        path: Path,
        run_id: str,
        plan: Plan,
        sources: Mapping[str, Source],
        *,
        clock: Callable[[], float],
        environment: Mapping[str, object] | None = None,
        watch: Watch = lambda: None,
        started: float | None = None,
    ) -> "Engine":
        """Begin, or go on where the record at ``path`` ends. Raises ``BadRecord`` where the file is something else.

        ``started``: when the soak began, where the caller remembers it; with Prometheus the samples since then are
        read again even if the record is lost.
        """
        record = Record.load(path)
        if record is None:
            begun = clock() if started is None else started
            record = Record(run_id=run_id, plan=plan, started=begun, environment=dict(environment or {}))
            record.tracks = {name: [] for name in sources}
            for name, source in sources.items():
                record.environment[name] = {"source": source.describe(), "build": source.build()}
        elif record.run_id != run_id:
            raise ValueError(f"{path} is the record of {record.run_id}, not of {run_id}")
        else:
            record.note(clock(), "resumed", f"resumed after {len(record.samples)} samples")
        return cls(path, record, sources, clock=clock, watch=watch)

    def next_due(self) -> float:
        """Seconds from now to the next sample; 0.0 where it is due."""
        plan, now = self.record.plan, self._clock()
        end = self.record.started + plan.run_seconds
        samples = self.record.samples
        if not samples:
            return 0.0
        slot = self._slot(samples[-1].at) + 1
        due = min(self.record.started + slot * plan.sample_seconds, end)
        return max(0.0, due - now)

    def tick(self) -> State:
        """Read what is new, save, and say whether to go on."""
        record, now = self.record, self._clock()
        if record.state is not State.RUNNING:
            return record.state
        before = self._size()
        for name, source in self._sources.items():
            self._collect(name, source, now)
        self._progress(now)
        if gone := self._watch():
            self._end(State.ABORTED, f"{PROCESS_EXITED}: {gone}", now)
        elif reason := early_abort_reason(record, self._known_until):
            self._end(State.ABORTED, reason, now)
        elif self._complete(now):
            self._end(State.FINISHED, "", now)
        if self._size() != before or not self._saved:
            record.save(self.path)
            self._saved = True
        return record.state

    def end(self, reason: str) -> State:
        """End it early; what was seen so far is judged."""
        if self.record.state is State.RUNNING:
            self._end(State.ABORTED, reason, self._clock())
            self.record.save(self.path)
        return self.record.state

    def run(self, sleep: Callable[[float], None]) -> Record:
        """Tick until the soak is over."""
        while self.tick() is State.RUNNING:
            # A failed reading leaves the slot due: ask again soon, but never in a tight loop.
            sleep(max(self.next_due(), min(2.0, self.record.plan.sample_seconds / 4)))
        return self.record

    def _complete(self, now: float) -> bool:
        """The time is over, and the last sample is there or half an interval late: a scrape comes when it comes."""
        record, plan = self.record, self.record.plan
        over = now - record.started - plan.run_seconds
        last = bool(record.samples) and self._slot(record.samples[-1].at) >= plan.expected_samples - 1
        return over >= 0 and (last or over >= plan.sample_seconds / 2)

    def _size(self) -> int:
        return len(self.record.events) + sum(len(track) for track in self.record.tracks.values())

    def _slot(self, at: float) -> int:
        return int((at - self.record.started + 1e-6) // self.record.plan.sample_seconds)

    def _collect(self, name: str, source: Source, now: float) -> None:
        record = self.record
        track = record.tracks.setdefault(name, [])
        since = track[-1].at if track else record.started - 1e-3
        end = record.started + record.plan.run_seconds
        # The last sample may be late by a fraction of an interval: without it a whole run would lack one.
        until = min(now, end + record.plan.sample_seconds / 2)
        if until <= since:
            return
        if until < now and not source.remembers:
            # No watcher ran when the soak ended; values read now are not those of that time.
            self._known_until = now
            return
        try:
            found = source.read(since, until)
        except SourceError as error:
            if not source.remembers:
                self._known_until = now
            self._missed(name, str(error), now)
            return
        if name == CANDIDATE:
            self._known_until = now
        for sample in found:
            if sample.complete and (not track or self._slot(sample.at) > self._slot(track[-1].at)):
                track.append(sample)

    def _missed(self, name: str, error: str, now: float) -> None:
        """Note a failed reading, once for each sample that it costs."""
        last = next((one for one in reversed(self.record.events) if one["kind"] == "missed"), None)
        if last is not None and self._slot(last["at"]) == self._slot(now) and last["text"].startswith(f"{name}: "):
            return
        self.record.note(now, "missed", f"{name}: {error}"[:500])
        log.warning("soak %s: no sample of %s: %s", self.record.run_id, name, error)

    def _progress(self, now: float) -> None:
        record = self.record
        said = [event["at"] for event in record.events if event["kind"] == "progress"]
        before = max(said, default=record.started)
        if record.samples and now - before >= record.plan.progress_seconds - 1e-6:
            line = progress_line(record)
            record.note(now, "progress", line)
            log.info("soak %s: %s", record.run_id, line)

    def _end(self, state: State, reason: str, now: float) -> None:
        record = self.record
        record.state, record.reason, record.ended = state, reason, now
        text = progress_line(record) if record.samples else "no sample"
        record.note(now, str(state), reason or text)
        log.log(
            logging.INFO if state is State.FINISHED else logging.ERROR, "soak %s: %s: %s", record.run_id, state, text
        )


def early_abort_reason(record: Record, known_until: float) -> str:
    """Why the soak cannot pass any more, or an empty text.

    ``known_until``: up to when a missing sample is known to be missing. While Prometheus does not answer, the scrapes
    may well be there.
    """
    plan, samples = record.plan, record.samples
    for one in samples:
        if (rss := one.values["rss"]) > plan.abort_mb * MB:
            after = one.at - record.started
            return f"memory {rss / MB:.1f} MB is above the limit of {plan.abort_mb:g} MB after {after:.0f} s"
    if restarts(samples):
        return "the service was restarted"
    if (drops := count_drops(samples)) >= plan.most_drops:
        return f"{drops} connection drops, allowed are fewer than {plan.most_drops}"
    gone = int(min(known_until - record.started, plan.run_seconds) / plan.sample_seconds)
    lost = gone - len(samples)
    allowed = plan.expected_samples * (1.0 - plan.least_samples)
    if lost > max(allowed, 3):
        return f"{lost} of {gone} samples are missing: {plan.least_samples:.0%} can no longer be reached"
    return ""


def count_drops(samples: list[Sample]) -> int:
    """Connections that ended unasked, and those that were replaced because they were dead."""
    rotations = increase_by(samples, "rotations")
    return sum(increase_by(samples, "drops").values()) + sum(
        rotations.get(why, 0) for why in ("stalled", "pong_timeout")
    )


def progress_line(record: Record) -> str:
    """Where the soak stands, for a log."""
    first, last = record.samples[0], record.samples[-1]
    seconds = int(last.at - record.started)
    elapsed = max(last.at - first.at, 1e-9)
    rotations = increase_by(record.samples, "rotations")
    return (
        f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} "
        f"rss {last.values['rss'] / MB:.1f} MB ({(last.values['rss'] - first.values['rss']) / MB:+.1f}), "
        f"{increase(record.samples, 'received') / elapsed:,.1f} msg/s, "
        f"drops {count_drops(record.samples)}, rotations {sum(rotations.values())}, "
        f"pongs {increase(record.samples, 'pongs'):.0f}, holes {increase(record.samples, 'gaps_found'):.0f}, "
        f"{len(record.tracks[CANDIDATE])} samples"
    )
