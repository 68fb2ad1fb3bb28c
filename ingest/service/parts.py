"""The composition root: the one place that builds the parts of the service.

Each part is whole when it is built, and gets what it needs as values. Where two parts need each other, one of them
reports into the inbox, which exists before both.
"""

import asyncio
import os
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import get_args

from ingest import __version__
from ingest.binance.data_monitor import DataMonitor
from ingest.binance.dialer import make_dialer
from ingest.binance.feed import Feed
from ingest.binance.history import History
from ingest.binance.rest import RestClient
from ingest.binance.symbols import shard_of
from ingest.binance.tls import client_context
from ingest.core.batch import SymbolChanges
from ingest.core.errors import IngestError
from ingest.core.role import Role
from ingest.core.void_evidence import VoidLimit
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.events import WriterEvent
from ingest.kafka.last_stable_offset import StableOffsetWatch
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.kafka.positions_reader import PositionsFollower
from ingest.kafka.problem_report import merged
from ingest.kafka.schema_watch import SchemaWatch
from ingest.kafka.topic_watch import TopicWatch
from ingest.kafka.void_publisher import VoidPublisher
from ingest.kafka.writer_thread import WriterThread
from ingest.metrics import Metrics
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.control_commands import ControlCommands
from ingest.service.handover import Handover
from ingest.service.health_probe import ServiceProbe
from ingest.service.heartbeat import Heartbeat, StartUp
from ingest.service.http_endpoints import HttpEndpoints
from ingest.service.inbox import Handlers, Inbox
from ingest.service.leadership import WriterLeadership
from ingest.service.lease import Lease
from ingest.service.loop_commands import LoopCommands
from ingest.service.peer_watch import PeerWatch
from ingest.service.pipeline import Pipeline
from ingest.service.position_trust import RecordedBefore
from ingest.service.shadow_runner import ShadowRunner
from ingest.service.status import StatusSources
from ingest.service.stream_set import StreamSet
from ingest.service.symbol_set import SymbolSet
from ingest.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Threads:
    """The parts that have a thread of their own. They report into the inbox."""

    follower: PositionsFollower
    writer: WriterThread
    voids: VoidPublisher
    topics: TopicWatch
    stable: StableOffsetWatch

    def start(self, settings: Settings, stack: AsyncExitStack) -> None:
        """Start them; leaving the stack closes them in reverse order."""
        self.writer.start()
        stack.callback(self.writer.close, 0.5)
        self.follower.start()
        stack.callback(self.follower.close, 0.5)
        self.voids.start()
        stack.callback(self.voids.close)
        self.topics.start()
        stack.callback(self.topics.close)
        if settings.kafka.delivery == "exactly-once":
            self.stable.start()
            stack.callback(self.stable.close)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """From the sequenced trades to Kafka."""

    pipeline: Pipeline
    void_limit: VoidLimit
    threads: Threads
    dispatcher: BatchDispatcher
    leadership: WriterLeadership
    schemas: SchemaWatch
    shadow: ShadowRunner
    lease: Lease
    peers: PeerWatch


