"""The topics: created and altered by ``ingest topics``, described for every check of their policies."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    TopicDescription,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from ingest.command import arguments as kinds
from ingest.command import terminal
from ingest.core.errors import Retry, Stop
from ingest.kafka import client
from ingest.kafka.admin_answers import answered
from ingest.kafka.deleted_records import Offsets, cutoff_ms, retention_of
from ingest.kafka.errors import refused
from ingest.kafka.topic_policy import (
    RETENTION_MS,
    Expected,
    Found,
    Topic,
    corrections,
    duration_ms,
    policies,
    problems,
    topics,
)
from ingest.settings import Settings

EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
REQUEST_SECONDS = 10.0
STEP_SECONDS = 0.5
SETTLE_SECONDS = 5.0
MOST_PARTITIONS, MOST_REPLICAS = 100_000, 10_000
"""What librdkafka accepts for a topic."""
EPILOG = """\
exit codes: 0 all are as they should be, 2 bad options or settings, 3 Kafka or a policy refuses,
75 Kafka does not answer

examples:
  ingest topics                              three copies, on a cluster of three brokers or more
  ingest topics --replication-factor 1       a single broker
  ingest topics --retention 30d              keep the trades for 30 days
  ingest topics --alter --retention 30d      correct the policies of topics that exist
  K2_SHARD_COUNT=4 ingest topics --json      a partition of positions for each of four shards
