"""What the topics must be like: the policies they are created with, and which others lose data. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from ingest.kafka.client import BATCH_BYTES
from ingest.settings import Settings

Role = Literal["trades", "records", "positions", "dead letters", "voids"]

DAY_MS = 24 * 3600 * 1000
RETENTION_MS = 7 * DAY_MS
FOREVER_MS = -1
TIMESTAMP_MS = 60_000
"""Least tolerance of a topic for the producer's clock."""
DURABLE_REPLICAS = 3
MESSAGE_BYTES = 1_048_588
"""Kafka's own default of max.message.bytes."""
_UNITS = {"d": DAY_MS, "h": 3_600_000, "m": 60_000}
EVIDENCE: tuple[Role, ...] = ("dead letters", "voids")
"""Topics without which trades and positions are complete: what is wrong with them is reported, never refused."""
RECORDS: tuple[Role, ...] = ("trades", "records")
_OR_HIDDEN = ", or its ACL hides it"
_ALTER = "`ingest topics --alter` sets it"


class Topic(msgspec.Struct, frozen=True):
    """One of the topics that this service writes to."""

    name: str
    role: Role


class Found(msgspec.Struct, frozen=True):
    """A topic as the broker describes it."""

    topic_id: str
    partitions: int
    replicas: int
    """The least number of any partition."""
    configs: Mapping[str, str] | None
    """None if they may not be read."""


class Problem(msgspec.Struct, frozen=True):
    """A property of a topic that loses data, or that makes the topic useless."""

    topic: str
    policy: str
    """The name of the property: a label of the metric."""
    text: str
    """What is wrong, and which command corrects it."""
    refused: bool = True
    """Whether the service must not write; otherwise the problem is only reported."""
    loses_data: bool = False
    """Whether data is lost already, though the service must go on writing."""


class Expected(msgspec.Struct, frozen=True):
    """What the topics are compared with."""

    shards: int
    retention_ms: int
    """How long the trades must be kept at least."""
    partitions: int | None = None
    """Of the trades topic; None while not known."""
    topic_ids: Mapping[str, str] = {}
    """Topic -> id when it was first seen."""


def topics(settings: Settings) -> tuple[Topic, ...]:
    """The topics that this service writes to; ``records`` are those of the streams besides the trades."""
    return (
        Topic(settings.kafka.topic, "trades"),
        Topic(settings.positions_topic, "positions"),
        Topic(settings.dead_letter_topic, "dead letters"),
        Topic(settings.voids_topic, "voids"),
        *(Topic(name, "records") for name in dict.fromkeys(settings.stream_topics.values())),
    )


def policies(role: Role, *, replicas: int, retention_ms: int) -> dict[str, str]:
    """The policies a topic is created with: all that matter, so that no default of the broker decides."""
    common = {
        "min.insync.replicas": "2" if replicas >= DURABLE_REPLICAS else "1",
        "unclean.leader.election.enable": "false",
        # The broker's clock: a writer whose own clock is wrong is not refused, and retention counts from the write.
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "producer",
    }
    if role == "positions":
        return common | {
            "cleanup.policy": "compact",
            # One heartbeat a second: small segments and an eager cleaner keep the start of a service quick.
            "segment.bytes": str(16 * 1024 * 1024),
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": "60000",
        }
    if role == "voids":
        return common | {"cleanup.policy": "compact"}
    kept = retention_ms if role in RECORDS else RETENTION_MS
    return common | {"cleanup.policy": "delete", "retention.ms": str(kept), "retention.bytes": "-1"}


def problems(wanted: Sequence[Topic], found: Mapping[str, Found], expected: Expected) -> list[Problem]:
    """Everything that is wrong with the topics."""
    result = [
        Problem(
            topic.name, "missing", f"topic {topic.name} does not exist{_OR_HIDDEN if topic.role == 'voids' else ''}: "
            "create the topics with `ingest topics`",
            refused=topic.role != "voids",  # older versions had none, and a service that is updated goes on
        )
        for topic in wanted
        if topic.name not in found
    ]  # fmt: skip
    for topic in wanted:
        if topic.name in found:
            result += _problems(topic, found[topic.name], expected)
    return result


def _problems(topic: Topic, found: Found, expected: Expected) -> Iterator[Problem]:
    yield from _identity(topic, found, expected)
    yield from _partitions(topic, found, expected)
    if found.configs is None:
        yield Problem(
            topic.name,
            "unreadable",
            f"the policies of topic {topic.name} cannot be checked: grant DescribeConfigs on it",
            refused=False,
        )
        return
    yield from _cleanup(topic, found.configs)
    yield from _durability(topic, found, found.configs)
    yield from _sizes(topic, found.configs)
    yield from _timestamps(topic, found.configs)
    if topic.role in RECORDS:
        yield from _retention(topic, found.configs, expected)


def _identity(topic: Topic, found: Found, expected: Expected) -> Iterator[Problem]:
    before = expected.topic_ids.get(topic.name)
    if before is not None and before != found.topic_id:
        advice = "; check the positions with `ingest positions rebuild`" if topic.role not in EVIDENCE else ""
        yield Problem(
            topic.name, "recreated", f"topic {topic.name} was deleted and created again: its records are gone{advice}",
            refused=False, loses_data=True,
        )  # fmt: skip


def _partitions(topic: Topic, found: Found, expected: Expected) -> Iterator[Problem]:
    if topic.role == "positions" and found.partitions < expected.shards:
        yield Problem(
            topic.name, "partitions",
            f"topic {topic.name} has {found.partitions} partitions, but K2_SHARD_COUNT is {expected.shards}: one "
            "for each shard is needed; "
            f"`kafka-topics --alter --topic {topic.name} --partitions {expected.shards}` adds them",
        )  # fmt: skip
    if topic.role == "trades" and expected.partitions is not None and found.partitions != expected.partitions:
        yield Problem(
            topic.name, "partitions",
            other_partitions(topic.name, found.partitions, expected.partitions),
        )  # fmt: skip


