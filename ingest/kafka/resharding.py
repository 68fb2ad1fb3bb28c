"""Changes the number of shards, step by step, while the service runs (decision 22).

1. ``changing`` is committed in every partition: a writer that takes its shard's transactional id from now on waits.
2. The id of every shard is taken, old and new: a writer that had it before is fenced, and commits nothing more.
3. All positions are read.
4. One transaction moves them, and says ``stable``.

Killed before 4 commits, it has changed nothing: the next run, with any number or to abort, fences this one by the
transactional id that all runs share. Writers that wait take the change back themselves after a while
(``layout.ABANDONED_SECONDS``).

It speaks to Kafka through a narrow port, so that the same code runs on the real broker and on a model of one.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

import msgspec

from ingest.core.errors import Fenced, IngestError, Recycle, Retry, Stop
from ingest.kafka.layout import changing, stable
from ingest.kafka.layout_guard import in_each_partition, take_back
from ingest.kafka.positions import LayoutRecord, layout_record
from ingest.kafka.producer import Message
from ingest.kafka.shard_movement import (
    Content,
    Movement,
    ShardOf,
    confirm,
    last_layout,
    movement,
    present_layout,
    require_known_writers,
)
from ingest.kafka.writer_ports import ProducerPort

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Whole runs, where the outcome of a transaction is uncertain."""
FENCED_AT_ONCE = 16
"""Transactional ids: each waits for the broker, and nothing is written meanwhile."""
VISIBLE_READS, VISIBLE_SECONDS = 600, 0.05
"""Half a minute: a transaction that a dead client has left open hides what follows until the broker aborts it."""


class Contents(msgspec.Struct, frozen=True):
    """All partitions, read to their ends."""

    partitions: Mapping[int, Content]
    unfinished: frozenset[int]
    """Those with an open transaction behind what was read."""


class ReshardPort(Protocol):
    """What a change of the number of shards asks of Kafka."""

    def partitions(self) -> int:
        """How many the positions topic has."""

    def add_partitions(self, number: int) -> None:
        """Make it so many."""

    def read(self) -> Contents:
        """All partitions, ``read_committed`` to the end of now."""

    def open(self, shard: int | None) -> ProducerPort:
        """A producer with a shard's transactional id; None: with that of this command."""

    def fence(self, shards: Sequence[int]) -> None:
        """Take the transactional ids of these shards, all at once, and release them. Raises ``Retry``."""

    def wait(self, seconds: float) -> None:
        """Sleep."""


class TakenOver(Stop):
    """Another run of the command, or a writer that took the change back, has fenced this one."""


