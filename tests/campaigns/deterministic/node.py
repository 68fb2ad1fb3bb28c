"""One instance of the service on models: everything between the sockets is the real code."""

import asyncio
import queue
import random
from collections.abc import Callable
from typing import Any

from ingest.core.errors import Retry, Stop
from ingest.core.role import Role
from ingest.core.trade import DeadLetter, Trade
from ingest.core.void_evidence import VoidLimit
from ingest.kafka import client as kafka_client
from ingest.kafka import kafka_adapter, producer, writer_thread
from ingest.kafka.kafka_adapter import KafkaAdapter
from ingest.kafka.positions import ShardState, ShardStateBuilder
from ingest.kafka.writer_thread import WriterThread
from ingest.metrics import Metrics
from ingest.service import backfill, initial_positions, stream_set
from ingest.service.backfill import Backfill
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.halt_check import HaltCheck
from ingest.service.handover import Handover
from ingest.service.initial_positions import InitialPositions
from ingest.service.leadership import WriterLeadership
from ingest.service.lease import Lease
from ingest.service.pipeline import Pipeline
from ingest.settings import Settings, load
from tests.campaigns.deterministic.broker import Broker, Place
from tests.campaigns.deterministic.client import ModelProducer, Network
from tests.campaigns.deterministic.exchange import Exchange, Link
from tests.campaigns.deterministic.market import STREAMS, Market
from tests.campaigns.deterministic.market_lanes import Lanes
from tests.campaigns.deterministic.position_check import ModelCheck, ModelRecords
from tests.campaigns.deterministic.records import TextEncoder
from tests.campaigns.deterministic.scheduler import Actor, Event, Loop, Queue, Thread, VirtualTime, enter

METRICS = Metrics(process=False)
TOPIC = "trades"
POSITIONS: Place = (f"{TOPIC}.positions", 0)
LEASE_SECONDS = 3.0
CONFIRM_SECONDS = 2.0
TRANSACTION_SECONDS = 11.0


def _settings(instance: str, streams: str = "trade") -> Settings:
    return load(
        {
            "K2_BINANCE_STREAMS": streams,
            "K2_BINANCE_VOID_CONFIRM_SECONDS": str(CONFIRM_SECONDS),
            "K2_INSTANCE_ID": instance,
            "K2_KAFKA_TOPIC": TOPIC,
            "K2_KAFKA_COMMIT_INTERVAL_MS": "200",
            "K2_TAKEOVER_AFTER_SECONDS": str(LEASE_SECONDS),
            "K2_DRAIN_TIMEOUT_SECONDS": "5",
            "K2_KAFKA_TRANSACTION_TIMEOUT_MS": f"{TRANSACTION_SECONDS * 1000:.0f}",
        }
    )


NAMES = ("blue", "green")
SETTINGS = {name: _settings(name) for name in NAMES}
SETTINGS_OF_ALL = {name: _settings(name, ",".join(("trade", *STREAMS))) for name in NAMES}


REPLACED: tuple[tuple[Any, str], ...] = (
    (writer_thread, "time"),
    (writer_thread, "random"),
    (kafka_adapter, "time"),
    (producer, "Producer"),
    (backfill, "POLL_SECONDS"),
    (initial_positions, "POLL_SECONDS"),
    (stream_set, "time"),
)
"""What ``prepare`` replaces: other tests of the same process want it back."""


def prepare(world: VirtualTime, network: Network, dice: random.Random) -> None:
    """Give the modules under test this run's clock, dice and client library."""
    ModelProducer.network = network
    for (module, name), value in zip(REPLACED, (world, dice, world, ModelProducer, 0.15, 0.25, world), strict=True):
        setattr(module, name, value)


class ModelPort(KafkaAdapter):
    """The writer's port, with the positions read from the model."""

    def __init__(
        self, settings: Settings, interrupt: Any, broker: Broker, world: VirtualTime, dice: random.Random
    ) -> None:
        super().__init__(settings, interrupt, lambda _: None)
        self._model = broker
        self._world = world
        self._dice = dice
        self._builder = ShardStateBuilder()
        self._next = 0
        self._open_behind = False
        self._committed = kafka_client.reader(settings, "ledger", wait_ms=10)["isolation.level"] == "read_committed"

    def read_state(self) -> ShardState:
        thread, deadline = Thread.current(), self._world.now + 60.0
        thread.park(self._dice.uniform(0.002, 0.03))
        while not self._model.up or self._world.now < self._model.frozen_until:
            if self._interrupt.is_set() or self._world.now > deadline:
                raise Retry("the end was not reached", after=1.0)
            thread.park(0.2)
        records, self._next = self._model.read(POSITIONS, self._next, committed=self._committed)
        self._open_behind = self._next < len(self._model.logs.get(POSITIONS, ()))
        for record in records:
            self._builder.apply(record.key, record.value)
        thread.park(self._dice.uniform(0.002, 0.03))  # the answer is on its way
        state = self._builder.state()
        state.require_format()
        self.on_read(state)
        return state

    def unfinished(self) -> bool:
        return self._open_behind

    def position_check(self) -> Any:
        return ModelCheck(self._model, TOPIC)

    def trades_recorded(self) -> bool:
        return False

    def partitions(self) -> int | None:
        return None  # the model has one partition of each topic

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        del letters  # evidence, outside of the transactions: no part of what the judge looks at

    def close(self) -> None:
        pass


