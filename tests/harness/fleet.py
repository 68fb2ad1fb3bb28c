"""Instances that get their shards from Kafka: who writes, and what the positions topic says of every writer."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingest.binance.symbols import shard_of
from tests.harness.stack import Stack

Status = Mapping[str, Any]


def fleet_settings(shards: int, **more: str) -> dict[str, str]:
    """Settings of every instance."""
    return {
        "K2_SHARD_INDEX": "auto",
        "K2_SHARD_COUNT": str(shards),
        "K2_CONTROL_PORT": "",
        "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES": "300",
        "K2_FLEET_ADDRESS": "one",
        **more,
    }


class Fleet:
    """The instances of a stack."""

    def __init__(self, stack: Stack, shards: int) -> None:
        self.stack = stack
        self.shards = shards

    def statuses(self) -> dict[str, Status]:
        """What each instance that answers says."""
        found: dict[str, Status] = {}
        for name, service in self.stack.services.items():
            try:
                if service.alive:
                    found[name] = service.status()
            except (OSError, ValueError, KeyError):
                continue
        return found

    def writers(self) -> dict[int, list[str]]:
        """Shard -> instances whose child writes it, by their own word."""
        writers: dict[int, list[str]] = defaultdict(list)
        for name, status in self.statuses().items():
            for shard, entry in status.get("shards", {}).items():
                if entry["role"] == "active" and (entry["commit_age_seconds"] or 0.0) < 3.0:
                    writers[int(shard)].append(name)
        return writers

    def written_by(self, *names: str) -> bool:
        """Whether every shard has one writer, and the writers are these instances, each with a shard at least."""
        writers = self.writers()
        if len(writers) < self.shards or any(len(one) != 1 for one in writers.values()):
            return False
        holders = {one[0] for one in writers.values()}
        return holders == set(names) if len(names) <= self.shards else holders <= set(names)

    def written_where_assigned(self) -> bool:
        """Whether every shard is written by the instance that the group gives it to, and no move is under way."""
        entries = [entry for status in self.statuses().values() for entry in status.get("shards", {}).values()]
        owned = [entry for entry in entries if entry["assigned"]]
        return len(owned) == self.shards and all(entry["role"] == "active" for entry in owned)

    def committed(self) -> dict[str, int]:
        """Symbol -> last committed id, by the children's word."""
        found: dict[str, int] = {}
        for name, status in self.statuses().items():
            for shard, entry in status.get("shards", {}).items():
                if entry["role"] is None:
                    continue
                for symbol, last in _positions(self.stack.services[name].url, shard).items():
                    found[symbol] = max(last, found.get(symbol, -1))
        return found

    def caught_up(self) -> bool:
        """Whether everything that the exchange has made is in Kafka."""
        committed = self.committed()
        heads = {symbol: entry["last_id"] for symbol, entry in self.stack.simulator.state()["symbols"].items()}
        return all(committed.get(symbol, -1) >= head for symbol, head in heads.items())


def _positions(url: str, shard: str) -> dict[str, int]:
    from tests.harness.processes import http_json

    try:
        symbols = http_json(f"{url}/shards/{shard}/status", timeout=5.0)["symbols"]
    except (OSError, ValueError, KeyError):
        return {}
    return {symbol: entry["last_id"] for symbol, entry in symbols.items() if entry["last_id"] is not None}


@dataclass(frozen=True)
class Written:
    """One committed transaction of a writer, as the positions topic has it."""

    at: float
    """By the broker's clock, or the producer's, seconds."""
    generation: int
    instance: str
    sequence: int


@dataclass
class WriterLog(threading.Thread):
    """Follows the positions topic: every writer record of every shard, in the order of the log, committed only."""

    bootstrap_servers: str
    topic: str
    shards: int
    records: dict[int, list[Written]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        threading.Thread.__init__(self, name="writer log", daemon=True)
        self._closing = threading.Event()
        self._failure = ""

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Read until closed."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": "writer-log", "enable.auto.commit": False,
             "isolation.level": "read_committed", "log_level": 0}
        )  # fmt: skip
        consumer.assign([TopicPartition(self.topic, shard, 0) for shard in range(self.shards)])
        try:
            while not self._closing.is_set():
                for message in consumer.consume(1000, 0.2):
                    if message.error() is None and message.key() == b"writer":
                        self._take(message.partition() or 0, message.value() or b"{}", message.timestamp()[1])
        except (KafkaException, ValueError, KeyError, TypeError) as error:
            self._failure = f"the log of writers ended early: {error!r}"
        finally:
            consumer.close()

    def _take(self, shard: int, value: bytes, timestamp_ms: int) -> None:
        found = json.loads(value)
        written = Written(timestamp_ms / 1000, found["generation"], found["instance"], found["sequence"])
        self.records[shard].append(written)

    def __enter__(self) -> "WriterLog":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.join(10)

    def two_writers(self) -> list[str]:
        """Places where an older generation commits after a newer one, or two instances have the same: none is right.

        A shard without a record is one, too: nothing was seen of it.
        """
        wrong = [self._failure] if self._failure else []
        wrong += [f"shard {shard}: no writer was seen" for shard in range(self.shards) if not self.records.get(shard)]
        for shard, records in sorted(self.records.items()):
            names: dict[int, str] = {}
            wrong += [
                f"shard {shard}: generation {after.generation} after {before.generation}"
                for before, after in pairwise(records)
                if after.generation < before.generation
            ]
            for one in records:
                if names.setdefault(one.generation, one.instance) != one.instance:
                    wrong.append(f"shard {shard}: generation {one.generation} of two instances")
        return wrong

    def gaps(self, since: float, until: float) -> Iterator[tuple[int, float, bool]]:
        """Of each shard: the longest time without a commit in an interval, and whether the writer changed across it."""
        for shard, records in sorted(self.records.items()):
            pairs = [
                (after.at - before.at, before.generation != after.generation)
                for before, after in pairwise(list(records))
                if after.at >= since and before.at <= until
            ]
            if pairs:
                yield shard, *max(pairs)

    def moves(self) -> list[tuple[int, float, float]]:
        """Every change of a writer: shard, when, and the seconds between the two commits."""
        return [
            (shard, after.at, after.at - before.at)
            for shard, records in sorted(self.records.items())
            for before, after in pairwise(list(records))
            if before.generation != after.generation
        ]


def symbols_of(stack: Stack, shard: int, shards: int) -> list[str]:
    """The symbols of a shard."""
    return [symbol for symbol in stack.simulator.state()["symbols"] if shard_of(symbol, shards) == shard]
