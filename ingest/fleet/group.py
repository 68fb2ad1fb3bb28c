"""An instance as a member of the fleet's consumer group. It reads no record: the group only divides the partitions.

Two threads: one polls, so that rebalances are answered at once; one asks the coordinator who is there. Neither waits
for the other.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupType,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, TopicMetadata  # type: ignore[attr-defined]

from ingest.core.errors import IngestError, Retry, Stop, crashed
from ingest.fleet.members import Member, View, member_of
from ingest.kafka import client
from ingest.kafka.admin_answers import answered
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import disconnected, refused
from ingest.settings import Settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
JOINING_SECONDS = 0.2
VIEW_SECONDS = 1.0
"""Between two questions who is in the group."""
REQUEST_SECONDS = 3.0
STEP_SECONDS = 0.5
MOST_MEMBERS = 1000
"""As many as there can be shards; others are not looked at."""
HEARTBEAT_MS = 500
"""How soon a member hears of a rebalance."""
POLL_LIMIT_MS = 60_000
"""A supervisor that hangs for longer loses its shards."""
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})


def consumer_config(settings: Settings, member: Member) -> dict[str, Any]:
    """Options of the member."""
    service = settings.service
    config = {
        **client.common(settings, "fleet"),
        "client.id": member.client_id,
        "group.id": settings.fleet_group,
        "group.protocol": service.fleet_group_protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "latest",
        "max.poll.interval.ms": POLL_LIMIT_MS,
    }
    if service.fleet_group_protocol == "classic":  # with the other one the broker sets these
        config |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(service.fleet_session_timeout_seconds * 1000),
            "heartbeat.interval.ms": HEARTBEAT_MS,
        }
    return config


class GroupViewer:
    """Asks the coordinator who is in the group. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._group = settings.fleet_group
        self._topic = settings.positions_topic
        self._admin: AdminClient | None = None
        self._errors: list[KafkaError] = []

    def _connected(self) -> AdminClient:
        if self._admin is None:
            self._errors.clear()
            config = {**client.common(self._settings, "fleet-view"), "error_cb": self._errors.append}
            self._admin = AdminClient(config)
        return self._admin

    def disconnect(self) -> None:
        """Drop the client; the next question connects again."""
        self._admin = None

    def _raise_refused(self, admin: AdminClient, problem: KafkaError | None = None) -> None:
        """Drop a client with refused credentials and raise ``Retry``: it would try them three times a second."""
        admin.poll(0)
        errors = self._errors if problem is None else [*self._errors, problem]
        access = next((again for again in map(refused, errors) if again is not None), None)
        self._errors.clear()
        if access is not None:
            self.disconnect()
            raise access

    def partitions(self) -> int:
        """How many partitions the positions topic has. Raises ``Retry``, and ``Stop`` for a missing topic."""
        found = self._listed(self._connected())
        if found.error is not None and found.error.code() in _MISSING:
            raise Stop(f"topic {self._topic} does not exist: create the topics with `ingest topics`")
        if found.error is not None:
            raise Retry(f"topic {self._topic}: {found.error.str()}", after=VIEW_SECONDS)
        return len(found.partitions)

    def _listed(self, admin: AdminClient) -> TopicMetadata:
        until = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                return admin.list_topics(self._topic, timeout=STEP_SECONDS).topics[self._topic]
            except KafkaException as error:
                problem = error.args[0]
                self._raise_refused(admin, problem)
                if time.monotonic() >= until:
                    what = "the partitions of the positions topic"
                    raise Retry(f"{what}: {problem.str()}", after=VIEW_SECONDS) from error

    def view(self) -> View:
        """Return the group as it is now. Raises ``Retry``."""
        at = time.monotonic()
        try:
            found = self._described(self._connected())
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return View(at=at, stable=True)
            raise Retry(f"the members of group {self._group}: {error.args[0].str()}", after=VIEW_SECONDS) from error
        members: list[Member] = []
        owners: dict[int, Member] = {}
        strangers = 0
        for one in found.members[:MOST_MEMBERS]:
            member = member_of(one.client_id)
            if member is None:
                strangers += 1
                continue
            members.append(member)
            for place in one.assignment.topic_partitions if one.assignment else ():
                owners[place.partition] = member
        # With KIP-848 owners are right at any time, and there is no state for it.
        stable = found.state in (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
        stable = stable or found.type == ConsumerGroupType.CONSUMER
        return View(at=at, stable=stable, members=tuple(members), owners=owners, strangers=strangers)

    def _described(self, admin: AdminClient) -> Any:  # its types say that nothing can be absent
        """Raises ``KafkaException`` for an answer that is an error, ``Retry`` without one."""
        until = time.monotonic() + REQUEST_SECONDS + 1
        future = admin.describe_consumer_groups([self._group], request_timeout=REQUEST_SECONDS)[self._group]
        while True:
            try:
                return answered(future, STEP_SECONDS)
            except TimeoutError as error:
                self._raise_refused(admin)
                if time.monotonic() >= until:
                    raise Retry(f"the members of group {self._group}: no answer", after=VIEW_SECONDS) from error
            except KafkaException as error:
                self._raise_refused(admin, error.args[0])
                raise


class Assignment:
    """The shards that this instance has, each with the number of the assignment that gave it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs: dict[int, int] = {}
        self._count = 0
        self._answered = False

    def add(self, partitions: list[int]) -> None:
        """The group has given these."""
        with self._lock:
            self._answered = True
            self._count += 1
            self._epochs |= dict.fromkeys(partitions, self._count)

    def remove(self, partitions: list[int]) -> None:
        """The group has taken these, or the session was lost with them."""
        with self._lock:
            for partition in partitions:
                self._epochs.pop(partition, None)

    def shards(self) -> dict[int, int]:
        """Shard -> number of its assignment."""
        with self._lock:
            return dict(self._epochs)

    @property
    def answered(self) -> bool:
        """Whether the group has ever given an answer, be it no shard."""
        with self._lock:
            return self._answered


class GroupMember(threading.Thread):
    """Stays in the group until ``leave``."""

    def __init__(
        self, settings: Settings, member: Member, access: AuthBackoff, *, on_error: Callable[[IngestError], None]
    ) -> None:
        """``on_error`` is called on this thread with what only a person can change; the thread has ended then."""
        super().__init__(name="fleet-member", daemon=True)
        self._settings = settings
        self._topic = settings.positions_topic
        self._config = consumer_config(settings, member)
        self._access = access
        self._on_fatal = on_error
        self._leaving = threading.Event()
        self._problem: KafkaError | None = None
        self.assignment = Assignment()
        self.sessions_lost = 0

    def run(self) -> None:
        """Poll until told to leave."""
        try:
            while not self._leaving.is_set():
                self._access.wait(self._leaving)
                self._stay_while_admitted()
        except (IngestError, KafkaException) as error:
            self._on_fatal(error if isinstance(error, IngestError) else Stop(f"fleet: {error}"))
        except Exception as error:
            log.exception("the member of the fleet's group crashed")
            self._on_fatal(crashed("the member of the fleet's group crashed", error))

    def _stay_while_admitted(self) -> None:
        """With refused credentials the session ends at the coordinator; the client is closed, and joins again later."""
        try:
            self._stay()
        except Retry as error:
            log.error("fleet: %s", error)  # noqa: TRY400 -- the broker's answer, not a bug
            if not self._access.refused(error):
                self._leaving.wait(error.after)

    def _stay(self) -> None:
        consumer = Consumer({**self._config, "error_cb": self._on_error})
        try:
            consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            while not self._leaving.is_set():
                message = consumer.poll(POLL_SECONDS)
                problem = message.error() if message is not None else self._problem
                self._problem = None
                if problem is not None:
                    self._judge(problem)
        finally:
            consumer.close()

    def _judge(self, error: KafkaError) -> None:
        """Raise for what the library does not mend by itself; log the rest."""
        if error.code() == KafkaError.INCONSISTENT_GROUP_PROTOCOL:
            raise Stop(
                f"group {self._settings.fleet_group}: its members use another protocol ({error.str()}): set "
                "K2_FLEET_GROUP_PROTOCOL as they do, or another K2_FLEET_GROUP if they are no instances of this fleet"
            )
        if error.code() in (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE):
            raise Stop(
                f"this broker does not know the group protocol {self._settings.service.fleet_group_protocol!r} "
                f"({error.str()}): set K2_FLEET_GROUP_PROTOCOL=classic"
            )
        if error.fatal():
            raise Stop(f"group {self._settings.fleet_group}: {error.str()}")
        access = refused(error)
        if access is not None:
            raise access
        if not disconnected(error):
            log.warning("fleet: %s", error.str(), extra={"reason": error.name()})

    def _on_error(self, error: KafkaError) -> None:
        if refused(error) is not None or error.fatal():
            self._problem = error

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # Records are read by the children; here the partitions are paused before anything is fetched.
        consumer.incremental_assign([TopicPartition(one.topic, one.partition, OFFSET_END) for one in places])
        consumer.pause(places)
        self.assignment.add([one.partition for one in places])
        if places:
            log.info("shards given by the group", extra={"shards": sorted(one.partition for one in places)})

    def _revoked(self, _: Consumer, places: list[TopicPartition]) -> None:
        self.assignment.remove([one.partition for one in places])
        log.info(
            "shards taken by the group: written on until the successors fence us",
            extra={"shards": sorted(one.partition for one in places)},
        )

    def _lost(self, _: Consumer, places: list[TopicPartition]) -> None:
        self.sessions_lost += 1
        self.assignment.remove([one.partition for one in places])
        log.warning(
            "the session with the fleet's group was lost: what is written here is written on until it is fenced",
            extra={"shards": sorted(one.partition for one in places)},
        )

    def leave(self) -> None:
        """Leave the group; returns at once."""
        self._leaving.set()


class ViewThread(threading.Thread):
    """Keeps the latest view of the group."""

    def __init__(
        self, viewer: GroupViewer, own: Member, access: AuthBackoff, *, on_error: Callable[[IngestError], None]
    ) -> None:
        """``own``: until it is in a view, views follow each other quickly.

        ``on_error`` is called on this thread if it ends before it is closed.
        """
        super().__init__(name="fleet-view", daemon=True)
        self._own = own
        self._viewer = viewer
        self._access = access
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._view: View | None = None
        self._on_fatal = on_error

    def run(self) -> None:
        """Ask once a second until closed."""
        try:
            self._follow()
        except IngestError as error:
            self._on_fatal(error)
        except Exception as error:
            log.exception("the view of the fleet's group crashed")
            self._on_fatal(crashed("the view of the fleet's group crashed", error))

    def _follow(self) -> None:
        pause = JOINING_SECONDS
        while not self._closing.wait(pause):
            self._access.wait(self._closing, self._viewer.disconnect)
            try:
                view = self._viewer.view()
            except Retry as error:
                log.warning("fleet: %s", error)
                self._access.refused(error)
                continue
            with self._lock:
                self._view = view
            if self._own in view.members:
                pause = VIEW_SECONDS

    @property
    def latest(self) -> View | None:
        """The latest view, however old."""
        with self._lock:
            return self._view

    def close(self) -> None:
        """Stop asking; returns at once."""
        self._closing.set()
