"""Row 23: leaders, coordinators and controllers of three brokers are killed and restarted under the writer."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.campaigns.brokers.environment import START, BrokerEnvironment
from tests.campaigns.faults.rows import Played
from tests.harness.kafka import KafkaBroker, KafkaCluster

LIMIT = 5.0
"""Seconds without anything new for a consumer at most, on a machine with nothing else to do."""
SLOW_MACHINE = 5.0
AWAY = 2.0
"""So long a killed broker stays away at least: longer than it takes the others to notice."""
HANGING = 12.0
"""So long it was away when a single broker came back without a commit marker."""
STATE = "__transaction_state"
ASK = 5.0


def java_hash(text: str) -> int:
    """``String.hashCode`` of Java, which places a transactional id among the partitions of the coordinators' topic."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


class Trio:
    """Three brokers and who is what among them."""

    def __init__(self, directory: Path, *, heap: str = "256m", properties: Mapping[str, str] | None = None) -> None:
        self.cluster = KafkaCluster(
            directory,
            heap=heap,
            properties={
                "replica.lag.time.max.ms": "5000",  # a killed follower leaves the replicas that a commit waits for
                "controller.quorum.election.timeout.ms": "500",
                "controller.quorum.fetch.timeout.ms": "1500",
                **(properties or {}),
            },
        )
        self._admin: AdminClient | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return self.cluster.bootstrap_servers

    def admin(self) -> AdminClient:
        """A client that survives the loss of any broker."""
        if self._admin is None:
            self._admin = AdminClient(
                {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 500}
            )
        return self._admin

    def leader(self, topic: str, partition: int = 0, *, seconds: float = START) -> KafkaBroker:
        """Who leads a partition."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                found = self.admin().list_topics(topic, timeout=ASK).topics[topic].partitions
            except (KafkaException, KeyError):
                continue
            leader = found[partition].leader if partition in found else -1
            if leader > 0 and self.cluster.brokers[leader - 1].alive:
                return self.cluster.brokers[leader - 1]
            time.sleep(0.1)
        raise TimeoutError(f"partition {partition} of {topic} had no leader for {seconds:g} s")

    def coordinator(self, transactional_id: str) -> KafkaBroker:
        """Who coordinates the transactions of an id."""
        partitions = len(self.admin().list_topics(STATE, timeout=START).topics[STATE].partitions)
        return self.leader(STATE, (java_hash(transactional_id) & 0x7FFFFFFF) % partitions)

    def controller(self) -> KafkaBroker:
        """The active controller of the quorum."""
        told: Any = self.admin().describe_cluster(request_timeout=START).result(START)
        broker: KafkaBroker = self.cluster.brokers[told.controller.id - 1]
        return broker

    def in_sync(self, topics: Mapping[str, int], seconds: float = START) -> float:
        """Wait until every replica of topics (with their numbers of partitions) is in sync; returns the seconds."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                found = self.admin().list_topics(timeout=ASK).topics
            except KafkaException:
                continue
            if all(
                topic in found
                and len(found[topic].partitions) == number
                and all(len(one.isrs) == 3 and one.leader > 0 for one in found[topic].partitions.values())
                for topic, number in topics.items()
            ):
                return time.monotonic() - began
            time.sleep(0.2)
        raise TimeoutError(f"not every replica was in sync within {seconds:g} s")

    def __enter__(self) -> "Trio":
        self.cluster.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.__exit__(None, None, None)


class ClusterFaults:
    """A service writing to the trio, and the blows."""

    def __init__(self, trio: Trio, site: BrokerEnvironment) -> None:
        self.trio, self.site = trio, site
        topic = site.stack.topic
        self._topics = {topic: 2, f"{topic}.positions": 1, STATE: 3}
        self.transactional_id = f"k2-ingest-{topic}-0"

    def whole(self) -> None:
        """Wait until three brokers are in sync and records flow: a second loss at once would stop any such cluster."""
        self.trio.in_sync(self._topics)
        self.site.flowing(START)

    def strike(self, victim: KafkaBroker, blow: Callable[[KafkaBroker], None]) -> float:
        """Do it to a broker; returns the longest pause that a consumer saw in any partition until all is well again."""
        self.site.consumer.forget_gaps()
        blow(victim)
        self.site.flowing(START)
        self.whole()
        return self.site.consumer.longest_partition_gap()


def kill(victim: KafkaBroker, away: float = AWAY) -> None:
    """SIGKILL, and started again a little later."""
    victim.kill()
    time.sleep(away)
    victim.start(wait=False)
    victim.wait_ready(START)


def killed(stage: ClusterFaults, find: Callable[[], KafkaBroker], times: int) -> Played:
    """Find whom to kill, kill, wait until all three are in sync; as often as told."""
    played = Played()
    for _ in range(times):
        played.recoveries.append(stage.strike(find(), kill))
    return played


def rolled(stage: ClusterFaults, times: int) -> Played:
    """A rolling restart: each broker is stopped properly and started again, one after the other."""
    played = Played()
    for _ in range(times):
        for broker in stage.trio.cluster.brokers:
            played.recoveries.append(stage.strike(broker, KafkaBroker.restart))
    return played


def hanging(stage: ClusterFaults, times: int) -> Played:
    """What leaves a hanging transaction on a single broker: killed right after a commit, back twelve seconds later."""
    played = Played()
    for number in range(times):
        trio = stage.trio
        victim = trio.coordinator(stage.transactional_id) if number % 2 else trio.leader(stage.site.stack.topic)

        def blow(broker: KafkaBroker) -> None:
            if not stage.site.consumer.wait_each(START, partitions=1):
                raise TimeoutError("nothing was committed")
            kill(broker, HANGING)

        played.recoveries.append(stage.strike(victim, blow))
    return played


def judge(played: Played, limit: float = LIMIT) -> Played:
    """Compare the pauses with the table's criterion, with patience for a slow machine."""
    slowest = max(played.recoveries, default=0.0)
    if slowest > limit * SLOW_MACHINE:
        played.problems.append(f"a consumer saw nothing new for {slowest:.1f} s; {limit:g} s are allowed")
    return played