class ModelWriter(WriterThread):
    """The real writer's loop on a thread of the scheduler."""

    def __init__(self, settings: Settings, callback: Callable[[Any], None], actor: Actor, network: Network) -> None:
        super().__init__(settings, METRICS, callback)
        self._actor = actor
        self._commands: Any = Queue(queue.Empty)
        self._interrupt: Any = Event()
        self._broker = ModelPort(settings, self._interrupt, network.broker, actor.world, network.dice)
        self._shard._broker = self._broker
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = Thread(self._actor, self.run)

    def is_alive(self) -> bool:
        return self._thread is not None and not self._thread.ended

    def join(self, timeout: float | None = None) -> None:
        thread = self._thread
        if thread is not None and not thread.ended:
            thread.on_end(Thread.current().wake)
            Thread.current().park(timeout)


class Follower:
    """What the positions' follower sees, a moment later."""

    def __init__(self, node: "Node", broker: Broker) -> None:
        self._node = node
        self._broker = broker
        self._builder = ShardStateBuilder()
        self._next = 0
        self._first = True
        self._due = False
        broker.listeners.append(self.news)
        self.news()

    def news(self) -> None:
        if not self._due and not self._node.actor.dead:
            self._due = True
            world = self._node.world
            world.after(self._node.dice.uniform(0.01, 0.15), self._node.actor, self._read)

    def _read(self) -> None:
        self._due = False
        if not self._broker.up or self._node.world.now < self._broker.frozen_until:
            self._due = True
            self._node.world.after(0.3, self._node.actor, self._read)
            return
        records, self._next = self._broker.read(POSITIONS, self._next)
        for record in records:
            self._builder.apply(record.key, record.value)
        leadership, loop = self._node.leadership, self._node.loop
        if self._first:
            self._first = False
            self._builder.update()
            loop.call_soon(leadership.on_first_state, self._builder.state())
        elif self._builder.changed():
            loop.call_soon(leadership.on_state_update, self._builder.update())

    def close(self) -> None:
        self._broker.listeners.remove(self.news)


