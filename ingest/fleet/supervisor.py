"""The supervisor of one instance: a turn looks at the group and the children, decides, and does it.

One thread, no waiting: the group, the views and each child have threads of their own, which wake it.
"""

import logging
import math
import threading
from collections.abc import Callable, Collection

from ingest.core.errors import IngestError, Stop
from ingest.fleet.budget import ATTEMPTS_SECONDS, AddressShare, Holding, split
from ingest.fleet.decisions import pace_of
from ingest.fleet.duties import Duties
from ingest.fleet.group import GroupMember, ViewThread
from ingest.fleet.members import Member, View, contradiction, of_same_id, other_versions, same_id_problem, sharing
from ingest.fleet.metrics import FleetMetrics
from ingest.fleet.shards import Shard, Starter, monotonic
from ingest.settings import Settings

log = logging.getLogger(__name__)

TURN_SECONDS = 0.2
FROZEN_SECONDS = 5.0
"""A turn that comes this late: this process was frozen."""
BUDGET_SECONDS = 0.5
"""Between two looks at the budgets; a new child gets its own at once."""
END_SECONDS = 5.0
"""After its own time for draining a child that does not end is killed."""
PROCESSES_OF_SHARD = 2
"""That may run at once besides standbys: the writer and its successor."""


class Supervisor:
    """Runs until told to end, or until something is wrong that only a person can change."""

    def __init__(
        self,
        settings: Settings,
        own: Member,
        metrics: FleetMetrics,
        *,
        numbers: Collection[int],
        starter: Callable[[Callable[[], None]], Starter],
        group: Callable[[Callable[[IngestError], None]], GroupMember],
        views: Callable[[Callable[[IngestError], None]], ViewThread],
        signals: Callable[[], int] = lambda: 0,
    ) -> None:
        """``numbers``: the shards that have symbols.

        ``starter`` gets what wakes the supervisor, ``group`` and ``views`` what ends it. ``signals``: how many signals
        to end have come: handlers only count them, as they may take no lock.
        """
        self._settings = settings
        self._service = settings.service
        self.own = own
        self._metrics = metrics
        self._wake = threading.Event()
        self._group = group(self._fail)
        self._views = views(self._fail)
        self._signals = signals
        start = starter(self._wake.set)
        kafka = settings.kafka
        pace = pace_of(commit_interval_ms=kafka.commit_interval_ms, heartbeat_interval_ms=kafka.heartbeat_interval_ms)
        self.shards = {number: Shard(number, own, start, metrics, pace) for number in sorted(numbers)}
        self.duties = Duties(own, frozenset(self.shards), standbys=self._service.standby_warm)
        self._processes = len(self.shards) * (PROCESSES_OF_SHARD + self._service.standby_warm)
        self.attempts = AddressShare(own.instance, window=ATTEMPTS_SECONDS)
        self._failure: IngestError | None = None
        self.leaving_since: float | None = None
        self._over_since: float | None = None
        """When the time for leaving was over: children have their time for draining from then on."""
        self._seen: View | None = None
        self.introduced = False
        """The group has confirmed the membership, and no member contradicts."""
        self._budgets_at = float("-inf")
        self._versions: dict[str, str] = {}
        self._problem: str | None = None
        """What contradicts at present."""
        self._without_attempts: frozenset[int] = frozenset()
        self.turned_at = monotonic()

    def _fail(self, error: IngestError) -> None:
        """Called on other threads."""
        self._failure = self._failure or error
        self._wake.set()

    # --- the loop ---

    def run(self) -> None:
        """Supervise until told to end and every child has ended. Raises ``IngestError``, all children ended, too."""
        self._views.start()
        self._group.start()
        try:
            while not (self.leaving_since is not None and self._all_ended()):
                self._wake.wait(TURN_SECONDS)
                self._wake.clear()
                self.turn(monotonic())
        finally:
            self._views.close()
            self._group.leave()
            for shard in self.shards.values():
                if shard.child is not None:
                    shard.child.kill()
        self._group.join(END_SECONDS)
        if self._failure is not None:
            raise self._failure

    def _all_ended(self) -> bool:
        return all(shard.child is None for shard in self.shards.values())

    def turn(self, now: float) -> None:
        """Do what is to be done now."""
        if (self._signals() or self._failure is not None) and self.leaving_since is None:
            self.leaving_since = now
            log.info("leaving the group; the children write on until successors have taken over")
            self._group.leave()
        view = self._look()
        for shard in self.shards.values():
            if now - self.turned_at > FROZEN_SECONDS:
                shard.pardon(now)
            shard.observe(now)
        if self.introduced or self.leaving_since is not None:
            self._act(view, now)
            self._share(now)
        self._show(view, now)
        self.turned_at = now

    def _look(self) -> View | None:
        """Take the latest view, once."""
        view = self._views.latest
        if view is None or view is self._seen:
            return view
        self._seen = view
        self.duties.observe(view)
        if self.own not in view.members:
            return view
        self.attempts.observe(sharing(view, self.own.address), view.at)
        group, other = self._settings.fleet_group, of_same_id(self.own, view.members)
        problem = contradiction(self.own, view.members, group)
        if other is not None:
            problem = problem or same_id_problem(other, group)
        if problem is not None and not self.introduced:
            self._failure = self._failure or Stop(problem)
        elif problem is not None and problem != self._problem:
            log.error("%s: that instance must not start; this one goes on", problem)
        elif problem is None:
            self.introduced = self.introduced or self._group.assignment.answered
        self._problem = problem
        self._warn(view)
        return view

    def _warn(self, view: View) -> None:
        versions = other_versions(self.own, view.members)
        for instance, version in versions.items():
            if self._versions.get(instance) != version:
                log.warning("instance %s runs version %s, this one %s", instance, version, self.own.version)
        self._versions = versions

    def _act(self, view: View | None, now: float) -> None:
        epochs, leaving = self._group.assignment.shards(), self.leaving_since is not None
        over = self._leave_over(now)
        for number, shard in self.shards.items():
            shard.act(
                now,
                epoch=None if leaving else epochs.get(number),
                view=view,
                standby_duty=self.duties.standby(number),
                owner_gone=self.duties.owner_gone(number),
                leaving=leaving,
                leave_over=over,
            )
        if self._over_since is None or now - self._over_since < self._service.drain_timeout_seconds + END_SECONDS:
            return
        for shard in self.shards.values():
            if shard.child is not None:
                log.error("shard %d: the child did not end in time: it is killed", shard.number)
                shard.child.kill()

    def _leave_over(self, now: float) -> bool:
        """Whether children do not wait for successors any more: a second signal, a failure, or the time."""
        if self.leaving_since is None:
            return False
        waited = now - self.leaving_since >= self._service.fleet_leave_timeout_seconds
        over = self._signals() > 1 or self._failure is not None or waited
        if over and self._over_since is None:
            self._over_since = now
        return over

    # --- budgets ---

    def _share(self, now: float) -> None:
        new = any(one.child is not None and one.child.sent is None for one in self.shards.values())
        if not new and now - self._budgets_at < BUDGET_SECONDS:
            return
        self._budgets_at = now
        limit = self._settings.binance.connection_attempts_per_5_minutes
        children: dict[str, Holding] = {}
        for number, shard in self.shards.items():
            child, report = shard.child, shard.report()
            if child is None:
                continue
            children[str(number)] = Holding(
                allowed=0.0 if child.sent is None else child.sent.attempts / limit,
                in_force=0.0 if report is None else report.attempts / limit,
                used=child.attempts(now) / limit,
            )
        past = sum(shard.past_attempts.used(now) for shard in self.shards.values()) / limit
        parts = split(self.attempts.share(now), children, past)
        given = {int(name): int(part * limit + 1e-9) for name, part in parts.items()}
        for number, attempts in given.items():
            self.shards[number].allow(self._processes, attempts)
        self._warn_of_none(frozenset(number for number, attempts in given.items() if not attempts))

    def _warn_of_none(self, without: frozenset[int]) -> None:
        """Log the shards whose children may open no connection, once for each change."""
        if without - self._without_attempts:
            log.warning(
                "no connection attempts are left for shards %s: they wait. %d instances share %s, which has "
                "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES=%d: a new instance has a small part of them for %.0f s; "
                "if this goes on, use fewer instances or shards behind one address",
                ", ".join(map(str, sorted(without))), self.attempts.instances, self.own.address,
                self._settings.binance.connection_attempts_per_5_minutes, self.attempts.memory,
                extra={"shards": sorted(without)},
            )  # fmt: skip
        self._without_attempts = without

    # --- metrics ---

    def _show(self, view: View | None, now: float) -> None:
        metrics, epochs = self._metrics, self._group.assignment.shards()
        metrics.shards.set(len(self.shards))
        metrics.members.set(0 if view is None else len(view.members))
        metrics.view_age.set(math.nan if view is None else now - view.at)
        metrics.ready.set(0 if self.not_ready(now) else 1)
        metrics.sessions_lost.set(self._group.sessions_lost)
        metrics.attempts_share.set(self.attempts.share(now))
        fleet = self._settings.fleet_group
        for number, shard in self.shards.items():
            label = str(number)
            metrics.assigned.labels(label).set(1 if number in epochs else 0)
            metrics.child_up.labels(label).set(1 if shard.child is not None else 0)
            metrics.writing.labels(fleet, label).set(1 if self.commits(shard, now) else 0)

    def not_ready(self, now: float) -> str:
        """Why not every shard that the group gives to this instance is written here; empty if each is. Any thread."""
        if self.leaving_since is not None:
            return "this instance is leaving"
        if not self.introduced:
            return "starting: the group has not confirmed this instance"
        for number in sorted(self.assigned()):
            shard = self.shards[number]
            if not self.commits(shard, now):
                report = shard.report()
                return f"shard {number} is not written here yet: {report.role if report else 'no child reports'}"
        return ""

    def commits(self, shard: Shard, now: float) -> bool:
        """Whether a shard is written here, with commits."""
        age = shard.commit_age(now)
        return age is not None and age <= self._service.ready_max_commit_age_seconds

    def assigned(self) -> dict[int, int]:
        """Shard -> number of its assignment, of the shards that the group gives to this instance."""
        return {number: epoch for number, epoch in self._group.assignment.shards().items() if number in self.shards}

    @property
    def view(self) -> View | None:
        """The latest view of the group."""
        return self._views.latest
