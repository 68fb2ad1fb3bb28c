"""Whether an instance may join its fleet's group: by the topic's partitions and by the members that are there. Pure."""

import logging

from ingest.core.errors import Stop
from ingest.fleet.members import Member, View, contradiction, of_same_id, same_id_problem
from ingest.settings import Settings

log = logging.getLogger(__name__)

SAME_ID_PAUSE_SECONDS = 0.5
SAME_ID_SECONDS = 5.0
"""Beyond the session's time-out: the coordinator ends sessions late, and views are a second apart."""
BROKER_SESSION_SECONDS = 45.0
"""Kafka's default of ``group.consumer.session.timeout.ms``, which no client can read."""


def require_partitions(settings: Settings, partitions: int) -> None:
    """Raise ``Stop`` where the positions topic has too few partitions for the shards."""
    count = settings.service.shard_count
    if partitions < count:
        raise Stop(
            f"K2_SHARD_COUNT={count}: topic {settings.positions_topic} has {partitions} partitions, each shard "
            f"needs one: K2_SHARD_COUNT={count} ingest topics"
        )


class Arrival:
    """An instance before it joins. An earlier start of it, which was killed, is a member until its session ends."""

    def __init__(self, settings: Settings, own: Member) -> None:
        self._group = settings.fleet_group
        self._own = own
        service = settings.service
        classic = service.fleet_group_protocol == "classic"
        self._patience = SAME_ID_SECONDS + (
            service.fleet_session_timeout_seconds if classic else BROKER_SESSION_SECONDS
        )
        self._since: float | None = None
        """When a member with this instance's id was first seen, since Kafka answers."""

    def interrupted(self) -> None:
        """Kafka did not answer: its coordinator may be a new one, which restarts the time-outs of all sessions."""
        self._since = None

    def may_join(self, view: View) -> bool:
        """Whether to join now; False: look again soon. Raises ``Stop`` where it must not join."""
        problem = contradiction(self._own, view.members, self._group)
        if problem is not None:
            raise Stop(problem)
        if view.strangers:
            raise Stop(
                f"group {self._group} has {view.strangers} members that are no instances of this service: "
                "set another K2_FLEET_GROUP"
            )
        other = of_same_id(self._own, view.members)
        if other is None:
            return True
        if self._since is None:
            self._since = view.at
            log.info(
                "a member with this instance's id is in group %s: waiting up to %.0f s for the end of its session",
                self._group, self._patience, extra={"instance": other.instance, "address": other.address},
            )  # fmt: skip
        if view.at - self._since > self._patience:
            raise Stop(f"{same_id_problem(other, self._group)}; it is there for longer than a killed instance would be")
        return False
