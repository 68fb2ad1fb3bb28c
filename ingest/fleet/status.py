"""Health and status of an instance, for its HTTP server. Called on HTTP threads: reads what the supervisor leaves."""

import os
from typing import Any

from ingest.control.server import Health
from ingest.fleet.shards import Shard, monotonic
from ingest.fleet.supervisor import Supervisor
from ingest.settings import Settings

HUNG_SECONDS = 10.0


class FleetProbe:
    """Answers the health questions of a whole instance."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._version = version
        self.supervisor: Supervisor | None = None
        """None until the group may be joined."""

    def live(self) -> Health:
        """Whether the supervisor turns."""
        now = monotonic()
        supervisor = self.supervisor
        lag = now - supervisor.turned_at if supervisor is not None else 0.0
        reason = "" if lag < HUNG_SECONDS else f"the supervisor's loop has not run for {lag:.1f} s"
        return Health(ok=not reason, reason=reason, details={"loop_seconds": round(lag, 3)})

    def ready(self) -> Health:
        """Whether every shard that the group gives to this instance is written here."""
        live = self.live()
        supervisor = self.supervisor
        if supervisor is None:
            starting = "starting: Kafka has not said yet whether the group can be joined"
            return Health(ok=False, reason=live.reason or starting, details={**live.details, "shards": []})
        reason, shards = live.reason or supervisor.not_ready(monotonic()), sorted(supervisor.assigned())
        return Health(ok=not reason, reason=reason, details={**live.details, "shards": shards})

    def status(self) -> dict[str, Any]:
        """The instance and the fleet, as JSON."""
        service, supervisor = self._settings.service, self.supervisor
        base: dict[str, Any] = {
            "pid": os.getpid(),
            "instance": service.instance_id,
            "slot": service.slot,
            "version": self._version,
            "revision": service.revision,
            "shard": {"index": "auto", "count": service.shard_count},
            "group": self._settings.fleet_group,
            "topic": self._settings.kafka.topic,
        }
        if supervisor is None:
            return {**base, "state": "starting"}
        state = "leaving" if supervisor.leaving_since is not None else "member"
        return {**base, "state": state if supervisor.introduced else "joining", **_fleet(supervisor)}


def _fleet(supervisor: Supervisor) -> dict[str, Any]:
    view, now = supervisor.view, monotonic()
    assigned = supervisor.assigned()
    members = [] if view is None else sorted(view.members, key=lambda one: one.instance)
    return {
        "view_age_seconds": None if view is None else round(now - view.at, 3),
        "members": [
            {"instance": one.instance, "address": one.address, "version": one.version, "shards": _owned(view, one)}
            for one in members
        ],
        "strangers": 0 if view is None else view.strangers,
        "budget": {
            "address": supervisor.own.address,
            "instances": supervisor.attempts.instances,
            "attempts_share": round(supervisor.attempts.share(now), 4),
        },
        "shards": {
            str(number): _shard(supervisor, shard, now, assigned=number in assigned)
            for number, shard in supervisor.shards.items()
        },
    }


def _owned(view: Any, member: Any) -> list[int]:
    return sorted(shard for shard, owner in view.owners.items() if owner == member)


def _shard(supervisor: Supervisor, shard: Shard, now: float, *, assigned: bool) -> dict[str, Any]:
    owner, report, age = supervisor.duties.owner(shard.number), shard.report(), shard.commit_age(now)
    child = shard.child
    return {
        "owner": None if owner is None else owner.instance,
        "owner_gone": supervisor.duties.owner_gone(shard.number),
        "assigned": assigned,
        "standby_here": supervisor.duties.standby(shard.number),
        "role": None if report is None else report.role,
        "warm": report is not None and report.warm,
        "generation": None if report is None else report.generation,
        "commit_age_seconds": None if age is None else round(age, 3),
        "pid": None if child is None else child.pid,
        "control_url": None if report is None else report.control_url,
        "starts": shard.starts,
        "last_exit": shard.last_exit,
        "attempts": None if child is None or child.sent is None else child.sent.attempts,
    }
