"""One seed: a market, one or two instances, a schedule of faults, an end, a verdict."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.campaigns.deterministic.broker import Broker
from tests.campaigns.deterministic.client import Network
from tests.campaigns.deterministic.epilogues import EPILOGUES
from tests.campaigns.deterministic.exchange import Exchange
from tests.campaigns.deterministic.judge import judge
from tests.campaigns.deterministic.market import Market
from tests.campaigns.deterministic.market_faults import MARKET_FAULTS, calm, schedule_wild_ids
from tests.campaigns.deterministic.market_judge import judge as judge_market
from tests.campaigns.deterministic.node import NAMES, TRANSACTION_SECONDS, Node, prepare
from tests.campaigns.deterministic.scheduler import VirtualTime

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
SETTLE_SECONDS = 90.0


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    problems: list[str]
    faults: int
    trades: int
    events: int
    late_ends: int
    schedule: list[str] = field(default_factory=list)


class Scenario:
    """Everything of one seed."""

    def __init__(self, seed: int, *, streams: bool = False) -> None:
        """``streams``: the other streams, too. Of a seed without them nothing changes."""
        self.seed, self.dice = seed, (dice := random.Random(seed))
        self.world = VirtualTime()
        self.broker = Broker(self.world, transaction_timeout=TRANSACTION_SECONDS)
        self.network = Network(self.world, self.broker, random.Random(seed + 1))
        self.exchange = Exchange(self.world, random.Random(seed + 2), SYMBOLS[: dice.randint(1, 3)])
        self.nodes: dict[str, Node] = {}
        self.problems: list[str] = []
        self.schedule: list[str] = []
        self.faults = 0
        self._room = dice.choice((20, 60, 1000))
        self._batch = dice.choice((3, 10, 100))
        self._rate = dice.choice((4, 10, 25))
        self._trading = True
        self._deaf_until = 0.0
        self.orders = 0
        self._epilogue = random.Random(self.seed + 4).choice(EPILOGUES)
        self._names = NAMES[: dice.choice((1, 1, 2))]
        self.network.latency = dice.choice(((0.001, 0.01), (0.001, 0.05), (0.01, 0.2)))
        self.exchange.page = dice.choice((3, 20, 1000))
        self.market = Market(self.world, random.Random(seed + 6), list(self.exchange.books)) if streams else None
        if self.market is not None:
            self.market.latency = random.Random(seed + 7).choice(((0.001, 0.01), (0.02, 0.2)))
        self._peers = random.Random(seed + 8) if seed % 3 == 0 else None
        """In a third of the runs instances learn of each other's end at once, and at times of one that was none."""
        if self.market is not None and seed % 3 == 1:
            schedule_wild_ids(self, self.market, random.Random(seed + 9))
        self.seen: dict[tuple[str, str, str, int], int] = {}
        self._lives = 0
        self._faults = FAULTS if self.market is None else (*FAULTS, *MARKET_FAULTS)
        prepare(self.world, self.network, random.Random(seed + 3))

    # --- the run ---

    def run(self) -> Result:
        dice, world = self.dice, self.world
        for name in self._names:
            world.after(dice.uniform(0.0, 0.5), None, self._start, name)
        world.after(dice.uniform(0.0, 1.0), None, self._tick)
        end = dice.uniform(3.0, 9.0)
        at = 1.0
        while True:
            at += dice.expovariate(1.2)
            if at >= end:
                break
            world.at(at, None, self._fault)
        try:
            world.run(end)
            world.run(self._deaf_until)
            self._heal()
            self.settle()
            if not self.problems and self._epilogue is not None:
                self.schedule.append(self._epilogue.__name__)
                self._epilogue(self, random.Random(self.seed + 5))
                self.settle()
            if not self.problems and self.market is not None:
                calm(self, self.market)
                self.settle()
        finally:
            for node in self.nodes.values():
                node.kill()
        aggregates = {} if self.market is None else self.market.aggregates
        self.problems += judge(self.exchange, self.broker, aggregates)
        if self.market is not None:
            self.problems += judge_market(self.market, self.broker, self.seen)
            self.faults += self.market.injected
        trades = sum(len(books.trades) for books in self.exchange.books.values())
        faults = self.faults + self.exchange.injected + self.network.injected
        return Result(self.seed, self.problems, faults, trades, world.events, self.broker.late_ends, self.schedule)

    def _start(self, name: str) -> None:
        self._lives += 1
        self.nodes[name] = Node(
            name, self.world, self.exchange, self.network, room=self._room, batch=self._batch, market=self.market,
            by=f"{name} {self._lives}", seen=self.seen,
        )  # fmt: skip

    def _tick(self) -> None:
        if self._trading:
            self.exchange.tick(self.dice.choice((1, 1, 1, 2, 5)))
            if self.market is not None:
                self.market.tick(1)
            self.world.after(self.dice.expovariate(self._rate / 1.6), None, self._tick)

    def _heal(self) -> None:
        exchange, world = self.exchange, self.world
        exchange.gap = exchange.duplicate = exchange.swap = exchange.altered = 0.0
        exchange.refuse = exchange.holed = exchange.lag = exchange.late = 0.0
        self.network.heal()
        if self.market is not None:
            self.market.heal()
        for name in self._names:
            node = self.nodes.get(name)
            if node is None or node.over or node.actor.dead:
                self.restart(name)
            else:
                node.actor.thaw()
                if not node.links:
                    node.dial()
                if node.lanes is not None:
                    node.lanes.connect()
        world.run(world.now + 1.0)
        exchange.void = exchange.unusable = 0.0
        self._trading = False
        exchange.last()
        if self.market is not None:
            self.market.last()

    def settle(self) -> None:
        """Wait until all is in the topic and exactly one instance writes, for a while."""
        deadline = self.world.now + SETTLE_SECONDS * (1.0 if self.market is None else 3.0)  # there is more to write
        calm, enough = 0, 2 if len(self._names) == 1 else 9  # longer than a fenced writer waits before it tries again
        turns = 0
        while self.world.now < deadline and calm < enough:
            self.world.run(self.world.now + 0.5)
            turns += 1
            if self.market is not None and not calm and turns % 20 == 0:
                self.market.last()  # nothing else tells a process that has just begun what it has missed
            for name, node in list(self.nodes.items()):
                if node.over:
                    self._ended(node)
                    self.restart(name)
            if any(
                len(node.pipeline.outbox) + node.pipeline.sequencer.pending > 2 * self._room for node in self.alive()
            ):
                self.problems.append("more held than allowed")
            calm = calm + 1 if self._one_writer() and self._complete() else 0
        if calm < enough:
            writers = {name: str(node.leadership.role) for name, node in self.nodes.items()}
            self.problems.append(f"not settled {SETTLE_SECONDS:g} s after everything was mended: {writers}")
        for node in self.alive():
            self.problems += node.loop.crashes

    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if not node.over and not node.actor.dead]

    def _one_writer(self) -> bool:
        if self._all_on_leave():
            self.orders += 1
            self.nodes[self._names[0]].ask("promote", self.orders)
        return sum(node.writing for node in self.alive()) == 1

    def _all_on_leave(self) -> bool:
        return all(node.leadership.auto_takeover_disabled for node in self.alive())

    def _complete(self) -> bool:
        for node in self.alive():
            if node.writing:
                positions = node.leadership.positions
                return self._streams_complete(node) and all(
                    positions.get(symbol, -1) >= max(books.trades, default=-1)
                    for symbol, books in self.exchange.books.items()
                    if books.reset_from is None
                )
        return False

    def _streams_complete(self, node: Node) -> bool:
        if self.market is None:
            return True
        positions, depth = node.leadership.positions, node.pipeline.lanes["depth"]
        return all(
            positions.get(f"depth:{symbol}", -1) >= book.last_id
            and positions.get(f"bookTicker:{symbol}", -1) >= max(book.quotes, default=-1)
            and positions.get(f"aggTrade:{symbol}", -1) >= max(self.market.aggregates[symbol].trades, default=-1)
            and depth.states[symbol].synced  # type: ignore[attr-defined]
            for symbol, book in self.market.books.items()
        )

    def _ended(self, node: Node) -> None:
        if node.problem is not None:
            self.problems.append(f"{node.name} ended: {node.problem}")
        self.problems += node.loop.crashes

    def restart(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and not node.actor.dead:
            node.kill()
        self._start(name)

    # --- faults ---

    def _fault(self) -> None:
        self.faults += 1
        fault = self.dice.choice(self._faults)
        self.schedule.append(f"{self.world.now:.3f} {fault.__name__}")
        fault(self)
        if self._peers is not None and self._peers.random() < 0.2:
            self._report_end(self._peers.choice(self._names))  # a connection was cut: that one goes on

    def _report_end(self, ended: str) -> None:
        """What ``PeerWatch`` does in the other instances when the process of one has ended."""
        for node in self.alive():
            if node.name != ended:
                node.loop.call_soon_threadsafe(node.lease.process_ended, ended)

    def node(self) -> Node | None:
        alive = self.alive()
        return self.dice.choice(alive) if alive else None

    def for_a_while(self, target: object, name: str, value: float) -> None:
        setattr(target, name, value)
        self.world.after(self.dice.uniform(0.3, 3.0), None, setattr, target, name, 0.0)

    def kill(self) -> None:
        node = self.node()
        if node is not None:
            node.kill()
            if self._peers is not None:
                self.world.after(self._peers.choice((0.001, 0.02, 0.3)), None, self._report_end, node.name)
            self.world.after(self.dice.choice((0.05, 0.5, 2.0)), None, self._revive, node.name)

    def _revive(self, name: str) -> None:
        if self.nodes[name].actor.dead:
            self._start(name)

    def terminate(self) -> None:
        node = self.node()
        if node is not None:
            node.terminate()
            self.world.after(self.dice.uniform(0.5, 3.0), None, self._replace, node)

    def _replace(self, node: Node) -> None:
        if self.nodes[node.name] is node and not node.actor.dead:
            if node.over:
                self._ended(node)
            self.restart(node.name)

    def freeze(self) -> None:
        node = self.node()
        if node is not None:
            node.actor.freeze()
            self.world.after(self.dice.choice((0.2, 1.0, 4.0, 8.0)), None, node.actor.thaw)

    def order(self) -> None:
        node = self.node()
        if node is not None:
            self.orders += 1
            node.ask(self.dice.choice(("promote", "promote", "stand_by")), self.orders)

    def drop_connection(self) -> None:
        node = self.node()
        if node is not None and node.links:
            node.hang_up(self.dice.choice(sorted(node.links)))
            if not node.links:
                self.world.after(self.dice.choice((0.05, 0.5, 3.0)), None, self._redial, node)

    def _redial(self, node: Node) -> None:
        if not node.links and not node.over and not node.actor.dead and not node.stop.is_set():
            node.dial()

    def overlap(self) -> None:
        node = self.node()
        if node is not None and len(node.links) == 1 and not node.stop.is_set():
            (old,) = node.links
            node.dial()
            self.world.after(self.dice.uniform(0.2, 1.5), None, self._leave, node, old)

    def _leave(self, node: Node, old: str) -> None:
        if len(node.links) > 1:
            node.hang_up(old)

    def broker_down(self) -> None:
        self.broker.up = False
        self.world.after(self.dice.choice((0.1, 0.7, 3.0, 6.0)), None, setattr, self.broker, "up", True)

    def broker_frozen(self) -> None:
        self.broker.frozen_until = self.world.now + self.dice.choice((0.25, 0.6, 2.0, 5.0))

    def requests_lost(self) -> None:
        self.for_a_while(self.network, "lost", 0.15)

    def answers_lost(self) -> None:
        self.for_a_while(self.network, "unanswered", 0.15)

    def deaf(self) -> None:
        """The broker hears us, we do not hear it, for longer than a transaction may take: outcomes stay unknown."""
        seconds = TRANSACTION_SECONDS + self.dice.uniform(0.5, 2.0)
        self.network.unanswered = 1.0
        self._rate = 2
        self._deaf_until = max(self._deaf_until, self.world.now + seconds)
        self.world.after(seconds, None, setattr, self.network, "unanswered", 0.0)

    def requests_late(self) -> None:
        self.for_a_while(self.network, "late", 0.15)

    def ends_late(self) -> None:
        self.for_a_while(self.network, "late_ends", 0.6)

    def requests_slow(self) -> None:
        self.for_a_while(self.network, "slow", 0.2)

    def deliveries_fail(self) -> None:
        self.for_a_while(self.network, "refused", 0.2)

    def stream_gaps(self) -> None:
        self.for_a_while(self.exchange, "gap", self.dice.choice((0.05, 0.3, 1.0)))

    def stream_duplicates(self) -> None:
        self.for_a_while(self.exchange, "duplicate", 0.3)

    def stream_reorders(self) -> None:
        self.for_a_while(self.exchange, "swap", 0.3)

    def stream_alters(self) -> None:
        self.for_a_while(self.exchange, "altered", 0.2)

    def exchange_voids(self) -> None:
        self.for_a_while(self.exchange, "void", 0.1)

    def exchange_unusable(self) -> None:
        self.for_a_while(self.exchange, "unusable", 0.05)

    def history_refuses(self) -> None:
        self.for_a_while(self.exchange, "refuse", 0.5)

    def history_holed(self) -> None:
        self.for_a_while(self.exchange, "holed", 0.3)

    def history_late(self) -> None:
        self.for_a_while(self.exchange, "late", 0.5)

    def history_lags(self) -> None:
        self.for_a_while(self.exchange, "lag", self.dice.choice((0.3, 2.0)))


Fault = Callable[[Scenario], None]
FAULTS: tuple[Fault, ...] = (
    Scenario.kill,
    Scenario.kill,
    Scenario.terminate,
    Scenario.freeze,
    Scenario.order,
    Scenario.drop_connection,
    Scenario.drop_connection,
    Scenario.overlap,
    Scenario.broker_down,
    Scenario.broker_frozen,
    Scenario.requests_lost,
    Scenario.answers_lost,
    Scenario.deaf,
    Scenario.requests_late,
    Scenario.ends_late,
    Scenario.ends_late,
    Scenario.ends_late,
    Scenario.requests_slow,
    Scenario.deliveries_fail,
    Scenario.stream_gaps,
    Scenario.stream_duplicates,
    Scenario.stream_reorders,
    Scenario.stream_alters,
    Scenario.exchange_voids,
    Scenario.exchange_unusable,
    Scenario.history_refuses,
    Scenario.history_holed,
    Scenario.history_late,
    Scenario.history_lags,
)


def run(seed: int, *, streams: bool = False) -> Result:
    """Play one seed."""
    return Scenario(seed, streams=streams).run()