@dataclass(frozen=True, kw_only=True)
class Receiving:
    """From the exchange to the sequenced trades."""

    history: History
    feed: Feed
    streams: StreamSet
    symbols: SymbolSet
    data_monitor: DataMonitor


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that the service consists of."""

    settings: Settings
    metrics: Metrics
    inbox: Inbox
    endpoints: HttpEndpoints
    writing: Writing
    receiving: Receiving
    heartbeat: Heartbeat
    start_up: StartUp
    handover: Handover

    def handlers(self) -> Handlers:
        """What is done with each report of the inbox, by its type."""
        leadership = self.writing.leadership
        return {
            **dict.fromkeys(get_args(WriterEvent), leadership.on_writer_event),
            ShardState: leadership.on_first_state,
            ShardStateUpdate: leadership.on_state_update,
            SymbolChanges: self.receiving.symbols.stored,
            RecordedBefore: lambda found: self.receiving.symbols.recorded_before(found.symbols),
            IngestError: self.writing.dispatcher.fail,
        }


async def build(settings: Settings, metrics: Metrics, stack: AsyncExitStack, stop: asyncio.Event) -> Parts:
    """Build the parts; the stack closes what was opened. ``stop`` is set when a command asks for a clean end.

    Nothing here waits for the exchange or the broker. Raises ``Stop`` where a port or an address cannot be used.
    """
    start_up, news, inbox = StartUp(time.monotonic()), asyncio.Event(), Inbox()
    metrics.build.info({"version": settings.service.version or __version__, "revision": settings.service.revision})
    probe = _probe(settings, metrics, news)
    commands = LoopCommands(asyncio.get_running_loop())
    endpoints = stack.enter_context(HttpEndpoints(settings, metrics, probe, commands))
    writing = _writing(settings, metrics, inbox, news)
    receiving = await _receiving(settings, metrics, writing, stack)
    handover = Handover(writing.leadership, drain_seconds=settings.service.drain_timeout_seconds)
    commands.serve(_commands(handover, writing, receiving, stop).handlers)
    heartbeat = Heartbeat(
        metrics,
        writing.pipeline,
        writing.leadership,
        receiving.feed,
        receiving.data_monitor,
        probe,
        _sources(settings, writing, receiving),
        news=news,
        start_up=start_up,
    )
    return Parts(
        settings=settings,
        metrics=metrics,
        inbox=inbox,
        endpoints=endpoints,
        writing=writing,
        receiving=receiving,
        heartbeat=heartbeat,
        start_up=start_up,
        handover=handover,
    )


def _probe(settings: Settings, metrics: Metrics, news: asyncio.Event) -> ServiceProbe:
    return ServiceProbe(
        metrics,
        max_commit_age=settings.service.ready_max_commit_age_seconds,
        max_data_overdue=settings.service.ready_max_data_overdue_seconds,
        monotonic=time.monotonic,
        request_snapshot=partial(asyncio.get_running_loop().call_soon_threadsafe, news.set),
    )


def _writing(settings: Settings, metrics: Metrics, inbox: Inbox, news: asyncio.Event) -> Writing:
    pipeline = _pipeline(settings, metrics)
    access = AuthBackoff(settings, on_refused=metrics.producer_errors.inc)
    shadow = ShadowRunner(settings, metrics, pipeline, access)
    schemas = SchemaWatch(settings, metrics)
    threads = _threads(settings, metrics, inbox, access, schemas)
    dispatcher = BatchDispatcher(settings, pipeline, threads.writer, monotonic=time.monotonic)

    def on_role(role: Role) -> None:
        shadow.on_role(role)
        threads.voids.activate(active=role is Role.ACTIVE)
        news.set()

    leadership = WriterLeadership(
        settings,
        metrics,
        pipeline,
        threads.writer,
        dispatcher,
        monotonic=time.monotonic,
        time_ns=time.time_ns,
        on_role=on_role,
        on_symbols=inbox.put,
        on_recorded=inbox.put,
    )
    on_role(leadership.role)
    lease = Lease(settings, leadership, time.monotonic)
    return Writing(
        pipeline=pipeline,
        void_limit=VoidLimit(),
        threads=threads,
        dispatcher=dispatcher,
        leadership=leadership,
        schemas=schemas,
        shadow=shadow,
        lease=lease,
        peers=PeerWatch(
            settings.service.peers,
            instance=settings.service.instance_id,
            metrics=metrics,
            on_ended=lease.process_ended,
            uniform=random.SystemRandom().uniform,
        ),
    )


async def _receiving(settings: Settings, metrics: Metrics, writing: Writing, stack: AsyncExitStack) -> Receiving:
    pipeline, leadership = writing.pipeline, writing.leadership
    context = None if _plain(settings) else client_context(settings.binance)
    dialer = make_dialer(settings.binance, os.environ)
    history = await stack.enter_async_context(
        History(RestClient(settings.binance, metrics, ssl_context=context, dialer=dialer))
    )
    stack.callback(writing.shadow.close)
    feed = Feed(
        settings.binance,
        settings.connection_lifetime_seconds,
        metrics,
        pipeline,
        symbols=_named(settings, pipeline),
        ssl_context=context,
        dialer=dialer,
        random=random.SystemRandom(),
    )
    streams = StreamSet(
        settings, metrics, pipeline, last_ids=lambda: leadership.positions, on_schema=writing.schemas.writes
    )
    streams.connect(feed, ssl_context=context, dialer=dialer, random=random.SystemRandom())
    return Receiving(
        history=history,
        feed=feed,
        streams=streams,
        symbols=SymbolSet(settings, metrics, pipeline, history, streams, last_ids=lambda: leadership.positions),
        data_monitor=DataMonitor(
            metrics,
            feed,
            history,
            pipeline.sequencer.next_ids,
            feed.symbols,
            monotonic=asyncio.get_running_loop().time,
        ),
    )


def _commands(handover: Handover, writing: Writing, receiving: Receiving, stop: asyncio.Event) -> ControlCommands:
    leadership = writing.leadership
    return ControlCommands(
        handover=handover,
        symbols=receiving.symbols,
        pipeline=writing.pipeline,
        void_limit=writing.void_limit,
        feed=receiving.streams,
        stop=stop.set,
        writing=lambda: leadership.role is Role.ACTIVE,
    )


def _sources(settings: Settings, writing: Writing, receiving: Receiving) -> StatusSources:
    threads, shadow, data_monitor = writing.threads, writing.shadow, receiving.data_monitor
    return StatusSources(
        settings,
        writing.leadership,
        writing.pipeline,
        receiving.symbols,
        connections=receiving.feed.status,
        overdue=lambda: data_monitor.overdue,
        readers_blocked=lambda: threads.stable.stuck,
        topic_problems=lambda: merged(threads.topics.problems, writing.schemas.problems),
        shadow=lambda: shadow.comparison,
        streams=receiving.streams.status,
        peers=lambda: {url: dict(states) for url, states in writing.peers.states.items()},
    )


def _pipeline(settings: Settings, metrics: Metrics) -> Pipeline:
    return Pipeline(
        metrics=metrics,
        max_trades=settings.service.buffer_max_trades,
        batch_records=settings.kafka.commit_max_records,
        jump_limit=settings.binance.jump_limit,
        dead_letter_max_bytes=settings.kafka.dead_letter_max_bytes,
        monotonic=time.monotonic,
        time_ns=time.time_ns,
    )


def _threads(settings: Settings, metrics: Metrics, inbox: Inbox, access: AuthBackoff, schemas: SchemaWatch) -> Threads:
    voids = VoidPublisher(settings, metrics, access, on_schema=schemas.writes)
    topics = TopicWatch(settings, metrics, inbox.post, access)
    follower = PositionsFollower(
        settings, on_first=inbox.post, on_update=inbox.post, on_error=inbox.post, access=access, on_void=voids.offer
    )
    writer = WriterThread(settings, metrics, inbox.post, access, topic_watch=topics, checkpoint=follower.checkpoint)
    stable = StableOffsetWatch(settings, metrics, access=access)
    return Threads(follower=follower, writer=writer, voids=voids, topics=topics, stable=stable)


def _named(settings: Settings, pipeline: Pipeline) -> list[str]:
    """The symbols that the settings name for this shard: they can be subscribed before anything else is known."""
    service = settings.service
    if "*" in settings.binance.symbols:
        return []
    names = [s for s in settings.binance.symbols if shard_of(s, service.shard_count) == settings.shard]
    for name in names:
        pipeline.sequencer.add(name)
    return names


def _plain(settings: Settings) -> bool:
    """Whether nothing that speaks to the exchange is encrypted (a simulator): no TLS context is needed then."""
    return settings.binance.websocket_url.startswith("ws://") and settings.binance.rest_url.startswith("http://")
