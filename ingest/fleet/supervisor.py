"""The supervisor of one instance: a turn looks at the group and the children, decides, and does it.

One thread, no waiting: the group, the views and each child have threads of their own, which wake it.
"""

import logging
import threading
from collections.abc import Callable, Collection

from ingest.core.errors import IngestError, Stop
from ingest.fleet.budget import (
    ATTEMPTS_SECONDS,
    AddressShare,
    Holding,
    split,
)
from ingest.fleet.duties import Duties
from ingest.fleet.group import GroupMember, ViewThread
from ingest.fleet.members import Member, View, contradiction, other_versions, seats
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
        views: ViewThread,
    ) -> None:
        """``numbers``: the shards that have symbols. ``starter`` and ``group`` get what wakes the supervisor."""
        self._settings = settings
        self._service = settings.service
        self.own = own
        self._metrics = metrics
        self._wake = threading.Event()
        self._group = group(self._fail)
        self._views = views
        start = starter(self._wake.set)
        self.shards = {number: Shard(number, own, start, metrics) for number in sorted(numbers)}
        self.duties = Duties(own, frozenset(self.shards), standbys=self._service.standby_warm)
        self._processes = len(self.shards) * (PROCESSES_OF_SHARD + self._service.standby_warm)
        self.attempts = AddressShare(own.instance, window=ATTEMPTS_SECONDS)
        self._failure: IngestError | None = None
        self._stop = threading.Event()
        self._hurry = False
        self.leaving_since: float | None = None
        self._seen: View | None = None
        self.introduced = False
        """The group has confirmed the membership, and no member contradicts."""
        self._budgets_at = float("-inf")
        self._versions: dict[str, str] = {}
        self.turned_at = monotonic()

    # --- from other threads and signal handlers ---

    def stop(self) -> None:
        """Leave the group and end; asked twice, without waiting for successors."""
        self._hurry = self._stop.is_set()
        self._stop.set()
        self._wake.set()

    def _fail(self, error: IngestError) -> None:
        self._failure = error
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
        if (self._stop.is_set() or self._failure is not None) and self.leaving_since is None:
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
        self.attempts.observe(seats(view, self.own.address), view.at)
        problem = contradiction(self.own, view.members, self._settings.fleet_group)
        if problem is not None and not self.introduced:
            self._failure = self._failure or Stop(problem)
        elif problem is not None:
            log.error("%s: that instance must not start; this one goes on", problem)
        else:
            self.introduced = self.introduced or self._group.assignment.answered
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
        waited = now - self.leaving_since if self.leaving_since is not None else 0.0
        over = self._hurry or self._failure is not None or waited >= self._service.fleet_leave_timeout_seconds
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
        longest = self._service.fleet_leave_timeout_seconds + self._service.drain_timeout_seconds + END_SECONDS
        if waited >= longest or (over and waited >= self._service.drain_timeout_seconds + END_SECONDS and self._hurry):
            for shard in self.shards.values():
                if shard.child is not None:
                    log.error("shard %d: the child did not end in time: it is killed", shard.number)
                    shard.child.kill()

    # --- budgets ---

    def _share(self, now: float) -> None:
        new = any(one.child is not None and one.child.sent is None for one in self.shards.values())
        if not new and now - self._budgets_at < BUDGET_SECONDS:
            return
        self._budgets_at = now
        limit = self._settings.binance.connection_attempts_per_5_minutes
        children: dict[str, Holding] = {}
        for number, shard in self.shards.items():
            if shard.child is None:
                continue
            sent, report = shard.child.sent, shard.report()
            children[str(number)] = Holding(
                allowed=0.0 if sent is None else sent.attempts / limit,
                in_force=0.0 if report is None else report.attempts / limit,
                used=shard.child.attempts(now) / limit,
            )
        past = sum(shard.past_attempts.used(now) for shard in self.shards.values()) / limit
        for name, part in split(self.attempts.share(now), children, past).items():
            self.shards[int(name)].allow(self._processes, int(part * limit + 1e-9))

    # --- metrics ---

    def _show(self, view: View | None, now: float) -> None:
        metrics, epochs = self._metrics, self._group.assignment.shards()
        metrics.shards.set(len(self.shards))
        metrics.members.set(0 if view is None else len(view.members))
        metrics.view_age.set(0.0 if view is None else now - view.at)
        metrics.sessions_lost.set(self._group.sessions_lost)
        metrics.attempts_share.set(self.attempts.share(now))
        fleet = self._settings.fleet_group
        for number, shard in self.shards.items():
            label = str(number)
            metrics.assigned.labels(label).set(1 if number in epochs else 0)
            metrics.child_up.labels(label).set(1 if shard.child is not None else 0)
            metrics.writing.labels(fleet, label).set(1 if self.commits(shard, now) else 0)

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
