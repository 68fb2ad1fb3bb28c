"""``make kafka-release KAFKA=x.y.z``: kill a release right after a commit and look for lost markers (KAFKA-20734).

Each try starts a broker on an empty disk, commits one transaction, sends SIGKILL as soon as the commit returns, waits,
starts the broker again, and observes whether the last stable offset of every partition reaches its end. A partition
whose last stable offset stays behind has lost its marker: its readers are blocked for good.

``KAFKA`` selects the release (``K2_TEST_KAFKA_VERSION``), ``KILLS`` (9) the number of tries. Exit codes: 0 every marker
was written, 1 a marker was lost, 2 nothing could be tried.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from tests.harness.kafka import VERSION, KafkaBroker, KafkaUnavailable

TOPIC = "release"
PARTITIONS = 6
DOWN_SECONDS = 10.0
"""The broker stays away for longer than its session, so that its old registration is fenced when it comes back."""
WATCH_SECONDS = 20.0
"""How long the last stable offset may take to reach the end. A healthy broker needs less than one second."""
REQUEST_SECONDS = 5.0
SKIPPED = "these partitions are likely deleted already"
"""What a coordinator logs when it gives up the markers of a partition without a leader."""
MARKERS = ["org.apache.kafka.coordinator.transaction", "kafka.coordinator.transaction"]


class Attempt(msgspec.Struct, frozen=True):
    """What one kill led to."""

    stuck: dict[int, int]
    """Partition -> how many offsets its last stable offset is behind its end."""
    skipped: bool
    """Whether the coordinator logged that it skipped a partition."""


def behind(admin: AdminClient) -> dict[int, int]:
    """Partition -> distance of the last stable offset from the end. Raises ``KafkaException`` or ``TimeoutError``."""
    ends = _offsets(admin, IsolationLevel.READ_UNCOMMITTED)
    stable = _offsets(admin, IsolationLevel.READ_COMMITTED)
    return {partition: end - stable[partition] for partition, end in ends.items()}


def _offsets(admin: AdminClient, level: IsolationLevel) -> dict[int, int]:
    wanted = {TopicPartition(TOPIC, n): OffsetSpec.latest() for n in range(PARTITIONS)}  # type: ignore[no-untyped-call]
    answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_SECONDS)
    return {place.partition: future.result(REQUEST_SECONDS * 2).offset for place, future in answers.items()}


def attempt(directory: Path) -> Attempt:
    """One kill. Raises ``KafkaUnavailable``."""
    with KafkaBroker(directory, log_levels=dict.fromkeys(MARKERS, "INFO")) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        topic = NewTopic(TOPIC, PARTITIONS, 1)
        admin.create_topics([topic])[TOPIC].result(60)
        producer = Producer(
            {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "release", "log_level": 0}
        )
        producer.init_transactions(60)
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(TOPIC, b"record", partition=partition)
        producer.flush(60)
        producer.commit_transaction(60)
        broker.kill()
        del producer
        time.sleep(DOWN_SECONDS)
        broker.start()
        stuck = _settled(AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}))
        return Attempt(stuck, SKIPPED in broker.log.read_text(errors="replace"))


def _settled(admin: AdminClient) -> dict[int, int]:
    """The partitions that are still behind after ``WATCH_SECONDS``; returns early once none is."""
    deadline = time.monotonic() + WATCH_SECONDS
    while True:
        try:
            stuck = {partition: distance for partition, distance in behind(admin).items() if distance}
        except (KafkaException, TimeoutError):
            stuck = None
        if stuck == {}:
            return stuck
        if time.monotonic() > deadline:
            if stuck is None:
                raise KafkaUnavailable("the broker did not list its offsets after the restart")
            return stuck
        time.sleep(0.5)


def verdict(attempts: Sequence[Attempt]) -> int:
    """The exit code for what was observed."""
    if not attempts:
        return 2
    return 1 if any(one.stuck for one in attempts) else 0


def main() -> int:
    """Kill ``KILLS`` brokers; returns the exit code."""
    kills = int(os.environ.get("KILLS") or 9)
    found: list[Attempt] = []
    for number in range(1, kills + 1):
        with tempfile.TemporaryDirectory(prefix="k2-release-") as directory:
            try:
                one = attempt(Path(directory))
            except KafkaUnavailable as error:
                sys.stderr.write(f"Kafka {VERSION}, kill {number}: {error}\n")
                continue
        found.append(one)
        outcome = f"hung: {one.stuck}" if one.stuck else "all markers written"
        sys.stderr.write(f"Kafka {VERSION}, kill {number} of {kills}: {outcome}; markers skipped: {one.skipped}\n")
    summary = {
        "kafka": VERSION,
        "kills": len(found),
        "hung": sum(bool(one.stuck) for one in found),
        "skipped": sum(one.skipped for one in found),
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return verdict(found)


if __name__ == "__main__":
    sys.exit(main())
