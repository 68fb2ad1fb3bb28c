"""What a writer does with the stored number of shards: write, wait, take an abandoned change back, or end."""

import logging
from collections.abc import Callable, Iterable

from ingest.core.errors import Fenced, Recycle, Retry
from ingest.kafka.layout import ABANDONED_SECONDS, Changing, require_layout, stable
from ingest.kafka.position_records import LayoutRecord, layout_record
from ingest.kafka.positions import ShardState
from ingest.kafka.writer_ports import ProducerPort

log = logging.getLogger(__name__)


class LayoutGuard:
    """Called with each state that a writer reads behind its fence. On the writer's thread only."""

    def __init__(self, shards: int, *, give_up: Callable[[LayoutRecord], None], monotonic: Callable[[], float]) -> None:
        """``give_up`` takes a change back, see ``take_back``."""
        self._shards = shards
        self._give_up = give_up
        self._monotonic = monotonic
        self._seen: tuple[LayoutRecord, float] | None = None
        """A change that has not ended, and when it was first seen: no clock of another machine is compared."""

    def __call__(self, state: ShardState) -> None:
        """Return if this instance may write. Raises ``Retry`` (wait) or ``Stop``."""
        try:
            require_layout(state.layout, self._shards)
        except Changing as change:
            self._waited(change.layout)
            raise
        self._seen = None

    def _waited(self, layout: LayoutRecord) -> None:
        now = self._monotonic()
        if self._seen is None or self._seen[0] != layout:
            self._seen = (layout, now)
        elif now - self._seen[1] >= ABANDONED_SECONDS and layout.shards == self._shards:
            self._seen = None
            self._give_up(layout)


def in_each_partition(record: LayoutRecord, topic: str) -> Iterable[tuple[str, bytes, bytes, int]]:
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
    try:
        with_lock = open_producer()
        try:
            with_lock.init()
            if present() != layout:
                return False
            record = stable(layout, layout.shards, by=by, now_us=now_us)
            with_lock.transact(iter(in_each_partition(record, topic)))
        finally:
            with_lock.close()
        # Until this returns the commit's markers may be missing, and readers would see the change still.
        settled = open_producer()
        try:
            settled.init()
        finally:
            settled.close()
    except (Fenced, Recycle) as error:
        raise Retry(f"taking back the change of the number of shards: {error}") from error
    log.warning(
        "the change from %d to %s shards by %s was abandoned: taken back, %d shards remain",
        layout.shards, layout.to, layout.by, layout.shards,
        extra={"shards": layout.shards, "to": layout.to, "by": layout.by},
    )  # fmt: skip
    return True
