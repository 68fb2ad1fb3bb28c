"""The composition root: the only place that builds things, and the only TaskGroup of the service.

The nesting of context managers is the order of shutting down: first the feed stops, then the writer commits what is
here, then the clients close.
"""

import asyncio
import logging
import random
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

from ingest import __version__
from ingest.binance.feed import Feed
from ingest.binance.health import StallMonitor
from ingest.binance.history import History
from ingest.binance.symbols import Changes, SymbolInfo, refresh, resolve
from ingest.binance.tls import client_context
from ingest.core.errors import Stop
from ingest.kafka.positions import PositionsFollower
from ingest.kafka.schemas import open_encoder
from ingest.kafka.writer import Writer
from ingest.memory import MemoryMonitor
from ingest.metrics import Metrics
from ingest.service.backfill import Backfill
from ingest.service.baselines import Baselines
from ingest.service.commands import LoopCommands, operator_void
from ingest.service.doors import Doors
from ingest.service.pipeline import Pipeline
from ingest.service.probe import ServiceProbe, Snapshot
from ingest.service.status import status
from ingest.service.supervisor import Supervisor
from ingest.settings import Settings

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0


class Finished(Exception):
    """Raised inside the TaskGroup to end the others once everything is committed."""


def run(settings: Settings) -> int:
    """Run the service until SIGTERM, SIGINT or a reason that only a person can remove.

    Returns 0 when done. Raises ``Stop`` where it cannot ever work; anything else that escapes is a bug.
    """
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    service = Service(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop's own handler: one set by signal.signal does not wake an idle loop.
        loop.add_signal_handler(number, service.stop)
    try:
        await service.run()
    except* Finished:
        log.info("done")
    except* Stop as group:
        raise _first(group) from None
    return 0


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Service:
    """One running instance."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(max_symbols=settings.service.metrics_max_symbols)
        self.symbols: dict[str, SymbolInfo] = {}
        self._stop = asyncio.Event()
        version = settings.service.version or __version__
        self.metrics.build.info({"version": version, "revision": settings.service.revision})
        self.probe = ServiceProbe(
            self.metrics, max_commit_age=settings.service.ready_max_commit_age_seconds, monotonic=time.monotonic
        )
        self.commands = LoopCommands(asyncio.get_running_loop())

    def stop(self) -> None:
        """Ask for a clean end: drain and exit."""
        self._stop.set()

    async def run(self) -> None:
        """Build everything, run it, and leave in order."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            doors = stack.enter_context(Doors(settings, self.metrics, self.probe, self.commands))
            plain = settings.binance.websocket_url.startswith("ws://") and settings.binance.rest_url.startswith(
                "http://"
            )
            context = None if plain else client_context(settings.binance)
            history = await stack.enter_async_context(History(settings.binance, self.metrics, ssl_context=context))
            self.history = history
            doors.announce()
            self.symbols = await self._or_stop(
                resolve(
                    history,
                    settings.binance,
                    shard_index=settings.service.shard_index,
                    shard_count=settings.service.shard_count,
                )
            )
            assets = {name: (info.base_asset, info.quote_asset) for name, info in self.symbols.items()}
            encoder = await self._or_stop(open_encoder(settings, self.metrics, assets))
            for symbol in self.symbols:
                self.metrics.symbol_label(symbol)
            pipeline = Pipeline(
                encoder=encoder,
                metrics=self.metrics,
                max_trades=settings.service.buffer_max_trades,
                batch_records=settings.kafka.commit_max_records,
                jump_limit=settings.binance.jump_limit,
                dead_letter_max_bytes=settings.kafka.dead_letter_max_bytes,
                monotonic=time.monotonic,
                time_ns=time.time_ns,
            )
            for symbol in self.symbols:
                pipeline.sequencer.add(symbol)
            self.pipeline = pipeline
            self.encoder = encoder

            def on_loop(call: Any) -> Any:
                def post(event: Any) -> None:
                    if not loop.is_closed():
                        loop.call_soon_threadsafe(call, event)

                return post

            supervisor: Supervisor
            writer = Writer(settings, self.metrics, on_loop(lambda event: supervisor.on_writer(event)))
            supervisor = self.supervisor = Supervisor(
                settings, self.metrics, pipeline, writer, monotonic=time.monotonic, time_ns=time.time_ns
            )
            follower = PositionsFollower(
                settings,
                on_first=on_loop(supervisor.on_first_ledger),
                on_update=on_loop(supervisor.on_ledger),
            )
            writer.start()
            stack.callback(writer.close, 1.0)
            follower.start()
            stack.callback(follower.close)
            feed = self.feed = Feed(
                settings.binance,
                settings.connection_lifetime_seconds,
                self.metrics,
                pipeline,
                symbols=list(self.symbols),
                ssl_context=context,
                random=random.SystemRandom(),
            )
            self._verbs()
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(feed.run(), name="feed")
                backfill = Backfill(
                    pipeline,
                    history,
                    grace_seconds=settings.binance.gap_grace_seconds,
                    confirm_seconds=settings.binance.void_confirm_seconds,
                    confirm_replies=settings.binance.void_confirm_replies,
                    monotonic=time.monotonic,
                )
                baselines = Baselines(
                    pipeline,
                    history,
                    writing=lambda: pipeline.sequencer.active,
                    receiving=feed.receiving,
                    monotonic=time.monotonic,
                )
                stalls = StallMonitor(
                    settings.binance, self.metrics, feed, history, pipeline.sequencer.next_ids, self._on_stalled
                )
                group.create_task(backfill.run(), name="backfill")
                group.create_task(baselines.run(), name="baselines")
                group.create_task(stalls.run(), name="stalls")
                group.create_task(supervisor.run_pump(), name="pump")
                group.create_task(supervisor.run_lease(), name="lease")
                group.create_task(self._beat(), name="beat")
                group.create_task(
                    refresh(
                        history,
                        settings.binance,
                        lambda: self.symbols,
                        lambda changes: self._on_changes(changes, group),
                        shard_index=settings.service.shard_index,
                        shard_count=settings.service.shard_count,
                    ),
                    name="symbols",
                )
                monitor = MemoryMonitor(
                    self.metrics,
                    interval_seconds=settings.service.memory_sample_interval_seconds,
                    window_samples=settings.service.memory_window_samples,
                )
                group.create_task(monitor.run(), name="memory")
                await self._stop.wait()
                log.info("stopping: the feed first, then what is queued")
                feeding.cancel()
                await supervisor.drain(settings.service.drain_timeout_seconds)
                raise Finished

    async def _or_stop(self, waiting: Any) -> Any:
        """Wait for something at the start, but not past a request to stop."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(waiting)
            stop = group.create_task(self._stop.wait())
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not work.done():
                work.cancel()
                raise Finished
        return work.result()

    def _verbs(self) -> None:
        """The control API's commands."""
        supervisor = self.supervisor

        async def promote(arguments: dict[str, Any]) -> dict[str, Any]:
            return await supervisor.promote(str(arguments["deployment_id"]), arguments.get("generation"))

        async def stand_by(_: dict[str, Any]) -> dict[str, Any]:
            return await supervisor.stand_by()

        async def drain(_: dict[str, Any]) -> dict[str, Any]:
            self.stop()
            return {"state": "draining"}

        async def rotate(arguments: dict[str, Any]) -> dict[str, Any]:
            return {"rotating": self.feed.rotate("operator", arguments.get("connection"))}

        async def symbols(arguments: dict[str, Any]) -> dict[str, Any]:
            return await self._change_symbols(arguments.get("add") or [], arguments.get("remove") or [])

        async def thaw(arguments: dict[str, Any]) -> dict[str, Any]:
            return self._thaw(
                str(arguments["symbol"]), int(arguments["next_id"]), str(arguments.get("actor", "operator"))
            )

        for verb in (promote, stand_by, drain, rotate, symbols, thaw):
            self.commands.add(verb.__name__, verb)

    async def _change_symbols(self, add: list[str], remove: list[str]) -> dict[str, Any]:
        """Record more or fewer symbols from now on. Raises ``Stop`` for one that the exchange does not have."""
        new = [symbol for symbol in add if symbol not in self.symbols]
        if new:
            infos = await self.history.exchange_info(new)
            unknown = sorted(set(new) - set(infos))
            if unknown:
                raise Stop(f"the exchange has no symbol {', '.join(unknown)}: nothing was changed")
            await self._add([infos[symbol] for symbol in new])
        gone = [symbol for symbol in remove if symbol in self.symbols]
        if gone:
            await self.feed.remove_symbols(gone)
            for symbol in gone:
                del self.symbols[symbol]
                self.pipeline.sequencer.remove(symbol)
        return {"added": new, "removed": gone, "symbols": len(self.symbols)}

    def _thaw(self, symbol: str, next_id: int, actor: str) -> dict[str, Any]:
        """An operator says where a frozen symbol goes on; what is passed over is recorded as a void of his."""
        lane = self.pipeline.sequencer.lanes.get(symbol)
        if lane is None or lane.frozen is None or lane.next_id is None:
            raise Stop(f"{symbol} is not frozen")
        void = operator_void(symbol, next_id, lane.next_id, actor)
        lane.frozen = None
        self.pipeline.void(void)
        return {"symbol": symbol, "next_id": next_id, "voided": void.count}

    async def _beat(self) -> None:
        """Say once a second that the loop turns, and how everything stands."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            self.metrics.loop_lag.set(max(0.0, now - due))
            self.pipeline.publish()
            supervisor = self.supervisor
            self.probe.beat(
                Snapshot(
                    at=now,
                    role=supervisor.role,
                    last_commit=supervisor.last_commit,
                    lease_seen=supervisor.lease_seen,
                    connections_live=sum(1 for connection in self.feed.status() if connection.live),
                    status=status(self),
                )
            )
            due = now + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)

    def _on_stalled(self, last_ids: dict[str, int]) -> None:
        for symbol, last_id in last_ids.items():
            self.pipeline.sequencer.notice(symbol, last_id, time.monotonic())

    def _on_changes(self, changes: Changes, group: asyncio.TaskGroup) -> None:
        for old, new in changes.changed:
            log.warning("%s: %s -> %s", old.symbol, old.status, new.status if new is not None else "delisted")
            if new is not None:
                self.symbols[old.symbol] = new
        if changes.listed:
            group.create_task(self._add(changes.listed), name="add symbols")

    async def _add(self, infos: list[SymbolInfo]) -> None:
        for info in infos:
            self.symbols[info.symbol] = info
            self.encoder.add_symbol(info.symbol, info.base_asset, info.quote_asset)
            self.metrics.symbol_label(info.symbol)
            self.pipeline.sequencer.add(info.symbol)
            ledger = self.supervisor.ledger
            position = ledger.positions.get(info.symbol) if ledger is not None else None
            if position is not None and self.pipeline.sequencer.active:
                self.pipeline.sequencer.start(info.symbol, position.next_id, time.monotonic())
        await self.feed.add_symbols([info.symbol for info in infos])
        log.info("recording %d more symbols: %s", len(infos), ", ".join(info.symbol for info in infos))
