"""The composition root: the only place that builds things, and the only TaskGroup of the service.

The nesting of context managers is the order of shutting down: first the feed stops, then the writer commits what is
here, then the clients close.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ingest import __version__, logs
from ingest.binance.data_monitor import DataMonitor
from ingest.binance.dialer import make_dialer
from ingest.binance.feed import Feed
from ingest.binance.history import History
from ingest.binance.symbols import resolve, shard_of
from ingest.binance.tls import client_context
from ingest.core.batch import SymbolChanges
from ingest.core.errors import IngestError, ending
from ingest.core.role import Role
from ingest.core.void_evidence import VoidLimit
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.encoding import Encoder
from ingest.kafka.events import WriterEvent
from ingest.kafka.last_stable_offset import StableOffsetWatch
from ingest.kafka.positions_reader import PositionsFollower
from ingest.kafka.schemas import make_encoder, resolve_schema
from ingest.kafka.topic_watch import TopicWatch
from ingest.kafka.void_publisher import VoidPublisher
from ingest.kafka.writer_thread import WriterThread
from ingest.memory import MemoryMonitor
from ingest.metrics import Metrics
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.control_commands import ControlCommands
from ingest.service.handover import Handover
from ingest.service.health_probe import ServiceProbe
from ingest.service.heartbeat import Heartbeat
from ingest.service.http_endpoints import HttpEndpoints
from ingest.service.leadership import WriterLeadership
from ingest.service.loop_commands import LoopCommands
from ingest.service.pipeline import Pipeline
from ingest.service.shadow_runner import ShadowRunner
from ingest.service.status import StatusSources
from ingest.service.stream_set import StreamSet
from ingest.service.symbol_set import SymbolSet
from ingest.service.workers import symbol_workers
from ingest.settings import Settings, secrets

log = logging.getLogger(__name__)

TIDY_SECONDS = 3.0
"""Of the time for draining, kept for closing sockets, threads and doors."""
MINIMUM_DRAIN_SECONDS = 0.5


class Finished(Exception):
    """Raised inside the TaskGroup to end the others once everything is committed."""


def run(settings: Settings) -> int:
    """Run the service until SIGTERM, SIGINT or a reason that only a person can remove.

    Returns 0 when done. Raises ``Stop`` where it cannot ever work; anything else that escapes is a bug.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where the extra 'fast' is installed, else asyncio's own."""
    try:
        module = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


async def _run(settings: Settings) -> int:
    metrics = Metrics(max_symbols=settings.service.metrics_max_symbols)
    logs.configure(
        settings.service.log_level,
        settings.service.log_format,
        secrets=secrets(settings),
        counter=lambda level: metrics.log_events.labels(level).inc(),
    )
    service = Service(settings, metrics)
    gc.freeze()  # what is loaded stays: the collector need not go through it again and again
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop's own handler: one set by signal.signal does not wake an idle loop.
        loop.add_signal_handler(number, service.stop)
    try:
        await service.run()
    except BaseExceptionGroup as group:
        if (error := ending(group, Finished)) is not None:
            raise error from None
        log.info("done")
    return 0


