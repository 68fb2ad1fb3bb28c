"""Writers and runs of ``ingest reshard``, interleaved step by step on the model of Kafka, each killed at any of them.

Writers and command are the real code.
"""

import random
from collections.abc import Callable
from typing import Any

import greenlet  # type: ignore[import-untyped]

from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.kafka.events import Superseded
from ingest.kafka.layout import configured
from ingest.kafka.layout_guard import LayoutGuard
from ingest.kafka.positions import LayoutRecord, ShardState, ShardStateBuilder
from ingest.kafka.resharding import Resharding
from ingest.kafka.transactional_writer import TransactionalWriter
from tests.unit.ingest.kafka.resharding_kafka import (
    POSITIONS,
    TRADES,
    CommandPort,
    Kafka,
    Killed,
    WriterPort,
    shard_of,
)

RESTORES = 0.02
"""Rate of transactions with the layout: a forged one could come at any time."""
SYMBOLS = tuple(f"S{number}USDT" for number in range(10))


class Actor(greenlet.greenlet):  # type: ignore[misc]
    """One process."""

    actor = True

    def __init__(self, run: Callable[[], None], name: str) -> None:
        super().__init__(self._guarded)
        self._work = run
        self.name = name
        self.killed = self.begun = False
        self.problem: BaseException | None = None

    def _guarded(self) -> None:
        self.begun = True
        try:
            self._work()
        except Killed:
            pass
        except (Stop, Retry) as error:
            self.problem = error


def guard(port: WriterPort, shards: int) -> LayoutGuard:
    return LayoutGuard(shards, give_up=port.give_up, restore=port.restore, monotonic=lambda: port.kafka.now)