"""
_T = TypeVar("_T")


def _new_topic(settings: Settings, topic: Topic, *, partitions: int, replicas: int, retention_ms: int) -> NewTopic:
    number = {"trades": partitions, "records": partitions, "positions": settings.service.shard_count}.get(topic.role, 1)
    wanted = policies(topic.role, replicas=replicas, retention_ms=retention_ms)
    return NewTopic(topic.name, number, replicas, config=wanted)


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


def create(
    settings: Settings, *, partitions: int, replication_factor: int, retention_ms: int = RETENTION_MS
) -> list[tuple[str, str]]:
    """Create what is missing; returns (topic, outcome). Raises ``Retry`` (broker unreachable) or ``Stop``."""
    where = settings.kafka.bootstrap_servers
    outcomes = []
    new = [
        _new_topic(settings, topic, partitions=partitions, replicas=replication_factor, retention_ms=retention_ms)
        for topic in topics(settings)
    ]
    admin = _admin(settings)  # kept until the answers are here
    for topic, future in admin.create_topics(new, operation_timeout=REQUEST_SECONDS).items():
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


def add_partitions(settings: Settings, topic: str, number: int) -> None:
    """Let a topic have so many partitions. Raises ``Retry`` or ``Stop``."""
    admin = _admin(settings)  # kept until the answer is here
    future = admin.create_partitions([NewPartitions(topic, number)], operation_timeout=REQUEST_SECONDS)[topic]
    try:
        future.result(REQUEST_SECONDS * 2)
    except KafkaException as error:
        raise _problem(error.args[0], f"adding partitions to {topic}") from error
    except TimeoutError as error:
        raise Retry(f"no answer from Kafka at {settings.kafka.bootstrap_servers}") from error


class TopicDescriber:
    """Asks the broker about topics, in short steps: a client with refused credentials would retry them all the time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._errors: list[KafkaError] = []
        self._admin = _admin(settings, self._errors.append)

    def describe(self, wanted: tuple[Topic, ...], seconds: float = REQUEST_SECONDS) -> dict[str, Found]:
        """Return those topics that exist. Asking creates none. Raises ``Retry`` or ``Stop``."""
        deadline = time.monotonic() + seconds
        optional = {topic.name for topic in wanted if topic.role == "voids"}
        names = [topic.name for topic in wanted]
        answers = self._admin.describe_topics(TopicCollection(names), request_timeout=seconds)
        found: dict[str, TopicDescription] = {}
        for name, future in answers.items():
            # Older versions had no topic of voids, and no ACL for it: that must not end the check of the others.
            description = self._result(future, deadline, f"describing topic {name}", denied=name in optional)
            if description is not None:
                found[name] = description
        resources = {ConfigResource(ConfigResource.Type.TOPIC, name): name for name in found}
        configs: dict[str, dict[str, str] | None] = {}
        if resources:
            for resource, entries in self._admin.describe_configs(list(resources), request_timeout=seconds).items():
                configs[resource.name] = self._configs(entries, deadline, resource.name)
        return {name: _found(description, configs.get(name)) for name, description in found.items()}

    def offsets(
        self, found: Mapping[str, Found], now_ms: int, seconds: float = REQUEST_SECONDS
    ) -> dict[tuple[str, int], Offsets]:
        """Where the partitions begin and end, and what their retention must keep. Raises ``Retry`` or ``Stop``."""
        deadline = time.monotonic() + seconds
        kept = {name: retention for name, one in found.items() if (retention := retention_of(one)) is not None}
        places = {(name, number) for name, one in found.items() for number in range(one.partitions)}
        starts = self._list_offsets(dict.fromkeys(places, EARLIEST), deadline)
        ends = self._list_offsets(dict.fromkeys(places, LATEST), deadline)
        due = {place: cutoff_ms(kept[place[0]], now_ms) for place in places if place[0] in kept}
        times = {place: OffsetSpec.for_timestamp(time_ms) for place, time_ms in due.items() if 0 < time_ms <= now_ms}
        since = self._list_offsets(times, deadline)
        result = {}
        for place in places & starts.keys() & ends.keys():
            end = ends[place]
            first = starts[place] if due.get(place) == 0 else since.get(place, -1)
            result[place] = Offsets(starts[place], first if first >= 0 else end, end)
        return result

    def _list_offsets(self, wanted: Mapping[tuple[str, int], Any], deadline: float) -> dict[tuple[str, int], int]:
        if not wanted:
            return {}
        asked = {TopicPartition(*place): spec for place, spec in wanted.items()}
        answers = self._admin.list_offsets(asked, request_timeout=REQUEST_SECONDS)
        found = {}
        for place, future in answers.items():
            answer = self._result(future, deadline, f"offsets of {place.topic}", denied=True)
            if answer is not None:
                found[place.topic, place.partition] = int(answer.offset)
        return found

    def _configs(self, future: "Future[Any]", deadline: float, name: str) -> dict[str, str] | None:
        try:
            entries = self._result(future, deadline, f"reading the policies of {name}", denied=True)
        except Stop:
            return None
        return None if entries is None else {key: str(entry.value) for key, entry in entries.items()}

    def _result(self, future: "Future[_T]", deadline: float, doing: str, *, denied: bool = False) -> _T | None:
        """The answer; None for a topic that does not exist, or one that may not be read if ``denied`` allows that."""
        while True:
            try:
                return answered(future, STEP_SECONDS)
            except (FutureTimeout, TimeoutError) as error:
                self._raise_refused()
                if time.monotonic() >= deadline:
                    raise Retry(f"{doing}: no answer from {self._settings.kafka.bootstrap_servers}") from error
            except KafkaException as error:
                self._raise_refused()
                problem = error.args[0]
                if problem.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    return None
                if denied and problem.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    return None
                raise _problem(problem, doing) from error

    def _raise_refused(self) -> None:
        self._admin.poll(0)
        access = next((again for again in map(refused, self._errors) if again is not None), None)
        self._errors.clear()
        if access is not None:
            raise access

    def alter(self, name: str, changes: Mapping[str, str]) -> None:
        """Set policies of a topic. Raises ``Retry`` or ``Stop``."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in changes.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        future = self._admin.incremental_alter_configs([resource], request_timeout=REQUEST_SECONDS)[resource]
        self._result(future, time.monotonic() + REQUEST_SECONDS, f"altering topic {name}")


def _found(description: TopicDescription, configs: dict[str, str] | None) -> Found:
    replicas = min((len(partition.replicas) for partition in description.partitions), default=0)
    return Found(str(description.topic_id), len(description.partitions), replicas, configs)


def expected(settings: Settings) -> Expected:
    """What the settings demand of the topics."""
    return Expected(
        shards=settings.service.shard_count,
        retention_ms=int(settings.kafka.minimum_retention_hours * 3_600_000),
        partitions=settings.kafka.partitions,
    )


def verify(settings: Settings, describer: TopicDescriber | None = None) -> dict[str, Found]:
    """Check the topics and their policies; returns them. Raises ``Stop`` (refused) or ``Retry`` (cannot tell)."""
    wanted = topics(settings)
    found = (describer or TopicDescriber(settings)).describe(wanted)
    refusals = [problem.text for problem in problems(wanted, found, expected(settings)) if problem.refused]
    if refusals:
        raise Stop("; ".join(refusals))
    return found


def verify_settled(
    settings: Settings, describer: TopicDescriber | None = None, *, seconds: float = SETTLE_SECONDS
) -> dict[str, Found]:
    """``verify``, retried for a while: a topic that was created a moment ago is not known to every broker at once."""
    deadline = time.monotonic() + seconds
    describer = describer or TopicDescriber(settings)
    while True:
        try:
            return verify(settings, describer)
        except Stop:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.25)


def alter(settings: Settings, retention_ms: int | None) -> list[tuple[str, str]]:
    """Correct the policies of topics that exist; returns (topic, what was set). Raises ``Retry`` or ``Stop``."""
    describer = TopicDescriber(settings)
    outcomes = []
    for topic in topics(settings):
        found = describer.describe((topic,)).get(topic.name)
        if found is None or found.configs is None:
            continue
        changes = corrections(topic, found, retention_ms=retention_ms)
        if changes:
            describer.alter(topic.name, changes)
            outcomes.append((topic.name, "altered: " + ", ".join(f"{key}={value}" for key, value in changes.items())))
    return outcomes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ingest topics``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--partitions", type=kinds.whole(1, MOST_PARTITIONS), default=6, metavar="N",
        help="of the trades topic (default 6)",
    )  # fmt: skip
    parser.add_argument(
        "--replication-factor", type=kinds.whole(1, MOST_REPLICAS), default=3, metavar="N",
        help="copies of each partition (default 3)",
    )  # fmt: skip
    parser.add_argument(
        "--retention", type=_retention, metavar="TIME", dest="retention_ms",
        help="how long trades are kept: 30d, 12h, forever (default 7d)",
    )  # fmt: skip
    parser.add_argument("--alter", action="store_true", help="correct the policies of topics that exist")
    parser.add_argument("--json", action="store_true", help="one JSON object: topic -> created or exists")


def _retention(text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Create the topics that are missing and check the rest; returns the exit code."""
    terminal.write(f"asking Kafka at {settings.kafka.bootstrap_servers}\n", sys.stderr)
    outcomes = create(
        settings, partitions=arguments.partitions, replication_factor=arguments.replication_factor,
        retention_ms=arguments.retention_ms or RETENTION_MS,
    )  # fmt: skip
    if arguments.alter:
        outcomes = [*dict([*outcomes, *alter(settings, arguments.retention_ms)]).items()]
    if arguments.json:
        terminal.write(json.dumps(dict(outcomes), indent=2) + "\n")
    else:
        terminal.write("".join(f"{outcome}  {topic}\n" for topic, outcome in outcomes))
    verify_settled(settings)
    return 0
