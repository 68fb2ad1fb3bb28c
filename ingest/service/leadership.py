"""Which instance writes: the one place that changes this instance's role.

Kafka's transactional id is the only lock (decision 2). It is taken when ``Lease`` finds no writer, or when an operator
or a deployment says so.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from ingest.binance.symbols import shard_of
from ingest.core.batch import SymbolChanges
from ingest.core.role import Role, RoleEvent, may_write, transition
from ingest.core.trade import Position
from ingest.kafka.events import (
    Committed,
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
from ingest.kafka.position_records import HANDOVER_COUNTS, MOST_GENERATION, WriterRecord
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.kafka.writer_thread import WriterThread
from ingest.metrics import Metrics
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.layout_watch import LayoutWatch
from ingest.service.pipeline import Pipeline
from ingest.service.position_trust import PositionTrust, RecordedBefore
from ingest.settings import Settings

log = logging.getLogger(__name__)


class WriterLeadership:
    """Role and take-over of one instance."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        pipeline: Pipeline,
        writer: WriterThread,
        dispatcher: BatchDispatcher,
        *,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
        on_role: Callable[[Role], None] = lambda _: None,
        on_symbols: Callable[[SymbolChanges], None] = lambda _: None,
        on_recorded: Callable[[RecordedBefore], None] = lambda _: None,
    ) -> None:
        """``on_role`` is called after each change of the role, ``on_symbols`` with stored changes of the symbols.

        ``on_recorded`` is called with the symbols that have recent trades and no position, at each take-over.
        """
        self._settings = settings
        self._metrics = metrics
        self._pipeline = pipeline
        self._writer = writer
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._dispatcher = dispatcher
        self._on_role = on_role
        self._on_symbols = on_symbols
        self._commits = 0
        self.lease_seen = monotonic()
        self.first_state = asyncio.Event()
        """Set once the positions topic has been read to its end."""
        self.ready_to_write = asyncio.Event()
        """Set once symbols and encoder are known."""
        self._released = asyncio.Event()
        self.auto_takeover_disabled = False
        """An operator ordered a stand-by: only an operator or a deployment ends it, no lease."""
        self._deployment: str | None = None
        self.done_deployments: dict[str, int] = {}
        """Promotions that were carried out -> their generation."""
        self._waiters: list[asyncio.Future[None]] = []
        self.layout = LayoutWatch(
            settings.service.shard_count,
            metrics,
            writing=self._holds_id,
            restore=writer.restore_layout,
            fail=dispatcher.fail,
            monotonic=monotonic,
        )
        count = settings.service.shard_count
        self.trust = PositionTrust(
            pipeline, metrics, self._on_trusted, on_recorded, lambda symbol: shard_of(symbol, count) == settings.shard
        )
        self._role_changed = asyncio.Event()
        self.role = Role.SHADOW if settings.service.start_mode == "shadow" else Role.STANDBY
        self.generation = 0
        self.refusal = ""
        """Why this instance must not take over, see ``ShardState.refusal``; empty if nothing is against it."""
        self.state: ShardState | None = None
        self.positions: dict[str, int] = {}
        self._standby_positions: dict[str, Position] = {}
        self.writer_instance = ""
        """The instance that wrote last, "" if none is known."""
        self.last_commit: float | None = None
        self.last_commit_us = 0
        self._show()

    def begin(self) -> None:
        """Symbols and encoder are known: from now on this instance may become the writer."""
        self._pipeline.committed(self.positions, self._standby_positions)
        self.ready_to_write.set()

    # --- roles ---

    def move(self, event: RoleEvent) -> None:
        """Take an event. Raises ``IllegalTransitionError``."""
        before, self.role = self.role, transition(self.role, event)
        if before is not self.role:
            log.info("role: %s -> %s (%s)", before.value, self.role.value, event.value)
        self._dispatcher.allowed = may_write(self.role)
        self._show()
        self._on_role(self.role)
        self._tell_waiters()
        self._role_changed.set()
        self._role_changed = asyncio.Event()

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _show(self) -> None:
        for role in Role:
            self._metrics.role.labels(role.value).set(1 if role is self.role else 0)
        self._metrics.writer_active.set(1 if self.role is Role.ACTIVE else 0)
        self._metrics.generation.set(self.generation)

    async def changed(self) -> None:
        """Wait for a change of the role, or a commit."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def changed_role(self) -> None:
        """Wait for a change of the role."""
        await self._role_changed.wait()

    # --- what the follower of the positions topic sees ---

    def on_state_update(self, update: ShardStateUpdate) -> None:
        """Positions and heartbeats as committed by the writer, this instance included."""
        self.lease_seen = self._monotonic()
        self.refusal = update.refusal
        self._on_writer(update.writer)
        self.layout.stored(update.layout, update.writer)
        claimed = max(update.claimed, 0 if update.writer is None else update.writer.generation)
        if claimed > self.generation or (claimed and self.generation > HANDOVER_COUNTS and not may_write(self.role)):
            self._on_claim(claimed)  # the latter: a forgery led to that number, and was corrected
        if update.symbols is not None:
            self._on_symbols(update.symbols)
        if may_write(self.role):
            return
        self._standby_positions.update(update.positions)
        for symbol in update.removed:
            self._standby_positions.pop(symbol, None)
            self.positions.pop(symbol, None)
        for symbol, position in update.positions.items():
            self.positions[symbol] = position.last_id
        self._pipeline.committed(self.positions, update.positions)

    def _on_claim(self, claimed: int) -> None:
        """A record says that a newer generation writes. It is a claim: the transactional id decides."""
        if self._holds_id():
            self._writer.defend(claimed)
            return
        if claimed >= MOST_GENERATION:
            return  # no writer's
        self._set_generation(claimed)
        if self.role in (Role.ACTIVE, Role.FENCED):
            # Without transactions there is no fence; standing by is the only option. A fenced one need not wait for
            # the newer writer's name.
            log.warning("generation %d writes: standing by", claimed)
            self._metrics.fenced.inc()
            self._dispatcher.close()
            self._writer.release()
            self._step_back(RoleEvent.STAND_DOWN)

    def _holds_id(self) -> bool:
        """Whether this instance writes with a transactional id: a fence refuses its commit if another has it."""
        return self.role is Role.ACTIVE and self._settings.kafka.delivery == "exactly-once"

    def _set_generation(self, generation: int) -> None:
        self.generation = generation
        self._metrics.generation.set(generation)

    def on_first_state(self, state: ShardState) -> None:
        """The positions topic has been read to its end: at the start, and again when the follower restarts."""
        self.state = state
        self.refusal = state.refusal
        self._on_writer(state.writer)
        self.layout.first(state.layout, state.writer)
        if self.role is Role.ACTIVE and state.generation > self.generation:
            self._on_claim(state.generation)
        else:
            self.generation = max(self.generation, state.credible)
        if not may_write(self.role):  # the writer knows more: its commits while that was read
            self._standby_positions.update(state.positions)
            for symbol, position in state.positions.items():
                self.positions[symbol] = position.last_id
            self._pipeline.committed(self.positions, state.positions)
        self._on_symbols(state.symbols)
        self.lease_seen = self._monotonic()
        self.first_state.set()

    def _on_writer(self, writer: WriterRecord | None) -> None:
        self.writer_instance = self.writer_instance if writer is None else writer.instance

    # --- what the writer says ---

    def on_writer_event(self, event: WriterEvent) -> None:
        """Take the writer thread's word, on the loop."""
        match event:
            case Committed():
                self._on_committed(event)
            case TookOver():
                self._on_took_over(event)
            case Recycled():
                self._on_recycled(event)
            case FenceDetected():
                if self.role is Role.ACTIVE:
                    self.move(RoleEvent.FENCED)
            case Superseded():
                self._on_fenced(event)
            case Defended():
                log.error(
                    "a record of the positions topic claimed that a newer generation writes, but the transactional id "
                    "is ours: it was forged. Now writing as generation %d; restrict the topic with an ACL",
                    event.generation,
                )
                self._set_generation(event.generation)
            case LayoutRestored():
                self.layout.restored()
            case Released():
                self._released.set()
            case Failed():
                self._dispatcher.fail(event.error)

    def _on_took_over(self, event: TookOver) -> None:
        if self.role not in (Role.TAKING_OVER, Role.DRAINING):
            # A fence of the time before sent this instance back: the producer must not go on committing heartbeats.
            self._writer.release()
            return
        self._dispatcher.session = event.session
        self.state = event.state
        self.generation = event.generation
        self.layout.read_by_writer(event.state.layout)
        positions = self.trust.took_over(event.state.positions, event.checked)
        self.positions = {symbol: position.last_id for symbol, position in positions.items()}
        if self.role is Role.DRAINING:
            return
        self._pipeline.activate(positions)
        self.trust.activated()
        self.move(RoleEvent.TOOK_OVER)
        self._committed_now()
        self._metrics.handovers.inc()
        self._metrics.handover_seconds.set(event.seconds)
        for stage, seconds in event.stages.items():
            self._metrics.handover_stage_seconds.labels(stage).set(seconds)
        if event.gap_seconds is not None:
            self._metrics.handover_gap_seconds.set(event.gap_seconds)
        if self._deployment is not None:
            self.done_deployments[self._deployment] = event.generation
        log.info(
            "writing as generation %d after %.3f s; %d symbols resume",
            event.generation,
            event.seconds,
            len(self.positions),
        )
        self._dispatcher.wake()

    def _on_trusted(self, positions: Mapping[str, Position]) -> None:
        for name, position in positions.items():
            self.positions[name] = position.last_id
            lane, symbol = self._pipeline.numbered(name)
            lane.begin_at(symbol, position)

    def _on_recycled(self, event: Recycled) -> None:
        if event.session <= self._dispatcher.session or self.role not in (Role.ACTIVE, Role.FENCED, Role.DRAINING):
            return  # a stand-by request arrived first and was already forwarded to the writer
        self._dispatcher.session = event.session
        positions = self.trust.trusted(event.state.positions)
        self._pipeline.rewind(positions)
        self.positions = {symbol: position.last_id for symbol, position in positions.items()}
        self.state = event.state
        self.layout.read_by_writer(event.state.layout)
        if self.role is Role.FENCED:
            self.move(RoleEvent.TOOK_OVER)  # no newer generation was recorded: the id is ours again
        # No commit: where every transaction fails, producer after producer, nothing is committed and that must show.
        self.lease_seen = self._monotonic()
        self._dispatcher.wake()

    def _on_committed(self, event: Committed) -> None:
        self._committed_now()
        if event.session != self._dispatcher.session:
            return
        self._commits += 1
        self._tell_waiters()
        if event.batch is None:
            return
        batch = event.batch
        self._pipeline.acknowledge(batch, event.trades)
        self.positions.update(event.last_ids)
        if batch.oldest_trade_time_us:
            self._metrics.latency.observe((self._time_ns() // 1000 - batch.oldest_trade_time_us) / 1e6)
        self._dispatcher.wake()

    def _committed_now(self) -> None:
        self.last_commit = self.lease_seen = self._monotonic()
        self.last_commit_us = self._time_ns() // 1000
        self._metrics.last_commit.set(self.last_commit_us / 1e6)

    def _on_fenced(self, event: Superseded) -> None:
        self.generation = max(self.generation, event.generation)
        self.layout.superseded(event.generation)
        if self.role in (Role.STANDBY, Role.SHADOW):
            return
        self._metrics.fenced.inc()
        if self.role in (Role.ACTIVE, Role.TAKING_OVER):
            self.move(RoleEvent.FENCED)
        self._step_back(RoleEvent.STAND_DOWN)

    def _step_back(self, event: RoleEvent) -> None:
        self.trust.stand_by()
        self._pipeline.deactivate(warm=self.role is not Role.DRAINING)
        self.lease_seen = self._monotonic()
        self.move(event)

    # --- orders ---

    def take_over(self, deployment_id: str | None) -> None:
        """Reach for the transactional id. A no-op where this instance writes, or is on its way to."""
        if self.role in (Role.STANDBY, Role.SHADOW):
            self.auto_takeover_disabled = False
            self._deployment = deployment_id
            self.move(RoleEvent.TAKE_OVER)
            self._writer.take_over(deployment_id)

    async def drain(self, seconds: float) -> bool:
        """Commit what is here and stop writing. Returns whether everything was committed within ``seconds``."""
        wrote = self.role is Role.ACTIVE
        if self.role is not Role.DRAINING:
            self.move(RoleEvent.DRAIN)
        self.layout.close()
        deadline = self._monotonic() + seconds
        while wrote and self._dispatcher.failed is None and self._monotonic() < deadline:
            self._dispatcher.dispatch(force=True)
            if self._dispatcher.idle:
                break
            await asyncio.sleep(0.01)
        left = self._dispatcher.pending_count if wrote else 0
        await asyncio.to_thread(self._writer.close, max(1.0, deadline - self._monotonic()))
        self.move(RoleEvent.STOP)
        if left:
            log.warning("stopped with %d trades not committed: the next start reads them by id", left)
        return left == 0

    # --- for the hand-over, on the loop ---

    async def confirm_active(self) -> None:
        """Wait until an active instance has committed or was fenced: it may have been fenced without noticing."""
        before = self._commits
        while self.role is Role.ACTIVE and self._commits == before:
            await self.changed()

    async def commit_pending(self, seconds: float) -> None:
        """Take in nothing more and commit what is pending, for at most so long."""
        deadline = self._monotonic() + seconds
        self._pipeline.pause_all()
        while self.role is Role.ACTIVE and self._dispatcher.pending_count and self._monotonic() < deadline:
            self._dispatcher.dispatch(force=True)
            await asyncio.sleep(0.005)

    async def release_producer(self, event: RoleEvent) -> None:
        """Give up the producer and hold what arrives; nothing is in flight afterwards."""
        self._dispatcher.close()
        self._released.clear()
        self._writer.release()
        self._step_back(event)
        await self._released.wait()
