"""What a running instance does with the stored number of shards, and with a record that contradicts its own.

``ingest reshard`` commits another number only after it has taken the transactional id of every shard (decision 22). So
an instance that can still commit with its id knows that such a record is forged: it commits the true one over it. One
whose commit is fenced stands by. An instance that does not write waits for so long as a writer needs to do that, and
then ends: the number was changed.
"""

import asyncio
import logging
from collections.abc import Callable

from ingest.core.errors import Retry, Stop
from ingest.kafka.layout import configured, require_layout
from ingest.kafka.position_records import RESHARD, LayoutRecord, WriterRecord
from ingest.metrics import Metrics

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""A standby waits so long for the writer to restore the layout; longer than a writer needs to notice a fence."""
RETRY_SECONDS = 1.0
"""Before a restoration, and between two while records that contradict keep coming."""


class LayoutWatch:
    """The layout as one instance has read it. All calls on the loop."""

    def __init__(
        self,
        shards: int,
        metrics: Metrics,
        *,
        writing: Callable[[], bool],
        restore: Callable[[LayoutRecord], None],
        fail: Callable[[Stop], None],
        monotonic: Callable[[], float],
    ) -> None:
        """``writing``: whether this instance has a transactional id to commit with.

        ``restore`` commits the true layout with it. ``fail`` ends the service.
        """
        self._shards = shards
        self._metrics = metrics
        self._writing = writing
        self._restore = restore
        self._fail = fail
        self._monotonic = monotonic
        self._accepted = configured(shards)
        """The latest layout that allows this instance's number. That none is stored is never restored: a change that
        was taken back meanwhile may have stored one, and without one any number may write."""
        self._refused: Stop | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._restoring = False
        """A restoration is under way."""
        self._started = False
        """The positions have been read to their end once."""
        self._moved_generation = 0
        """That of the command's ``writer`` record."""
        self.vacant = False
        """The number of shards was changed, and no instance has taken this one over since."""

    def first(self, layout: LayoutRecord | None, writer: WriterRecord | None) -> None:
        """The layout that is stored when the positions were read to their end: at the start, or once more.

        At the start another number ends this instance at once. Later it may be forged, as in ``stored``.
        """
        self._wrote(writer)
        refused = self._problem(layout)
        started, self._started = self._started, True
        if refused is not None and not started:
            self._fail(refused)
        else:
            self._take(layout, refused)

    def stored(self, layout: LayoutRecord | None, writer: WriterRecord | None) -> None:
        """A layout, a ``writer`` record or both were stored since."""
        self._wrote(writer)
        if layout is not None:
            self._take(layout, self._problem(layout))

    def read_by_writer(self, layout: LayoutRecord | None) -> None:
        """The layout that this instance's writer has read behind its fence."""
        self._restoring = False
        self._take(layout, self._problem(layout))

    def superseded(self, generation: int) -> None:
        """A newer generation has the transactional id: unless it is the command's, an instance has taken the shard."""
        self._restoring = False
        self.vacant = self.vacant and generation <= self._moved_generation

    def restored(self) -> None:
        """The layout is committed again, with a transactional id that no command has taken."""
        self._restoring = False
        self._metrics.layouts_restored.inc()
        log.error(
            "a record `layout` of the positions topic stated another number of shards, but the transactional id is "
            "ours: it was forged, and is replaced. Restrict the topic with an ACL"
        )

    def _wrote(self, writer: WriterRecord | None) -> None:
        if writer is not None:
            self.vacant = writer.instance == RESHARD
            if self.vacant:
                self._moved_generation = writer.generation

    def _problem(self, layout: LayoutRecord | None) -> Stop | None:
        try:
            require_layout(layout, self._shards)
        except Retry as waiting:
            log.warning("%s", waiting)
        except Stop as error:
            return error
        return None

    def _take(self, layout: LayoutRecord | None, refused: Stop | None) -> None:
        before, self._refused = self._refused, refused
        if refused is None:
            self._accepted = layout or configured(self._shards)
            self.close()
        elif before is None:
            # Not at once: where the follower lags behind the writer, the record that it reads next may be the true one.
            self._since = self._monotonic()
            self._wait()

    def _act(self) -> None:
        """Restore the layout, or end after the grace; repeated until the stored one is right."""
        self._timer, refused = None, self._refused
        if refused is None:
            return
        if self._writing():
            self._since = self._monotonic()
            if not self._restoring:
                self._restoring = True
                self._restore(self._accepted)
        elif self._monotonic() - self._since >= GRACE_SECONDS:
            self._fail(refused)
            return
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._act)

    def close(self) -> None:
        """Cancel a pending restoration."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
