"""What a writer does with the stored number of shards: write, wait, take an abandoned change back, or end."""

import logging
from collections.abc import Callable, Iterable

from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.kafka.layout import ABANDONED_SECONDS, Changing, configured, require_layout, stable
from ingest.kafka.position_records import LayoutRecord, layout_record
from ingest.kafka.positions import ShardState
from ingest.kafka.producer import Message
from ingest.kafka.writer_ports import ProducerPort

log = logging.getLogger(__name__)

CHANGES_SECONDS = 3 * ABANDONED_SECONDS
"""Changes that follow one another without an end are taken back after so long.

Each one restarts ``ABANDONED_SECONDS``: a client that stored a forged one every minute would stop a waiting writer for
ever.
"""


class LayoutGuard:
    """Called with each state that a writer reads behind its fence. On the writer's thread only."""

    def __init__(
        self,
        shards: int,
        *,
        give_up: Callable[[LayoutRecord], None],
        restore: Callable[[LayoutRecord, ShardState], None] | None,
        monotonic: Callable[[], float],
    ) -> None:
        """``give_up`` takes a change back, see ``take_back``.

        ``restore`` replaces a forged layout, see ``replace_forged``; None: without transactions nothing is known to be
        forged.
        """
        self._shards = shards
        self._give_up = give_up
        self._restore = restore
        self._monotonic = monotonic
        self.accepted: LayoutRecord | None = None
        """The latest layout that allowed this instance to write."""
        self._seen: tuple[LayoutRecord, float] | None = None
        """A change that has not ended, and when it was first seen: no clock of another machine is compared."""
        self._changes: tuple[float, float] | None = None
        """When the first and the latest of such changes were read."""

    def __call__(self, state: ShardState, *, own_generation: bool = False) -> None:
        """Return if this instance may write. Raises ``Retry`` (wait) or ``Stop``.

        ``own_generation``: the latest generation in ``state`` is that of this writer. A real change commits its
        number and a newer generation in one transaction, so that another number is forged: it is replaced.
        """
        try:
            require_layout(state.layout, self._shards)
        except Changing as change:
            self._waited(change.layout)
            raise
        except Stop:
            if not own_generation or self._restore is None or self.accepted is None:
                raise
            self._restore(self.accepted, state)
            raise Retry("a forged layout was found behind the own generation: reading once more") from None
        self._seen = self._changes = None
        self.accepted = state.layout or configured(self._shards)

    def _waited(self, layout: LayoutRecord) -> None:
        now = self._monotonic()
        if self._seen is None or self._seen[0] != layout:
            self._seen = (layout, now)
        earlier = self._changes
        first = now if earlier is None or now - earlier[1] >= ABANDONED_SECONDS else earlier[0]
        self._changes = (first, now)
        abandoned = now - self._seen[1] >= ABANDONED_SECONDS or now - first >= CHANGES_SECONDS
        if abandoned and layout.shards == self._shards:
            self._seen = self._changes = None
            self._give_up(layout)


def in_each_partition(record: LayoutRecord, topic: str) -> Iterable[Message]:
    """The messages that store a layout."""
    key, value = layout_record(record)
    return ((topic, key, value, partition) for partition in range(record.partitions))


def take_back(
    layout: LayoutRecord,
    *,
    open_producer: Callable[[], ProducerPort],
    present: Callable[[], LayoutRecord | None],
    topic: str,
    by: str,
    now_us: int,
) -> bool:
    """End a change with the number before it, if it has not ended; returns whether it did.

    ``open_producer`` opens one with the transactional id of ``ingest reshard``: its ``init`` fences the command that
    began the change, whose transaction is then either committed, which ``present`` shows, or aborted.

    Raises ``Retry``: read the layout once more, and try again if it is the same.
    """
    record = stable(layout, layout.shards, by=by, now_us=now_us)
    try:
        if not _commit(in_each_partition(record, topic), open_producer, lambda: present() == layout):
            return False
    except (Fenced, Recycle) as error:
        raise Retry(f"taking back the change of the number of shards: {error}") from error
    log.warning(
        "the change from %d to %s shards by %s was abandoned: taken back, %d shards remain",
        layout.shards, layout.to, layout.by, layout.shards,
        extra={"shards": layout.shards, "to": layout.to, "by": layout.by},
    )  # fmt: skip
    return True


def replace_forged(
    accepted: LayoutRecord,
    seen: ShardState,
    *,
    open_producer: Callable[[], ProducerPort],
    read_state: Callable[[], ShardState],
    topic: str,
    shard: int,
) -> bool:
    """Commit the ``accepted`` layout over the forged one in ``seen``; returns whether it did.

    Not with the shard's id: a writer that recycles takes that id again, perhaps from a command that has read the
    positions already, and whose ``changing`` the forged record hides. ``open_producer`` is that of ``take_back``: its
    ``init`` ends such a command, which then either has moved the shard, as a newer generation shows, or never will.

    Raises ``Retry``: read the layout once more, and try again if it is the same.
    """

    def unchanged() -> bool:
        now = read_state()
        return (now.layout, now.credible) == (seen.layout, seen.credible)

    key, value = layout_record(accepted)
    try:
        return _commit([(topic, key, value, shard)], open_producer, unchanged)
    except (Fenced, Recycle) as error:
        raise Retry(f"replacing a forged layout: {error}") from error


def _commit(
    messages: Iterable[Message], open_producer: Callable[[], ProducerPort], unchanged: Callable[[], bool]
) -> bool:
    """Commit with the id that all runs of the command share, if ``unchanged`` is true once it is taken."""
    producer = open_producer()
    try:
        producer.init()
        if not unchanged():
            return False
        producer.transact(iter(messages))
    finally:
        producer.close()
    # Until this returns the commit's markers may be missing, and readers would see what was there before.
    settled = open_producer()
    try:
        settled.init()
    finally:
        settled.close()
    return True
