"""Each shard as the supervisor of one instance keeps it: its child, and what has happened to it."""

import logging
import random
import time
from collections.abc import Callable, Iterator

from ingest.core.backoff import full_jitter
from ingest.core.child_protocol import Budget, Promote, Report
from ingest.fleet.budget import usage
from ingest.fleet.child import Child
from ingest.fleet.decisions import WRITING, Action, Pace, Situation, decide
from ingest.fleet.decisions import Child as ChildFacts
from ingest.fleet.members import Member, View
from ingest.fleet.metrics import FleetMetrics

log = logging.getLogger(__name__)

HUNG_SECONDS = 30.0
"""A child that reports nothing for so long is killed: its event loop hangs."""
FIRST_SECONDS = 90.0
"""A child that is started reports within this, on a busy machine, too."""
SOUND_SECONDS = 60.0
"""A child that has lived this long has earned a quick restart."""
BACKOFF_INITIAL, BACKOFF_MAXIMUM = 0.5, 60.0

Starter = Callable[[int], Child]


class Shard:
    """One shard. ``report``, ``commit_age`` and ``child`` may be read on any thread, the rest is the supervisor's."""

    def __init__(self, number: int, member: Member, starter: Starter, metrics: FleetMetrics, pace: Pace) -> None:
        self.number = number
        self.child: Child | None = None
        self.past_attempts = usage()
        """Of children that have ended."""
        self.last_exit: int | None = None
        self.starts = 0
        self._member = member
        self._pace = pace
        self._starter = starter
        self._metrics = metrics
        self._backoff = _new_backoff()
        self._not_before = 0.0
        self._role = ""
        self._role_since = 0.0
        self._warm_since: float | None = None
        self._promoted_at: float | None = None
        self._unwanted_since: float | None = None
        self._pardoned_at = 0.0
        self._epoch: int | None = None
        self._took_over_epoch: int | None = None

    # --- what it is ---

    def report(self) -> Report | None:
        """The latest report of the running child."""
        child = self.child  # the supervisor may take it away meanwhile
        return None if child is None else child.report()[0]

    @property
    def writing(self) -> bool:
        """Whether the child holds the shard."""
        return self.child is not None and self._role in WRITING

    def commit_age(self, now: float) -> float | None:
        """Seconds since the child, being the writer, committed; None if it is not, or never has."""
        child = self.child
        if child is None:
            return None
        report, at = child.report()
        if report is None or report.role != "active" or report.commit_age is None:
            return None
        return report.commit_age + now - at

    # --- each turn ---

    def observe(self, now: float) -> None:
        """Take what the child said or did since the last turn."""
        child = self.child
        if child is None:
            return
        code = child.ended
        if code is not None:
            self._on_end(child, code, now)
            return
        report, at = child.report()
        if now - max(at, self._pardoned_at) > (FIRST_SECONDS if report is None else HUNG_SECONDS):
            log.error("shard %d: the child has not reported for %.0f s: it is killed", self.number, now - at)
            child.kill()
        if report is None:
            return
        if report.role != self._role:
            log.info("shard %d: %s", self.number, report.role, extra={"shard": self.number, "role": report.role})
            self._role, self._role_since = report.role, now
        if report.role == "active":
            self._took_over_epoch = self._epoch
            self._promoted_at = None
        self._warm_since = (self._warm_since or now) if report.warm else None

    def pardon(self, now: float) -> None:
        """The supervisor itself stood still: what the child has said meanwhile has yet to be read."""
        self._pardoned_at = now

    def _on_end(self, child: Child, code: int, now: float) -> None:
        self.past_attempts.note(now, child.attempts(now))
        lived = now - child.started_at
        if lived >= SOUND_SECONDS:
            self._backoff = _new_backoff()
        pause = 0.0 if code == 0 else next(self._backoff)
        self._not_before = now + pause
        level = logging.INFO if code == 0 else logging.ERROR
        log.log(
            level, "shard %d: the child ended with %d after %.1f s", self.number, code, lived,
            extra={"shard": self.number, "code": code, "again_in": round(pause, 2)},
        )  # fmt: skip
        self.child, self.last_exit, self._role = None, code, ""
        self._warm_since = self._promoted_at = self._unwanted_since = None

    def act(
        self,
        now: float,
        *,
        epoch: int | None,
        view: View | None,
        standby_duty: bool,
        owner_gone: bool,
        leaving: bool,
        leave_over: bool,
    ) -> None:
        """Decide and do it. ``epoch``: the number of the assignment that gave this shard, None without one."""
        if epoch != self._epoch:
            self._epoch = epoch
            if epoch is not None and self.writing:
                self._took_over_epoch = epoch  # it was written here all the time
        wanted = (epoch is not None or standby_duty) and not leaving
        self._unwanted_since = None if wanted else (self._unwanted_since or now)
        others = view is None or any(one.instance != self._member.instance for one in view.members)
        situation = Situation(
            child=self._facts(now),
            assigned=epoch is not None,
            took_over=epoch is not None and self._took_over_epoch == epoch,
            confirmed=view is not None
            and view.stable
            and view.at > self._role_since
            and view.owners.get(self.number) == self._member,
            standby_duty=standby_duty,
            owner_gone=owner_gone,
            leaving=leaving,
            successors=others,
            leave_over=leave_over,
        )
        self._do(decide(situation, self._pace), now)

    def _facts(self, now: float) -> ChildFacts | None:
        child = self.child
        if child is None:
            return None
        report, at = child.report()
        return ChildFacts(
            role=self._role,
            warm_seconds=None if self._warm_since is None else now - self._warm_since,
            lease_age=0.0 if report is None else report.lease_age + now - at,
            promoted_seconds=None if self._promoted_at is None else now - self._promoted_at,
            unwanted_seconds=0.0 if self._unwanted_since is None else now - self._unwanted_since,
        )

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Action.KEEP:
                return
            case Action.START:
                self._start(now)
            case Action.PROMOTE:
                self._promote(now)
            case Action.END:
                if self.child is not None and self._role != "draining":
                    self.child.end()

    def _start(self, now: float) -> None:
        if now < self._not_before:
            return
        try:
            self.child = self._starter(self.number)
        except OSError as error:
            log.error("shard %d: no process can be started: %s", self.number, error)  # noqa: TRY400 - no bug
            self._not_before = now + next(self._backoff)
            return
        self.starts += 1
        self._metrics.starts.labels(str(self.number)).inc()
        self._role_since = now
        log.info("shard %d: child %d started", self.number, self.child.pid, extra={"shard": self.number})

    def _promote(self, now: float) -> None:
        report = self.report()
        if report is None or self.child is None:
            return
        self._promoted_at = now
        self._metrics.promotions.inc()
        identity = f"fleet-{self._member.nonce}-{self.number}-{self._epoch or 0}-{report.generation + 1}"
        self.child.send(Promote(identity, report.generation + 1))

    def allow(self, processes: int, attempts: int) -> None:
        """Give the child this budget, if it has another one or has not confirmed it."""
        if self.child is None:
            return
        wanted, report = Budget(processes, attempts), self.report()
        if self.child.sent != wanted or (report is not None and report.attempts != attempts):
            self.child.send(wanted)


def _new_backoff() -> Iterator[float]:
    return full_jitter(initial=BACKOFF_INITIAL, maximum=BACKOFF_MAXIMUM, uniform=random.uniform)


def monotonic() -> float:
    """The clock of everything here, seconds."""
    return time.monotonic()