class World:
    """One run of a seed."""

    def __init__(self, seed: int, shards: int) -> None:
        self.dice = random.Random(seed)
        self.kafka = Kafka(self.dice, shards)
        self.shards = shards
        """The number that a new writer is started with; 0: a random one."""
        self.actors: list[Actor] = []
        self.halted: set[str] = set()
        self.accepted: dict[TransactionalWriter, LayoutRecord] = {}
        """Writer -> the layout that it has read behind its fence, and commits again at any time."""

    # --- processes ---

    def writer(self, shard: int, shards: int) -> None:
        """Start a writer."""
        name = f"w{shard}of{shards}-{self.dice.randrange(10**6)}"
        self.start(lambda: self._write(name, shard, shards), name)

    def _write(self, name: str, shard: int, shards: int) -> None:
        port = WriterPort(self.kafka, shard)
        writer = TransactionalWriter(
            port, topic=TRADES, positions_topic=POSITIONS, shard=shard, shards=shards, instance=name,
            require_layout=guard(port, shards),
            monotonic=lambda: self.kafka.now, time_ns=lambda: int(self.kafka.now * 1e9),
        )  # fmt: skip
        own = [symbol for symbol in SYMBOLS if shard_of(symbol, shards) == shard]
        led = False
        while True:
            self.kafka.step()
            try:
                if not writer.writing:
                    led = self._lead(writer, shards, led=led)
                elif self.dice.random() < RESTORES:
                    writer.restore_layout(self.accepted[writer])
                elif own:
                    writer.write(self._batch(writer, own))
                else:
                    writer.write(None)
            except Fenced:
                led = self._fenced(writer, led=led)
            except (Recycle, Retry):
                writer.release()

    def _lead(self, writer: TransactionalWriter, shards: int, *, led: bool) -> bool:
        """Become the writer, or stand by for a while; returns whether it was one."""
        event = writer.recycle("test") if led else writer.take_over(None)
        if isinstance(event, Superseded):
            self._lease()
        else:
            self.accepted[writer] = event.state.layout or configured(shards)
        return writer.writing

    def _fenced(self, writer: TransactionalWriter, *, led: bool) -> bool:
        if writer.fenced() is None:
            return led
        self._lease()
        return False

    def _lease(self) -> None:
        until = self.kafka.now + self.dice.uniform(5, 15)
        while self.kafka.now < until:
            self.kafka.step()

    def _batch(self, writer: TransactionalWriter, own: list[str]) -> Batch | None:
        symbol = self.dice.choice(own)
        position = writer.positions.get(symbol)
        if position is None and symbol in self.recorded():
            writer.write(None)  # fenced where these are its successor's
            self.halted.add(symbol)  # the guard of the records: the topic has some
            return None
        first = 1 if position is None else position.last_id + 1
        return Batch(
            records=[(symbol, first + more, b"%d" % (first + more)) for more in range(self.dice.randint(1, 3))]
        )

    def reshard(self, to: int, *, abort: bool = False) -> Actor:
        """Run the command."""
        name = f"r{to}-{self.dice.randrange(10**6)}"

        def run() -> None:
            with Resharding(
                CommandPort(self.kafka), topic=POSITIONS, configured=self.shards, by=name, shard_of=shard_of,
                time_ns=lambda: int(self.kafka.now * 1e9),
            ) as command:  # fmt: skip
                if abort:
                    command.abort()
                else:
                    command.run(to)

        return self.start(run, name)

    def start(self, run: Callable[[], None], name: str) -> Actor:
        actor = Actor(run, name)
        self.actors.append(actor)
        return actor

    # --- time ---

    def tick(self) -> None:
        """One step of one process."""
        self.actors = [one for one in self.actors if not one.dead]
        self.kafka.now += self.dice.choice((0.01, 0.05, 0.5))
        if self.dice.random() < 0.5:
            self.kafka.mark()
        if self.actors:
            self.dice.choice(self.actors).switch()

    def kill(self, actor: Actor) -> None:
        actor.killed = True
        if actor.begun:
            actor.switch()
        self.actors.remove(actor)

    def until(self, condition: Callable[[], bool], ticks: int) -> None:
        for number in range(ticks):
            if number % 200 == 0 and condition():
                return
            self.tick()
        raise AssertionError("it does not come to its end")

    # --- what is so ---

    def layout(self, shard: int = 0) -> LayoutRecord | None:
        """What a writer of a shard reads, see ``positions_reader.with_layout``."""
        states = self.states()
        return states[shard].layout or (None if states[shard].generation else states[0].layout)

    def states(self) -> list[ShardState]:
        states = []
        for partition in range(self.kafka.partitions):
            builder = ShardStateBuilder()
            for key, value, transaction in self.kafka.logs.get((POSITIONS, partition), []):
                if transaction.committed:
                    builder.apply(key, value)
            states.append(builder.state())
        return states

    def recorded(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key, value, transaction in self.kafka.logs.get((TRADES, 0), []):
            if transaction.committed:
                found.setdefault((key or b"").decode(), []).append(int(value or b""))
        return found

    def problems(self) -> list[str]:
        """What must never be so."""
        found = [f"{symbol} is halted" for symbol in self.halted]
        states, layout = self.states(), self.layout()
        for symbol, ids in self.recorded().items():
            if ids != list(range(1, len(ids) + 1)):
                found.append(f"{symbol}: {ids}")
            holders = {
                shard: state.positions[symbol] for shard, state in enumerate(states) if symbol in state.positions
            }
            if len(holders) != 1 or next(iter(holders.values())).last_id != len(ids):
                found.append(f"{symbol}: {len(ids)} recorded, positions {holders}")
            elif layout is not None and [*holders] != [shard_of(symbol, layout.shards)]:
                found.append(f"{symbol}: in partition {[*holders]} of {layout.shards} shards")
        return found


def settle(world: World, to: int) -> None:
    """Nothing goes wrong any more: bring the number of shards to ``to``, and let every shard write."""
    world.kafka.uncertain = 0.0
    for actor in list(world.actors):
        world.kill(actor)
    command = world.reshard(to)
    for _ in range(20):
        world.until(lambda: command.dead, 20_000)  # noqa: B023 -- it is called before the next one begins
        if command.problem is None:
            break
        command = world.reshard(to)
    assert command.problem is None
    for shard in range(to):
        world.writer(shard, to)
    before = {symbol: len(ids) for symbol, ids in world.recorded().items()}
    later: Callable[[], Any] = world.recorded
    world.until(lambda: all(len(later().get(one, ())) > before.get(one, 0) for one in SYMBOLS), 40_000)
    for actor in list(world.actors):
        world.kill(actor)
    for transaction in world.kafka.last.values():
        transaction.unmarked.clear()
