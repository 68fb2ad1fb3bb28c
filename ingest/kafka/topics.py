"""The three topics: created by ``ingest topics``, checked before the service writes."""

import argparse
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ingest.core.backoff import full_jitter
from ingest.core.errors import Retry, Stop
from ingest.kafka import client
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import refused
from ingest.settings import Settings

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
STEP_SECONDS = 0.5
SETTLE_SECONDS = 5.0
EPILOG = """\
exit codes: 0 all are there, 2 bad settings, 3 Kafka refuses, 75 Kafka does not answer

examples:
  ingest topics                              three copies, on a cluster of three brokers or more
  ingest topics --replication-factor 1       a single broker
  K2_SHARD_COUNT=4 ingest topics --json      a partition of positions for each of four shards
"""
WEEK_MS = str(7 * 24 * 3600 * 1000)


def wanted(settings: Settings, *, partitions: int, replication_factor: int) -> list[NewTopic]:
    """The topics as they should be."""
    durable = {"min.insync.replicas": "2"} if replication_factor >= 3 else {}
    positions = {
        "cleanup.policy": "compact",
        # One heartbeat a second: small segments and an eager cleaner keep the start of a service quick.
        "segment.bytes": str(16 * 1024 * 1024),
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": "60000",
    }
    replicas = replication_factor
    return [
        NewTopic(settings.kafka.topic, partitions, replicas, config={**durable, "compression.type": "producer"}),
        NewTopic(settings.positions_topic, settings.service.shard_count, replicas, config={**durable, **positions}),
        NewTopic(settings.dead_letter_topic, 1, replicas, config={**durable, "retention.ms": WEEK_MS}),
    ]


def _admin(settings: Settings, on_error: Callable[[KafkaError], None] = lambda _: None) -> AdminClient:
    config: dict[str, Any] = {**client.common(settings, "admin"), "error_cb": on_error}
    return AdminClient(config)


def _problem(error: KafkaError, doing: str) -> Exception:
    access = refused(error)
    if access is not None:
        return access
    if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
        return Retry(f"{doing}: {error.str()}")
    return Stop(f"{doing}: {error.name()}: {error.str()}")


def create(settings: Settings, *, partitions: int, replication_factor: int) -> list[tuple[str, str]]:
    """Create what is missing; returns (topic, outcome). Raises ``Retry`` (broker away) or ``Stop``."""
    where = settings.kafka.bootstrap_servers
    outcomes = []
    topics = wanted(settings, partitions=partitions, replication_factor=replication_factor)
    admin = _admin(settings)  # kept until the answers are here
    for topic, future in admin.create_topics(topics, operation_timeout=REQUEST_SECONDS).items():
        try:
            future.result(REQUEST_SECONDS * 2)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _problem(error.args[0], f"creating topic {topic}") from error
            outcomes.append((topic, "exists"))
        except TimeoutError as error:
            waited = REQUEST_SECONDS * 2
            raise Retry(f"no answer from Kafka at {where} for {waited:g} s: see K2_KAFKA_BOOTSTRAP_SERVERS") from error
        else:
            outcomes.append((topic, "created"))
    return outcomes


def _listed(settings: Settings, seconds: float) -> dict[str, Any]:
    """Ask in short steps: whose credentials are refused would else try them again all the time."""
    errors: list[KafkaError] = []
    admin = _admin(settings, errors.append)
    deadline = time.monotonic() + seconds
    while True:
        try:
            topics: dict[str, Any] = admin.list_topics(timeout=min(seconds, STEP_SECONDS)).topics
        except KafkaException as error:
            admin.poll(0)
            doing = f"asking {settings.kafka.bootstrap_servers} for the topics"
            access = next((again for again in map(refused, errors) if again is not None), None)
            if access is not None:
                raise access from error
            if time.monotonic() >= deadline:
                raise _problem(error.args[0], doing) from error
        else:
            return topics


def verify(settings: Settings, *, seconds: float = REQUEST_SECONDS) -> None:
    """Check that the topics exist with enough partitions. Raises ``Stop`` (they do not) or ``Retry`` (cannot tell)."""
    found = _listed(settings, seconds)
    names = (settings.kafka.topic, settings.positions_topic, settings.dead_letter_topic)
    missing = [name for name in names if name not in found]
    if missing:
        raise Stop(f"topics are missing: {', '.join(missing)}; create them with `ingest topics`")
    partitions = len(found[settings.positions_topic].partitions)
    if partitions < settings.service.shard_count:
        raise Stop(
            f"topic {settings.positions_topic} has {partitions} partitions, but K2_SHARD_COUNT is "
            f"{settings.service.shard_count}: one for each shard is needed"
        )


def verify_settled(settings: Settings, *, seconds: float = SETTLE_SECONDS) -> None:
    """``verify``, given so long: a topic that was created a moment ago is not known to every broker at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            verify(settings)
        except Stop:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.25)
        else:
            return


class TopicCheck(threading.Thread):
    """Checks the topics once, waiting for a broker that is away; ``on_error`` is told on this thread what is wrong.

    Nothing waits for it: a start is not held up by what is almost always right.
    """

    def __init__(self, settings: Settings, on_error: Callable[[Stop], None], access: AuthBackoff | None = None) -> None:
        super().__init__(name="topic-check", daemon=True)
        self._settings = settings
        self._on_error = on_error
        self._access = access or AuthBackoff(settings)
        self._closing = threading.Event()

    def run(self) -> None:
        """Check until it is known."""
        pauses = full_jitter(initial=0.25, maximum=5.0, uniform=random.uniform)
        while not self._closing.is_set():
            self._access.wait(self._closing)
            try:
                verify_settled(self._settings)
            except Retry as error:
                self._access.refused(error)
                pause = max(error.after, 0.1 + next(pauses))
                log.warning("%s; next try in %.1f s", error, pause)
                self._closing.wait(pause)
            except Stop as error:
                self._on_error(error)
                return
            else:
                return

    def close(self) -> None:
        """Ask it to end; a question under way ends by itself."""
        self._closing.set()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ingest topics``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--partitions", type=int, default=6, metavar="N", help="of the trades topic (default 6)")
    parser.add_argument(
        "--replication-factor", type=int, default=3, metavar="N", help="copies of each partition (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: topic -> created or exists")


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Create the topics that are missing and check the rest; returns the exit code."""
    if arguments.partitions < 1 or arguments.replication_factor < 1:
        raise Stop("--partitions and --replication-factor: allowed is a whole number, at least 1")
    sys.stderr.write(f"asking Kafka at {settings.kafka.bootstrap_servers}\n")
    sys.stderr.flush()
    outcomes = create(settings, partitions=arguments.partitions, replication_factor=arguments.replication_factor)
    if arguments.json:
        sys.stdout.write(json.dumps(dict(outcomes), indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{outcome}  {topic}\n" for topic, outcome in outcomes))
    verify_settled(settings)
    return 0
