"""Runs the service: the only TaskGroup, and the order of starting and leaving. ``parts`` builds what runs here.

The nesting of context managers is the order of shutting down: first the feed stops, then the writer commits what is
here, then the clients close.
"""

import asyncio
import gc
import importlib
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from ingest import logs
from ingest.binance.symbols import resolve
from ingest.core.errors import ending
from ingest.kafka.schemas import make_encoder, resolve_schema
from ingest.memory import MemoryMonitor
from ingest.metrics import Metrics
from ingest.service.parts import Parts, build
from ingest.service.supervised import Supervision
from ingest.service.workers import symbol_workers
from ingest.settings import Settings, secrets

log = logging.getLogger(__name__)

TIDY_SECONDS = 3.0
"""Of the time for draining, kept for closing sockets, threads and HTTP servers."""
MINIMUM_DRAIN_SECONDS = 0.5


class Finished(Exception):
    """Raised inside the TaskGroup to end the others once everything is committed."""


def run(settings: Settings, supervision: Supervision | None = None) -> int:
    """Run the service until SIGTERM, SIGINT or a reason that only a person can remove.

    With ``supervision`` the supervisor of a fleet says when it ends. Returns 0 when done. Raises ``Stop`` where it
    cannot ever work; anything else that escapes is a bug.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, supervision))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where the extra 'fast' is installed, else asyncio's own."""
    try:
        module = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


async def _run(settings: Settings, supervision: Supervision | None) -> int:
    metrics = Metrics(max_symbols=settings.service.metrics_max_symbols)
    logs.configure(
        settings.service.log_level,
        settings.service.log_format,
        secrets=secrets(settings),
        counter=lambda level: metrics.log_events.labels(level).inc(),
        fields={} if supervision is None else {"shard": settings.shard},
    )
    stop = asyncio.Event()
    gc.freeze()  # what is loaded stays: the collector need not go through it again and again
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop's own handler: one set by signal.signal does not wake an idle loop.
        loop.add_signal_handler(number, stop.set if supervision is None else _ignore)
    try:
        async with AsyncExitStack() as stack:
            parts = await build(settings, metrics, stack, stop)
            await serve(parts, stack, stop, supervision)
    except BaseExceptionGroup as group:
        if (error := ending(group, Finished)) is not None:
            raise error from None
        log.info("done")
    return 0


def _ignore() -> None:
    """Leave a signal to the supervisor."""


async def serve(
    parts: Parts, stack: AsyncExitStack, stop: asyncio.Event, supervision: Supervision | None = None
) -> None:
    """Start everything at once, run it until ``stop`` is set, and leave in order.

    All steps run concurrently: reading the positions, the exchange's symbols, the registry's schema and opening the
    sockets. The goal is a short time to the first commit after a restart.
    """
    writing, receiving = parts.writing, parts.receiving
    writing.threads.start(parts.settings, stack)
    if supervision is not None:
        supervision.attach(parts)
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.inbox.run(parts.handlers()), name="inbox")
        group.create_task(receiving.data_monitor.run(), name="data monitor")
        feeding = [
            group.create_task(receiving.feed.run(), name="feed"),
            group.create_task(receiving.streams.run(), name="streams"),
        ]
        group.create_task(writing.dispatcher.run(), name="dispatcher")
        group.create_task(writing.lease.run(), name="lease")
        group.create_task(writing.peers.run(), name="peers")
        group.create_task(_begin(parts, group), name="begin")
        group.create_task(parts.heartbeat.run(), name="heartbeat")
        group.create_task(_memory(parts).run(), name="memory")
        group.create_task(writing.shadow.run(), name="shadow")
        if supervision is not None:
            group.create_task(supervision.run(parts, stop.set), name="supervision")
        parts.endpoints.announce()
        await stop.wait()
        log.info("stopping: the feed first, then what is queued")
        for task in feeding:
            task.cancel()
        drain_seconds = parts.settings.service.drain_timeout_seconds - TIDY_SECONDS
        await writing.leadership.drain(max(MINIMUM_DRAIN_SECONDS, drain_seconds))
        raise Finished


def _memory(parts: Parts) -> MemoryMonitor:
    service = parts.settings.service
    return MemoryMonitor(
        parts.metrics,
        interval_seconds=service.memory_sample_interval_seconds,
        window_samples=service.memory_window_samples,
    )


async def _begin(parts: Parts, group: asyncio.TaskGroup) -> None:
    """Learn the symbols and the schema; from then on this instance may write. Raises ``Stop``."""
    writing, receiving = parts.writing, parts.receiving
    settings, service = parts.settings, parts.settings.service
    async with asyncio.TaskGroup() as both:
        resolving = both.create_task(
            resolve(
                receiving.history,
                settings.binance,
                shard_index=settings.shard,
                shard_count=service.shard_count,
            ),
            name="exchangeInfo",
        )
        settling = both.create_task(resolve_schema(settings), name="schema")
    choice = resolving.result()
    assets = {name: (info.base_asset, info.quote_asset) for name, info in choice.symbols.items()}
    encoder = make_encoder(settings, parts.metrics, *settling.result(), assets)
    writing.schemas.writes(settings.kafka.topic, *settling.result())
    writing.pipeline.use(encoder)
    writing.shadow.ready(encoder, settling.result())
    parts.start_up.waiting_since = None
    for symbol in choice.symbols:
        writing.pipeline.sequencer.add(symbol)
    await receiving.streams.encode(assets)
    await receiving.streams.add_symbols(choice.symbols)  # whatever Kafka does meanwhile
    await writing.leadership.first_state.wait()
    await receiving.symbols.begin(choice, Assets(encoder, receiving.streams))
    writing.leadership.begin()
    workers = symbol_workers(
        settings,
        parts.metrics,
        writing.pipeline,
        receiving.history,
        receiving.feed,
        receiving.symbols,
        writing.void_limit,
        group,
        writing.leadership.trust,
        receiving.streams.books_missing,
    )
    for name, work in workers.items():
        group.create_task(work, name=name)
    group.create_task(receiving.streams.repair(receiving.history), name="streams' repair")
    group.create_task(writing.schemas.run(), name="schemas")


class Assets:
    """The encoders of all streams, as far as they must know the symbols."""

    def __init__(self, *encoders: Any) -> None:
        self._encoders = encoders

    def add_symbol(self, symbol: str, base_asset: str, quote_asset: str) -> None:
        """Encode this one's records, too."""
        for encoder in self._encoders:
            encoder.add_symbol(symbol, base_asset, quote_asset)