class Resharding:
    """One run of the command. A context manager: it holds the transactional id that all runs share."""

    def __init__(
        self,
        port: ReshardPort,
        *,
        topic: str,
        configured: int,
        by: str,
        shard_of: ShardOf,
        time_ns: Callable[[], int],
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``configured``: the number of shards where the topic states none. ``on_step`` is called before each step."""
        self._port = port
        self._topic = topic
        self._configured = configured
        self._by = by
        self._shard_of = shard_of
        self._time_ns = time_ns
        self._on_step = on_step
        self._producer: ProducerPort | None = None
        self._intent: LayoutRecord | None = None
        self._planned: Movement | None = None

    def plan(self, to: int) -> Movement:
        """What would be moved. Nothing is written. Raises ``Retry`` or ``Stop``."""
        contents = self._read("reading the positions")
        for partition in range(len(contents), to):
            contents[partition] = Content()
        present = present_layout(contents, self._configured)
        require_known_writers(contents)
        return self._movement(contents, present, self._stable(present, to))

    def run(self, to: int) -> Movement | None:
        """Change the number; None if the topic states it already. Raises ``Retry`` or ``Stop``."""
        try:
            for _ in range(ATTEMPTS):
                try:
                    return self._run(to)
                except Recycle as error:  # the outcome is unknown: the layout tells it
                    log.warning("once more: %s", error)
                except Fenced as error:
                    return self._own(error)
            raise Retry("the outcome of a transaction stayed uncertain")  # noqa: TRY301
        except BaseException as error:
            self._leave(error)
            raise

    def abort(self) -> LayoutRecord | None:
        """Take back a change that has not ended, and return it; None if there is none. Raises ``Retry``."""
        found = last_layout(self._read("reading the positions"))
        if found is None or found.state == "stable":
            return None
        return found if self._take_back(found) else None

    def close(self) -> None:
        """Release the id."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the steps ---

    def _run(self, to: int) -> Movement | None:
        contents = self._read("reading the positions")  # while the writers go on: it can take a while
        if len(contents) < to:
            self._on_step(f"adding partitions: {len(contents)} to {to}")
            self._port.add_partitions(to)
        self._on_step("fencing other runs of this command")
        self._lock()
        contents = self._read("reading the positions")
        stored = last_layout(contents)
        if self._planned is not None and stored == self._planned.layout:
            return self._confirmed(self._planned)
        if stored is not None and stored.state == "stable" and stored.shards == to:
            return None
        intent = self._begin(contents, to)
        self._fence(intent.partitions)
        planned = self._planned = self._movement(self._settled(intent), intent, self._stable(intent, to))
        self._on_step(f"committing the move: {len(planned.entries)} records")
        self._transact((self._topic, key, value, partition) for partition, key, value in planned.entries)
        return self._confirmed(planned)

    def _begin(self, contents: Mapping[int, Content], to: int) -> LayoutRecord:
        """Commit the intent.

        Its markers may be missing when this returns. A writer that takes its id meanwhile does not see the intent, but
        an open transaction behind what it has read, and never writes then (``TransactionalWriter.take_over``).
        """
        present = present_layout(contents, self._configured)
        require_known_writers(contents)
        intent = changing(present, to, by=self._by, now_us=self._now_us(), partitions=len(contents))
        self._movement(contents, present, self._stable(intent, to))  # what it refuses is refused before anything stops
        self._on_step(f"committing the intent: {present.shards} to {to} shards")
        self._intent = intent
        self._transact(in_each_partition(intent, self._topic))
        return intent

    def _fence(self, shards: int) -> None:
        """Take the id of every shard: a writer that had one is fenced, and its transaction has ended afterwards."""
        for first in range(0, shards, FENCED_AT_ONCE):
            together = range(first, min(shards, first + FENCED_AT_ONCE))
            self._on_step(f"fencing shards {first} to {together[-1]} of {shards}")
            self._port.fence(together)

    def _settled(self, intent: LayoutRecord) -> Mapping[int, Content]:
        """All positions behind the fences. Raises ``Recycle`` where a transaction hung, ``TakenOver``.

        Nothing is open once all ids are taken; what is open nevertheless has lost its marker (Kafka 4.3, see
        docs/explanation/hanging_transactions.md), and becomes a part of what its id commits next.
        """
        self._on_step("reading what came meanwhile")
        contents = self._visible(intent)
        if contents.unfinished:
            for partition in contents.unfinished:
                self._end_hanging(partition, intent)
            raise Recycle("fatal", "a transaction hung in the positions")
        return contents.partitions

    def _end_hanging(self, partition: int, intent: LayoutRecord) -> None:
        log.error("a transaction hung in %s, partition %d: ended. Audit the topics", self._topic, partition)
        key, value = layout_record(intent)
        producer = self._port.open(partition)
        try:
            producer.init()
            producer.transact(iter([(self._topic, key, value, partition)]))
        finally:
            producer.close()

    def _confirmed(self, planned: Movement) -> Movement:
        """Compare a committed move with what is stored, unless another change has begun since."""
        self._on_step("reading back")
        self._intent = None
        try:
            contents = self._visible(planned.layout)
        except TakenOver:
            log.warning("the move to %d shards is committed, and another change has begun since", planned.to)
            return planned
        confirm(contents.partitions, planned, self._shard_of)
        return planned

    # --- what they are made of ---

    def _lock(self) -> ProducerPort:
        """Take the id that all runs share: an earlier one, or a writer that takes a change back, is fenced."""
        successor = self._port.open(None)
        self.close()
        self._producer = successor
        successor.init()
        return successor

    def _transact(self, messages: Iterable[Message]) -> None:
        """One transaction. Raises ``Recycle`` if its outcome is unknown, ``Fenced``."""
        producer = self._producer or self._lock()
        timing = producer.transact(iter(messages))
        if producer.recycle_reason(timing) is not None:
            self._lock()  # a second copy of the commit may be under way, and must meet a fence

    def _visible(self, layout: LayoutRecord) -> Contents:
        """Read until every partition shows it: a commit is answered before its markers are written.

        Raises ``TakenOver`` where a later layout shows, ``Recycle`` if it takes too long.
        """
        for _ in range(VISIBLE_READS):
            contents = self._port.read()
            shown = [content.state().layout for content in contents.partitions.values()]
            if any(one is not None and one.version >= layout.version and one != layout for one in shown):
                raise TakenOver(_TAKEN_OVER)
            if all(one == layout for one in shown):
                return contents
            self._port.wait(VISIBLE_SECONDS)
        raise Recycle("fatal", "a committed layout is not visible")

    def _own(self, error: Fenced) -> Movement:
        """The move, if it was committed before the fence.

        Raises ``TakenOver`` if it was not, ``Retry`` if that is not known.
        """
        self._intent = None  # another run has the id: taking the intent back would fence that run
        planned = self._planned
        if planned is None or not self._committed(planned.layout):
            raise TakenOver(_TAKEN_OVER) from error
        try:
            return self._confirmed(planned)
        except Recycle as unseen:  # this command cannot begin again: another run has its id
            raise Retry(f"the move to {planned.to} shards is committed, but not confirmed: {unseen}") from unseen

    def _committed(self, layout: LayoutRecord) -> bool:
        """Whether it was committed: waits until an open transaction hides nothing. Never from a later change alone.

        Raises ``Retry`` where that is not known: later changes have ended and a compacted topic may have lost it, or
        the transaction stays open for too long.
        """
        for _ in range(VISIBLE_READS):
            contents = self._port.read()
            found = last_layout(contents.partitions)
            if any(layout in content.layouts for content in contents.partitions.values()):
                return True
            if found is not None and found.version > layout.version + 1:
                raise Retry(
                    f"another run has fenced this command and ended a change since: the number of shards is "
                    f"{found.shards}, whether the move to {layout.shards} was committed before is not known"
                )
            if found is not None and found.version >= layout.version:
                return _begun_from(layout, found)
            if not contents.unfinished:
                return False
            self._port.wait(VISIBLE_SECONDS)
        raise Retry(
            f"another run has fenced this command, and an open transaction hides what followed: whether the move to "
            f"{layout.shards} shards was committed is not known"
        )

    def _leave(self, error: BaseException) -> None:
        """Take the intent back, so that the writers need not wait for that long."""
        intent, self._intent = self._intent, None
        if intent is None or isinstance(error, TakenOver):
            return
        self._on_step("taking the intent back")
        try:
            self._take_back(intent)
        except IngestError as failed:
            log.warning("the intent was not taken back: %s", failed)

    def _take_back(self, layout: LayoutRecord) -> bool:
        self.close()
        return take_back(
            layout,
            open_producer=lambda: self._port.open(None),
            present=lambda: last_layout(self._port.read().partitions),
            topic=self._topic,
            by=self._by,
            now_us=self._now_us(),
        )

    def _movement(self, contents: Mapping[int, Content], present: LayoutRecord, layout: LayoutRecord) -> Movement:
        return movement(contents, layout, present, self._shard_of, self._now_us())

    def _stable(self, present: LayoutRecord, shards: int) -> LayoutRecord:
        return stable(present, shards, by=self._by, now_us=self._now_us())

    def _read(self, step: str) -> dict[int, Content]:
        self._on_step(step)
        return dict(self._port.read().partitions)

    def _now_us(self) -> int:
        return self._time_ns() // 1000


def _begun_from(layout: LayoutRecord, found: LayoutRecord) -> bool:
    """Whether a change began where ``layout`` was in force: each one counts the version on. Pure."""
    return found.version == layout.version + 1 and found.state == "changing" and found.shards == layout.shards


_TAKEN_OVER = (
    "another `ingest reshard`, or a writer that took this change back, has fenced this command: nothing was moved by "
    "it; `ingest positions show` shows the number of shards"
)