class Node:
    """One process from its start to its end."""

    def __init__(
        self,
        name: str,
        world: VirtualTime,
        exchange: Exchange,
        network: Network,
        *,
        room: int,
        batch: int,
        market: Market | None = None,
        by: str = "",
        seen: dict[tuple[str, str, str, int], int] | None = None,
    ) -> None:
        """``market``: record its streams, too, as ``by``; see ``Lanes``."""
        self.name = name
        self._market = market
        self._by = by
        self._seen = seen if seen is not None else {}
        self.lanes: Lanes | None = None
        self.world = world
        self.dice = network.dice
        self.actor = Actor(world)
        self.loop = Loop(self.actor)  # type: ignore[abstract]  # what nobody here asks of a loop
        self.exchange = exchange
        self.links: dict[str, Link] = {}
        self.problem: str | None = None
        """Why it ended, if it ended by itself."""
        self.over = False
        self._network = network
        self._room = room
        self._batch = batch
        self._turn = 0
        enter(self.loop)
        try:
            self._build()
        finally:
            enter(None)

    def _build(self) -> None:
        settings, world = (SETTINGS if self._market is None else SETTINGS_OF_ALL)[self.name], self.world
        self.pipeline = Pipeline(
            encoder=TextEncoder(),
            metrics=METRICS,
            max_trades=self._room,
            batch_records=self._batch,
            jump_limit=1_000_000,
            dead_letter_max_bytes=1000,
            monotonic=world.monotonic,
            time_ns=world.time_ns,
        )
        self.writer = ModelWriter(settings, self._post, self.actor, self._network)
        self.dispatcher = BatchDispatcher(settings, self.pipeline, self.writer, monotonic=world.monotonic)
        self.leadership = WriterLeadership(
            settings,
            METRICS,
            self.pipeline,
            self.writer,
            self.dispatcher,
            monotonic=world.monotonic,
            time_ns=world.time_ns,
        )
        self.lease = Lease(settings, self.leadership, world.monotonic)
        self.handover = Handover(self.leadership, drain_seconds=5.0)
        for symbol in self.exchange.books:
            self.pipeline.sequencer.add(symbol)
        if self._market is not None:
            self.lanes = Lanes(
                self._by, settings, METRICS, self.pipeline, self._market, self.actor,
                lambda: self.leadership.positions, self._seen,
            )  # fmt: skip
        self.stop = asyncio.Event()
        self.writer.start()
        self.follower = Follower(self, self._network.broker)
        self.main = self.loop.create_task(self._main())

    def _post(self, event: Any) -> None:
        self.loop.call_soon_threadsafe(self.leadership.on_writer_event, event)

    async def _main(self) -> None:
        try:
            await self._run()
        except* _Finished:
            pass
        except* Exception as group:  # noqa: BLE001  # a process may die of anything
            self.problem = self.problem or repr(group.exceptions)
        self.over = True

    async def _run(self) -> None:
        sequencer, world = self.pipeline.sequencer, self.world
        fill = Backfill(
            self.pipeline,
            self.exchange,
            grace_seconds=0.1,
            confirm_seconds=CONFIRM_SECONDS,
            confirm_replies=3,
            monotonic=world.monotonic,
            page=self.exchange.page,
            void_limit=VoidLimit(per_symbol=1000, unrepresentable_per_shard=1000),
            on_catch_up=lambda _: self._trades_first(fill.asking),
        )
        halts = HaltCheck(self.pipeline, self.exchange, monotonic=world.monotonic)
        start = InitialPositions(
            self.pipeline,
            self.exchange,
            writing=lambda: sequencer.active,
            receiving=lambda _: bool(self.links),
            monotonic=world.monotonic,
        )
        async with asyncio.TaskGroup() as group:
            self.dial()
            group.create_task(self.dispatcher.run())
            group.create_task(self.lease.run())
            group.create_task(fill.run())
            group.create_task(start.run())
            group.create_task(halts.run())
            group.create_task(self._patrol())
            group.create_task(self.leadership.trust.run(ModelRecords(self._network.broker, TOPIC, POSITIONS)))
            if self.lanes is not None:
                group.create_task(self.lanes.run())
                group.create_task(self.lanes.reconnect())
            await asyncio.sleep(self.dice.uniform(0.0, 0.2))
            self.leadership.begin()
            await self.stop.wait()
            self.hang_up()
            if self.lanes is not None:
                self.lanes.close()
            await self.leadership.drain(2.0)
            raise _Finished

    def _trades_first(self, asking: bool) -> None:
        if self.lanes is not None:
            self.lanes.rest.trades_first = asking

    async def _patrol(self) -> None:
        """What the stall monitor does for a symbol that has fallen silent: ask for its last id."""
        while True:
            await asyncio.sleep(5.0)
            try:
                found = await self.exchange.last_ids()
            except Retry:
                continue
            for symbol, last_id in found.items():
                self.pipeline.sequencer.observe_high_watermark(symbol, last_id, self.world.now)

    # --- the exchange's side ---

    def dial(self) -> None:
        """Open one more connection."""
        self._turn += 1
        name = f"g0{'ab'[self._turn % 2]}"
        self.links[name] = self.exchange.connect(name, self.actor, self._on_trades)

    def _on_trades(self, connection: str, trades: list[Trade]) -> None:
        self.pipeline.on_trades(connection, trades)

    def hang_up(self, name: str | None = None) -> None:
        """Lose one connection, or all."""
        for one in list(self.links) if name is None else [name]:
            if one in self.links:
                self.exchange.disconnect(self.links.pop(one))

    # --- ends ---

    @property
    def writing(self) -> bool:
        return not self.over and not self.actor.dead and self.leadership.role is Role.ACTIVE

    def terminate(self) -> None:
        """SIGTERM."""
        self.world.after(0.0, self.actor, self.loop.call_soon, self.stop.set)

    def ask(self, verb: str, number: int) -> None:
        """Give an order by the control API."""

        async def order() -> None:
            try:
                if verb == "promote":
                    await self.handover.promote(f"deployment-{number}", None)
                else:
                    await self.handover.stand_by()
            except (Retry, Stop, TimeoutError):
                pass

        self.world.after(0.0, self.actor, lambda: self.loop.create_task(order()))

    def kill(self) -> None:
        """SIGKILL, or tidying up after a clean end."""
        self.hang_up()
        self.actor.kill()
        if self.lanes is not None:
            self.lanes.close()
        self.loop.unwind()
        self.follower.close()


class _Finished(Exception):
    pass