def other_partitions(topic: str, found: int, before: int) -> str:
    """What to say where a trades topic has another number of partitions than its records were written to."""
    return (
        f"topic {topic} has {found} partitions, its records were written to {before}: a symbol's further trades would "
        "be in another partition than its earlier ones, without an order between them. Use a new topic, or accept it "
        f"with K2_KAFKA_PARTITIONS={found}"
    )


def _cleanup(topic: Topic, configs: Mapping[str, str]) -> Iterator[Problem]:
    wanted = "compact" if topic.role in ("positions", "voids") else "delete"
    present = ",".join(sorted(part.strip() for part in configs.get("cleanup.policy", wanted).split(",")))
    if present == wanted:
        return
    loss = {
        "trades": "compaction keeps only the last trade of each symbol",
        "records": "compaction keeps only the last record of each symbol",
        "positions": "the position of a quiet symbol is deleted, and the symbol cannot be continued",
        "dead letters": "a compacted topic refuses records without a key",
        "voids": "old voids are deleted, which stay recorded in the positions topic only",
    }[topic.role]
    yield Problem(
        topic.name, "cleanup.policy", f"topic {topic.name} has cleanup.policy={present}: {loss}; {_ALTER} to {wanted}",
        refused=topic.role not in EVIDENCE,
    )  # fmt: skip


def _durability(topic: Topic, found: Found, configs: Mapping[str, str]) -> Iterator[Problem]:
    evidence = topic.role in EVIDENCE
    if configs.get("unclean.leader.election.enable") == "true":
        yield Problem(
            topic.name, "unclean.leader.election.enable",
            f"topic {topic.name} has unclean.leader.election.enable=true: "
            f"a fail-over may lose committed records; {_ALTER}",
            refused=not evidence,
        )  # fmt: skip
    insync = _number(configs, "min.insync.replicas", 1)
    if insync > found.replicas or (found.replicas >= DURABLE_REPLICAS and insync < 2):
        yield Problem(
            topic.name, "min.insync.replicas",
            f"topic {topic.name} has min.insync.replicas={insync} with {found.replicas} replicas: "
            + ("nothing can be written" if insync > found.replicas else "a lost broker may lose committed records")
            + f"; {_ALTER}",
            refused=not evidence,
        )  # fmt: skip


def _sizes(topic: Topic, configs: Mapping[str, str]) -> Iterator[Problem]:
    size = _number(configs, "max.message.bytes", MESSAGE_BYTES)
    if size < BATCH_BYTES:
        yield Problem(
            topic.name, "max.message.bytes",
            f"topic {topic.name} has max.message.bytes={size}, less than a batch of {BATCH_BYTES} bytes: batches "
            f"become smaller, and a record that does not fit stops the writer; {_ALTER} to {MESSAGE_BYTES}",
            refused=False,
        )  # fmt: skip


def _timestamps(topic: Topic, configs: Mapping[str, str]) -> Iterator[Problem]:
    if configs.get("message.timestamp.type") == "LogAppendTime":
        return
    for key in ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms"):
        tolerance = _number(configs, key, 2**63 - 1)
        if tolerance < TIMESTAMP_MS:
            yield Problem(
                topic.name, key,
                f"topic {topic.name} has {key}={tolerance}: records of a slightly wrong clock are refused; "
                "`ingest topics --alter` sets message.timestamp.type=LogAppendTime",
                refused=False,
            )  # fmt: skip


def _retention(topic: Topic, configs: Mapping[str, str], expected: Expected) -> Iterator[Problem]:
    kept = _number(configs, "retention.ms", FOREVER_MS)
    if 0 <= kept < expected.retention_ms:
        yield Problem(
            topic.name, "retention.ms",
            f"topic {topic.name} keeps records for {kept / 3_600_000:g} h (retention.ms), less than "
            f"K2_KAFKA_MINIMUM_RETENTION_HOURS={expected.retention_ms / 3_600_000:g}; "
            "`ingest topics --alter --retention 7d` sets it",
        )  # fmt: skip
    size = _number(configs, "retention.bytes", -1)
    if size >= 0:
        yield Problem(
            topic.name, "retention.bytes",
            f"topic {topic.name} has retention.bytes={size}: "
            f"how long records are kept depends on the market; {_ALTER} to -1",
            refused=False,
        )  # fmt: skip


def corrections(topic: Topic, found: Found, *, retention_ms: int | None) -> dict[str, str]:
    """What ``ingest topics --alter`` sets. What is kept is for the operator to say, as are sizes that suffice."""
    present = found.configs or {}
    wanted = policies(topic.role, replicas=found.replicas, retention_ms=retention_ms or RETENTION_MS)
    if retention_ms is None and topic.role in RECORDS:
        del wanted["retention.ms"]
    if any(_sizes(topic, present)):
        wanted["max.message.bytes"] = str(MESSAGE_BYTES)
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _number(configs: Mapping[str, str], key: str, otherwise: int) -> int:
    try:
        return int(configs.get(key, otherwise))
    except ValueError:
        return otherwise


def duration_ms(text: str) -> int:
    """A duration as on the command line (``30d``, ``12h``, ``90m``, ``forever``) in ms. Raises ``ValueError``."""
    if text == "forever":
        return FOREVER_MS
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or not 0 < int(number) <= 36_500 * 24 * 60:
        raise ValueError(f"{text!r}: allowed is a number with d, h or m (30d), or forever")
    return int(number) * _UNITS[unit]