class Service:
    """One running instance."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._waiting_since: float | None = time.monotonic()
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        version = settings.service.version or __version__
        metrics.build.info({"version": version, "revision": settings.service.revision})
        self.probe = ServiceProbe(
            metrics,
            max_commit_age=settings.service.ready_max_commit_age_seconds,
            max_data_overdue=settings.service.ready_max_data_overdue_seconds,
            monotonic=time.monotonic,
            request_snapshot=partial(asyncio.get_running_loop().call_soon_threadsafe, self._news.set),
        )
        self.commands = LoopCommands(asyncio.get_running_loop())
        self.encoder: Encoder | None = None
        self.pipeline = Pipeline(
            metrics=metrics,
            max_trades=settings.service.buffer_max_trades,
            batch_records=settings.kafka.commit_max_records,
            jump_limit=settings.binance.jump_limit,
            dead_letter_max_bytes=settings.kafka.dead_letter_max_bytes,
            monotonic=time.monotonic,
            time_ns=time.time_ns,
        )
        self.void_limit = VoidLimit()
        self.access = AuthBackoff(settings, on_refused=metrics.producer_errors.inc)
        self.watching = ShadowRunner(settings, metrics, self.pipeline, self.access)
        self.stable = StableOffsetWatch(settings, metrics, access=self.access)
        self.topics = TopicWatch(settings, metrics, self._on_loop(self._fail), self.access)
        self.writer = WriterThread(
            settings, metrics, self._on_loop(self._on_writer_event), self.access, topic_watch=self.topics
        )
        self.dispatcher = BatchDispatcher(settings, self.pipeline, self.writer, monotonic=time.monotonic)
        self.leadership = WriterLeadership(
            settings,
            metrics,
            self.pipeline,
            self.writer,
            self.dispatcher,
            monotonic=time.monotonic,
            time_ns=time.time_ns,
            on_role=self._on_role,
            on_symbols=self._on_symbols,
        )
        self.streams = StreamSet(settings, metrics, self.pipeline, last_ids=lambda: self.leadership.positions)
        self.voids = VoidPublisher(settings, metrics, self.access)
        self._on_role(self.leadership.role)

    def _on_writer_event(self, event: WriterEvent) -> None:
        self.leadership.on_writer_event(event)

    def _fail(self, error: IngestError) -> None:
        self.dispatcher.fail(error)

    def _on_symbols(self, changes: SymbolChanges) -> None:
        self.symbols.stored(changes)

    def _on_role(self, role: Role) -> None:
        self.watching.on_role(role)
        self.voids.activate(active=role is Role.ACTIVE)
        self._news.set()

    def stop(self) -> None:
        """Ask for a clean end: drain and exit."""
        self._stop.set()

    def _on_loop(self, call: Callable[[Any], None]) -> Callable[[Any], None]:
        """The same call for other threads: made on the loop, or not at all once it is closed."""
        loop = asyncio.get_running_loop()

        def make(event: Any) -> None:
            try:
                call(event)
            except Exception as error:
                # The loop would log it and go on with half an event taken: end the process instead.
                log.exception("%s could not be taken", type(event).__name__)
                crash = IngestError(f"{type(event).__name__} could not be taken: {type(error).__name__}: {error}")
                crash.__cause__ = error
                self.dispatcher.fail(crash)

        def post(event: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(make, event)

        return post

    async def run(self) -> None:
        """Start everything at once, run it, and leave in order.

        All steps run concurrently: reading the positions, the exchange's symbols, the registry's schema and opening the
        sockets. The goal is a short time to the first commit after a restart.
        """
        settings, leadership = self.settings, self.leadership
        async with AsyncExitStack() as stack:
            doors = stack.enter_context(HttpEndpoints(settings, self.metrics, self.probe, self.commands))
            context = None if _plain(settings) else client_context(settings.binance)
            dialer = make_dialer(settings.binance, os.environ)
            self.history = await stack.enter_async_context(
                History(settings.binance, self.metrics, ssl_context=context, dialer=dialer)
            )
            stack.callback(self.watching.close)
            self.feed = Feed(
                settings.binance,
                settings.connection_lifetime_seconds,
                self.metrics,
                self.pipeline,
                symbols=self._named(),
                ssl_context=context,
                dialer=dialer,
                random=random.SystemRandom(),
            )
            self.streams.connect(self.feed, ssl_context=context, dialer=dialer, random=random.SystemRandom())
            self.symbols = SymbolSet(
                settings, self.metrics, self.pipeline, self.history, self.streams, last_ids=lambda: leadership.positions
            )
            self.commands.serve(
                ControlCommands(
                    handover=Handover(leadership, drain_seconds=settings.service.drain_timeout_seconds),
                    symbols=self.symbols,
                    pipeline=self.pipeline,
                    void_limit=self.void_limit,
                    feed=self.streams,
                    stop=self.stop,
                    writing=lambda: leadership.role is Role.ACTIVE,
                ).handlers
            )
            self.data_monitor = DataMonitor(
                self.metrics,
                self.feed,
                self.history,
                self.pipeline.sequencer.next_ids,
                self.feed.symbols,
                monotonic=asyncio.get_running_loop().time,
            )
            self._start_threads(stack)
            sources = StatusSources(
                settings,
                leadership,
                self.pipeline,
                self.symbols,
                connections=self.feed.status,
                overdue=lambda: self.data_monitor.overdue,
                readers_blocked=lambda: self.stable.stuck,
                topic_problems=lambda: self.topics.problems,
                shadow=lambda: self.watching.comparison,
                streams=self.streams.status,
            )
            heartbeat = Heartbeat(
                self.metrics,
                self.pipeline,
                leadership,
                self.feed,
                self.data_monitor,
                self.probe,
                sources,
                news=self._news,
                waiting_since=lambda: self._waiting_since,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(self.data_monitor.run(), name="data monitor")
                feeding = [
                    group.create_task(self.feed.run(), name="feed"),
                    group.create_task(self.streams.run(), name="streams"),
                ]
                group.create_task(self.dispatcher.run(), name="dispatcher")
                group.create_task(leadership.run_lease(), name="lease")
                group.create_task(self._begin(group), name="begin")
                group.create_task(heartbeat.run(), name="heartbeat")
                group.create_task(self._memory().run(), name="memory")
                group.create_task(self.watching.run(), name="watching")
                doors.announce()
                await self._stop.wait()
                log.info("stopping: the feed first, then what is queued")
                for task in feeding:
                    task.cancel()
                await leadership.drain(
                    max(MINIMUM_DRAIN_SECONDS, settings.service.drain_timeout_seconds - TIDY_SECONDS)
                )
                raise Finished

    def _start_threads(self, stack: AsyncExitStack) -> None:
        fail = self._on_loop(self.dispatcher.fail)
        follower = PositionsFollower(
            self.settings,
            on_first=self._on_loop(self.leadership.on_first_state),
            on_update=self._on_loop(self.leadership.on_state_update),
            on_error=fail,
            access=self.access,
            on_void=self.voids.offer,
        )
        self.writer.read_from(follower.checkpoint)
        self.writer.start()
        stack.callback(self.writer.close, 0.5)
        follower.start()
        stack.callback(follower.close, 0.5)
        self.voids.start()
        stack.callback(self.voids.close)
        self.topics.start()
        stack.callback(self.topics.close)
        if self.settings.kafka.delivery == "exactly-once":
            self.stable.start()
            stack.callback(self.stable.close)

    def _named(self) -> list[str]:
        """The symbols that the settings name for this shard: they can be subscribed before anything else is known."""
        service = self.settings.service
        if "*" in self.settings.binance.symbols:
            return []
        names = [s for s in self.settings.binance.symbols if shard_of(s, service.shard_count) == service.shard_index]
        for name in names:
            self.pipeline.sequencer.add(name)
        return names

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Learn the symbols and the schema; from then on this instance may write. Raises ``Stop``."""
        settings, service = self.settings, self.settings.service
        async with asyncio.TaskGroup() as both:
            resolving = both.create_task(
                resolve(
                    self.history,
                    settings.binance,
                    shard_index=service.shard_index,
                    shard_count=service.shard_count,
                ),
                name="exchangeInfo",
            )
            settling = both.create_task(resolve_schema(settings), name="schema")
        choice = resolving.result()
        assets = {name: (info.base_asset, info.quote_asset) for name, info in choice.symbols.items()}
        self.encoder = make_encoder(settings, self.metrics, *settling.result(), assets)
        self.pipeline.use(self.encoder)
        self.watching.ready(self.encoder, settling.result())
        self._waiting_since = None
        for symbol in choice.symbols:
            self.pipeline.sequencer.add(symbol)
        await self.streams.encode(assets)
        await self.streams.add_symbols(choice.symbols)  # whatever Kafka does meanwhile
        await self.leadership.first_state.wait()
        await self.symbols.begin(choice, Assets(self.encoder, self.streams))
        self.leadership.begin()
        workers = symbol_workers(
            settings,
            self.metrics,
            self.pipeline,
            self.history,
            self.feed,
            self.symbols,
            self.void_limit,
            group,
            self.streams.books_missing,
        )
        for name, work in workers.items():
            group.create_task(work, name=name)
        group.create_task(self.streams.repair(self.history), name="streams' repair")

    def _memory(self) -> MemoryMonitor:
        service = self.settings.service
        return MemoryMonitor(
            self.metrics,
            interval_seconds=service.memory_sample_interval_seconds,
            window_samples=service.memory_window_samples,
        )


class Assets:
    """The encoders of all streams, as far as they must know the symbols."""

    def __init__(self, *encoders: Any) -> None:
        self._encoders = encoders

    def add_symbol(self, symbol: str, base_asset: str, quote_asset: str) -> None:
        """Encode this one's records, too."""
        for encoder in self._encoders:
            encoder.add_symbol(symbol, base_asset, quote_asset)


def _plain(settings: Settings) -> bool:
    """Whether nothing that speaks to the exchange is encrypted (a simulator): no TLS context is needed then."""
    return settings.binance.websocket_url.startswith("ws://") and settings.binance.rest_url.startswith("http://")
