"""The writer's thread: the only one that touches the producer.

The event loop hands it commands and gets events; it never waits for Kafka. All decisions of the protocol are in
``protocol``; here is only the order of things, the retries and the clock.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ingest.core.backoff import full_jitter
from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry, Stop, crashed
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.events import (
    Defended,
    Failed,
    FenceDetected,
    LayoutRestored,
    Recycled,
    Released,
    Superseded,
    TookOver,
    WriterEvent,
)
from ingest.kafka.kafka_adapter import KafkaAdapter
from ingest.kafka.layout_guard import LayoutGuard
from ingest.kafka.position_records import LayoutRecord
from ingest.kafka.positions import ShardState
from ingest.kafka.positions_reader import Checkpoint
from ingest.kafka.topic_watch import TopicWatch
from ingest.kafka.transaction_pacing import FailureBackoff
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.kafka.writer_commands import Close, Command, Defend, Release, RestoreLayout, TakeOver, Write
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

_E = TypeVar("_E")

RETRY_FIRST_SECONDS = 0.05
RETRY_MAX_SECONDS = 2.0
SERVE_SECONDS = 0.5


class WriterThread(threading.Thread):
    """Owns the shard's producer. The methods below are safe from any thread; ``callback`` is called on this one."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        callback: Callable[[WriterEvent], None],
        access: AuthBackoff | None = None,
        topic_watch: TopicWatch | None = None,
        checkpoint: Callable[[], Checkpoint | None] = lambda: None,
    ) -> None:
        """``topic_watch`` gives the trades topic's id and is notified if that topic was created again.

        ``checkpoint``: what the positions' follower has read, so that this thread need not read it again.
        """
        super().__init__(name="kafka-writer", daemon=True)
        self._metrics = metrics
        self._callback = callback
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._interrupt = threading.Event()
        self._access = access or AuthBackoff(settings, on_refused=metrics.producer_errors.inc)
        self._heartbeat_seconds = settings.kafka.heartbeat_interval_ms / 1000
        self._broker = KafkaAdapter(
            settings, self._interrupt, metrics.producer_errors.inc, metrics.dead_letters_dropped.inc, checkpoint
        )
        self._layout = LayoutGuard(
            settings.service.shard_count,
            give_up=lambda layout: self._broker.give_up_change(layout),
            restore=self._replace_layout if settings.kafka.delivery == "exactly-once" else None,
            monotonic=time.monotonic,
        )
        self._shard = TransactionalWriter(
            self._broker,
            topic=settings.kafka.topic,
            positions_topic=settings.positions_topic,
            shard=settings.shard,
            shards=settings.service.shard_count,
            instance=settings.service.instance_id,
            accepted_partitions=settings.kafka.partitions,
            stream_topics=settings.stream_topics,
            topic_id=(lambda: None) if topic_watch is None else topic_watch.trades_topic_id,
            on_recreated=(lambda _: None) if topic_watch is None else topic_watch.recreated,
            require_layout=self._layout,
            monotonic=time.monotonic,
            time_ns=time.time_ns,
        )
        self._last_commit = 0.0
        self._backoff = FailureBackoff()

    # --- from the event loop ---

    def take_over(self, deployment_id: str | None) -> None:
        """Become the writer; answered by ``TookOver`` or ``Superseded``."""
        self._commands.put(TakeOver(deployment_id))

    def write(self, session: int, batch: Batch) -> None:
        """One transaction; answered by ``Committed``, or by ``Recycled`` where its fate had to be looked up."""
        self._commands.put(Write(session, batch))

    def defend(self, claimed: int) -> None:
        """A record claims a newer generation: answered by ``Defended``, or by ``Superseded`` if the id is not ours."""
        self._commands.put(Defend(claimed))

    def restore_layout(self, layout: LayoutRecord) -> None:
        """A record contradicts the layout: answered by ``LayoutRestored``, or as a failed ``write`` is."""
        self._commands.put(RestoreLayout(layout))

    def release(self) -> None:
        """Stop writing; answered by ``Released``."""
        self._interrupt.set()
        self._commands.put(Release())

    def close(self, seconds: float) -> None:
        """End the thread and wait for it, at most ``seconds``. What was handed over before is written first."""
        self._commands.put(Close())
        self._interrupt.set()
        if self.is_alive():
            self.join(seconds)

    # --- the thread ---

    def run(self) -> None:
        """Serve commands until closed; a fatal error is passed to the event loop."""
        try:
            while self._serve():
                pass
        except Stop as error:
            self._callback(Failed(error))
        except Exception as error:
            log.exception("the writer crashed")
            self._callback(Failed(crashed("the writer crashed", error)))
        finally:
            self._shard.release()
            self._broker.close()

    def _serve(self) -> bool:
        self._broker.serve()
        try:
            command = self._commands.get(timeout=self._idle_seconds())
        except queue.Empty:
            command = None
        match command:
            case None:
                self._idle()
            case Write(session=session, batch=batch):
                if session == self._shard.session and self._shard.writing:
                    self._transact(batch)
            case TakeOver(deployment_id=deployment_id):
                if not self._interrupt.is_set():
                    self._take_over(deployment_id)
            case Defend(claimed=claimed):
                if self._shard.writing and claimed > self._shard.generation:
                    self._defend(claimed)
            case RestoreLayout(layout=layout):
                if self._shard.writing:
                    self._restore_layout(layout)
            case Release():
                self._interrupt.clear()
                self._shard.release()
                self._callback(Released())
            case Close():
                return False
        if not self._shard.writing:
            self._broker.close()  # nothing polls its reader's errors meanwhile
        return True

    def _idle_seconds(self) -> float:
        if not self._shard.writing:
            return 3600.0
        return max(0.0, min(0.25, self._last_commit + self._heartbeat_seconds - time.monotonic()))

    def _idle(self) -> None:
        if not self._shard.writing:
            return
        if time.monotonic() - self._last_commit >= self._heartbeat_seconds:
            self._transact(None)
            return
        try:
            self._shard.serve()
        except (Recycle, Fenced, Retry) as error:
            self._on_trouble(error)

    def _take_over(self, deployment_id: str | None) -> None:
        event = self._persist(lambda: self._checked_take_over(deployment_id))
        if isinstance(event, TookOver):
            self._last_commit = time.monotonic()
            if event.gap_seconds is not None:
                self._metrics.handover_gap_seconds.set(event.gap_seconds)
            stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in event.stages.items())
            log.info("generation %d: took over in %.3f s (%s)", event.generation, event.seconds, stages)
        if event is not None:
            self._callback(event)
        if isinstance(event, TookOver) and event.generation == 1:
            self._report_lost_generation()

    def _checked_take_over(self, deployment_id: str | None) -> TookOver | Superseded:
        """Take over, and compare the positions with the newest records meanwhile."""
        check = self._broker.position_check()
        self._broker.on_read, self._broker.on_fenced = check.positions_read, check.fenced
        try:
            event = self._shard.take_over(deployment_id)
            if isinstance(event, Superseded):
                return event
            began = time.monotonic()
            checked = check.finish(event.state.positions)
            spent = time.monotonic() - began
            stages = {**event.stages, "records": spent}
            return msgspec.structs.replace(event, checked=checked, stages=stages, seconds=event.seconds + spent)
        finally:
            self._broker.on_read, self._broker.on_fenced = lambda _: None, lambda: None
            check.cancel()

    def _report_lost_generation(self) -> None:
        """The first generation of a topic that has records: the positions are lost, or those of another topic."""
        try:
            recorded = self._broker.trades_recorded()
        except (Retry, Stop) as error:
            log.warning("cannot tell whether generations were lost: %s", error)
            return
        if recorded:
            log.error(
                "generation 1, but the trades topic has records: the positions of this shard are lost, or it is new; "
                "symbols with records are halted until `ingest positions rebuild`"
            )

    def _transact(self, batch: Batch | None) -> None:
        try:
            committed, doubt = self._shard.write(batch)
        except (Recycle, Fenced, Retry) as error:
            self._show_limit()
            self._on_trouble(error)
            return
        self._show_limit()
        if batch is not None:
            self._backoff.succeeded()
        self._metrics.commits.inc(committed.transactions)
        self._metrics.commit_seconds.observe(committed.commit_seconds)
        self._metrics.transaction_seconds.observe(committed.transaction_seconds)
        self._last_commit = time.monotonic()
        self._callback(committed)
        if doubt is not None:
            self._shard.release()
            self._recycle(doubt, f"commit took {committed.commit_seconds:.3f} s")

    def _defend(self, claimed: int) -> None:
        try:
            doubt = self._shard.defend(claimed)
        except (Recycle, Fenced, Retry) as error:
            # Another attempt could fence the newer writer. If there is none, the lease brings the id back.
            log.warning("generation %d writes: standing by (%s)", claimed, error)
            self._shard.release()
            self._callback(Superseded(claimed))
            return
        self._last_commit = time.monotonic()
        self._callback(Defended(self._shard.generation))
        if doubt is not None:
            self._shard.release()
            self._recycle(doubt, "commit of a generation")

    def _restore_layout(self, layout: LayoutRecord) -> None:
        self._layout.accepted = layout  # the follower's: that of the last take-over or recycle may be older
        try:
            doubt = self._shard.restore_layout(layout)
        except (Recycle, Fenced, Retry) as error:
            self._on_trouble(error)
            return
        self._last_commit = time.monotonic()
        self._callback(LayoutRestored())
        if doubt is not None:
            self._shard.release()
            self._recycle(doubt, "commit of the layout")

    def _replace_layout(self, accepted: LayoutRecord, seen: ShardState) -> None:
        if self._broker.replace_layout(accepted, seen):
            self._callback(LayoutRestored())

    def _show_limit(self) -> None:
        self._metrics.transaction_limit.set(self._shard.transaction_limit or 0)

    def _on_trouble(self, error: Recycle | Fenced | Retry) -> None:
        """The producer is of no use any more; only the positions say what came of its last transaction."""
        # At once, and not only where its successor is made: when asked to stop, none is, and batches are still queued.
        self._shard.release()
        match error:
            case Recycle():
                self._metrics.aborts.inc()
                pause = self._backoff.failed(permanent=error.reason == "refused")
                if pause:
                    log.warning(
                        "transaction failed: %s; next attempt in %.1f s", error, pause,
                        extra={"reason": error.reason, "seconds": pause},
                    )  # fmt: skip
                    self._pause(pause)
                self._recycle(error.reason, str(error))
            case Fenced():
                log.warning("fenced: %s", error)
                self._on_fence()
            case Retry():
                # It came as an answer, not as an error of the client: it counts all the same.
                self._metrics.producer_errors.inc()
                log.warning("%s; next try in %g s", error, error.after)
                self._broker.close()  # its reader would try again by itself, unheard and far too often
                if self._access.refused(error) or not self._interrupt.wait(error.after):
                    self._recycle("refused", str(error))

    def _pause(self, seconds: float) -> None:
        """Wait, and serve the clients that stay open: one with refused credentials would try them all the time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._interrupt.wait(min(left, SERVE_SECONDS)):
            self._broker.serve()

    def _on_fence(self) -> None:
        self._callback(FenceDetected())
        event: Superseded | Recycled | None = self._persist(self._fenced_or_recycled)
        if isinstance(event, Recycled):
            self._metrics.recycles.labels("fenced").inc()
            self._last_commit = time.monotonic()
        if event is not None:
            self._callback(event)

    def _fenced_or_recycled(self) -> Superseded | Recycled:
        return self._shard.fenced() or self._shard.recycle("fenced")

    def _recycle(self, reason: str, detail: str) -> None:
        log.warning("replacing the producer (%s): %s", reason, detail)
        self._metrics.recycles.labels(reason).inc()
        event = self._persist(lambda: self._shard.recycle(reason))
        if isinstance(event, Recycled):
            self._last_commit = time.monotonic()
        if event is not None:
            self._callback(event)

    def _persist(self, attempt: Callable[[], _E]) -> _E | Superseded | None:
        """Try until it is decided; None where a request to stop came first. ``Stop`` is for the caller."""
        pauses = full_jitter(initial=RETRY_FIRST_SECONDS, maximum=RETRY_MAX_SECONDS, uniform=random.uniform)
        while not self._interrupt.is_set():
            self._access.wait(self._interrupt, self._broker.close)
            try:
                return attempt()
            except Retry as error:
                if error.after:
                    self._metrics.producer_errors.inc()
                log.warning("%s", error)
                self._broker.close()
                delay = 0.0 if self._access.refused(error) else error.after
            except Recycle as error:
                log.warning("once more: %s", error)
                delay = 0.0
            except Fenced as error:
                log.warning("fenced: %s", error)
                delay = 0.0
                try:
                    newer = self._shard.fenced()
                except Retry as retry:
                    delay = retry.after
                else:
                    if newer is not None:
                        return newer
            self._interrupt.wait(max(delay, next(pauses)))
        return None
