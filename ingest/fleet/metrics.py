"""Series of a supervisor. Those of its children are targets of their own: ``/shards/<n>/metrics``."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.process_collector import ProcessCollector


class FleetMetrics:
    """All series of one supervisor, on a registry of its own."""

    def __init__(self, fleet: str = "", *, process: bool = True) -> None:
        """``fleet``: the group's name, label of what is compared between instances."""
        self.registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
        self.build = Info("ingest_fleet_build", "Version and revision.", registry=self.registry)
        self.shards = self._gauge("ingest_fleet_shards", "Shards that must be written.", ("fleet",)).labels(fleet)
        self.members = self._gauge("ingest_fleet_members", "Instances in the group, by the latest description of it.")
        self.ready = self._gauge(
            "ingest_fleet_ready", "1 while every shard that the group gives to this instance is written here."
        )
        self.view_age = self._gauge(
            "ingest_fleet_view_age_seconds", "Age of the latest description of the group, NaN before the first."
        )
        self.view_age.set(math.nan)
        self.assigned = self._gauge(
            "ingest_fleet_shard_assigned", "1 while the group gives the shard to this instance.", ("shard",)
        )
        self.child_up = self._gauge("ingest_fleet_child_up", "1 while a child of the shard runs here.", ("shard",))
        self.writing = self._gauge(
            "ingest_fleet_shard_writing",
            "1 while the child writes the shard and has committed within K2_READY_MAX_COMMIT_AGE_SECONDS.",
            ("fleet", "shard"),
        )
        self.starts = Counter(
            "ingest_fleet_child_starts_total", "Children started.", ("shard",), registry=self.registry
        )
        self.promotions = Counter(
            "ingest_fleet_promotions_total", "Promotions sent to children.", registry=self.registry
        )
        self.sessions_lost = self._gauge("ingest_fleet_sessions_lost", "Sessions with the group that were lost.")
        self.attempts_share = self._gauge(
            "ingest_fleet_attempts_share", "Part of the address's connection attempts that this instance may use."
        )

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
