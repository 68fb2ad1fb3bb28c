"""Watches that readers of committed records get on: the last stable offset of each partition against its end.

A transaction that no producer will end stops every ``read_committed`` reader at its first record, while commits behind
it succeed: to the writer all is well. So it is asked from outside of the writer, by every instance, on a thread of its
own.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import msgspec
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicMetadata  # type: ignore[attr-defined]

from ingest.kafka import client
from ingest.kafka.admin_answers import answered
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import refused
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
REQUEST_SECONDS = 5.0
STEP_SECONDS = 0.5
STUCK_SECONDS = 60.0
"""Seconds after which a stuck offset is reported: four times the transaction time-out of the writer."""

Partition = tuple[str, int]


class Offsets(msgspec.Struct, frozen=True):
    """Of one partition: where readers of committed records must stop, and where the log ends."""

    stable: int
    end: int


class StuckOffsets:
    """Since when which partition has not moved for readers, though there is more. No I/O, no clock."""

    def __init__(self) -> None:
        self._since: dict[Partition, tuple[int, float]] = {}

    def seen(self, offsets: Mapping[Partition, Offsets], now: float) -> dict[Partition, float]:
        """Seconds that each partition has stood; 0 where readers get on. What is not in ``offsets`` is forgotten.

        An open transaction is no trouble as such: with several shards on a partition there is always one. One that is
        the *same* all the time is.
        """
        since = self._since
        self._since = {}
        for place, found in offsets.items():
            if found.stable < found.end:
                before = since.get(place)
                self._since[place] = before if before is not None and before[0] == found.stable else (found.stable, now)
        return {place: now - self._since[place][1] if place in self._since else 0.0 for place in offsets}


class StableOffsetWatch(threading.Thread):
    """Looks every few seconds and keeps the metrics. A broker that is away is other alerts' business: it asks again."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        ask: Callable[[], dict[Partition, Offsets]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        access: AuthBackoff,
    ) -> None:
        super().__init__(name="stable-offsets", daemon=True)
        self._settings = settings
        self._metrics = metrics
        self._ask = ask if ask is not None else self._from_broker
        self._monotonic = monotonic
        self._standing = StuckOffsets()
        self._closing = threading.Event()
        self._access = access
        self._admin: AdminClient | None = None
        self._refused = False
        self._told: set[Partition] = set()
        self._known: set[Partition] = set()
        self._failing = False
        self.stuck: dict[str, float] = {}
        """Partition -> seconds, of those that have stood too long. Replaced as a whole: read it from any thread."""

    def run(self) -> None:
        """Look until closed."""
        while not self._closing.is_set():
            self._access.wait(self._closing, self._disconnect)
            self.look()
            self._rest(INTERVAL_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Wait, and poll the client's errors meanwhile: it would retry refused credentials without end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._closing.wait(STEP_SECONDS):
            if self._admin is not None:
                self._admin.poll(0)
                self._drop_refused()

    def _on_error(self, error: KafkaError) -> None:
        access = refused(error)
        self._refused |= access is not None and self._access.refused(access)

    def _drop_refused(self) -> bool:
        dropped, self._refused = self._refused, False
        if dropped:
            self._disconnect()
        return dropped

    def _disconnect(self) -> None:
        self._admin = None

    def close(self, seconds: float = 0.5) -> None:
        """Ask it to end and wait so long at most; a question under way ends by itself."""
        self._closing.set()
        if self.is_alive():
            self.join(seconds)

    def look(self) -> None:
        """Ask once, and say what that means."""
        try:
            offsets = self._ask()
        except (KafkaException, FutureTimeout) as error:
            if not self._failing:
                log.warning("cannot ask how far readers of committed records get: %s", error)
            self._failing = True
            return
        self._failing = False
        self._metrics.stable_offset_checks.inc()
        ages = self._standing.seen(offsets, self._monotonic())
        for place, seconds in ages.items():
            self._metrics.stable_offset_stuck.labels(_name(place)).set(seconds)
        for place in self._known - ages.keys():
            self._metrics.stable_offset_stuck.remove(_name(place))
        self._known = set(ages)
        stuck = {place for place, seconds in ages.items() if seconds > STUCK_SECONDS}
        self.stuck = {_name(place): round(ages[place], 1) for place in sorted(stuck)}
        self._tell(stuck, offsets)

    def _tell(self, stuck: set[Partition], offsets: Mapping[Partition, Offsets]) -> None:
        for place in sorted(stuck - self._told):
            log.error(
                "readers of committed records stand at offset %d of %s, which ends at %d: a transaction hangs there; "
                "see IngestReadersBlocked in the runbook",
                offsets[place].stable, _name(place), offsets[place].end,
            )  # fmt: skip
        for place in sorted(self._told - stuck):
            log.warning("readers of committed records get on in %s", _name(place))
        self._told = stuck

    def _from_broker(self) -> dict[Partition, Offsets]:
        """Both offsets of every partition of the trades and of this shard's positions. Raises ``KafkaException``."""
        admin = self._admin
        if admin is None:
            config: dict[str, Any] = {**client.common(self._settings, "stable-offsets"), "error_cb": self._on_error}
            admin = self._admin = AdminClient(config)
        topic = self._settings.kafka.topic
        found = self._listed(admin, topic)
        if found.error is not None:
            raise KafkaException(found.error)
        places = [(topic, partition) for partition in found.partitions]
        places.append((self._settings.positions_topic, self._settings.shard))
        # The end first: what is appended between the two questions can make a partition look free, never stuck.
        ends = _latest(admin, places, IsolationLevel.READ_UNCOMMITTED)
        stable = _latest(admin, places, IsolationLevel.READ_COMMITTED)
        return {place: Offsets(stable[place], ends[place]) for place in places}

    def _listed(self, admin: AdminClient, topic: str) -> TopicMetadata:
        """The topic's partitions, asked for in short steps."""
        until = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                return admin.list_topics(topic, timeout=STEP_SECONDS).topics[topic]
            except KafkaException:
                admin.poll(0)
                if self._drop_refused() or time.monotonic() > until or self._closing.is_set():
                    raise


def _latest(admin: AdminClient, places: list[Partition], isolation: IsolationLevel) -> dict[Partition, int]:
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, partition): latest for topic, partition in places}
    answers = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=REQUEST_SECONDS)
    return {
        (where.topic, where.partition): int(answered(future, REQUEST_SECONDS * 2).offset)
        for where, future in answers.items()
    }


def _name(place: Partition) -> str:
    topic, partition = place
    return f"{topic}-{partition}"
