"""The simulator as a whole: builds the exchange from options, listens, and runs until a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.simulator.admin import Admin
from ingest.simulator.books import Books
from ingest.simulator.derived import Derived
from ingest.simulator.derived_events import Sources
from ingest.simulator.drivers import Driver, MarketDriver
from ingest.simulator.exchange import Exchange
from ingest.simulator.frames import Layout
from ingest.simulator.http_server import HttpServer
from ingest.simulator.injection import FaultError, Injector
from ingest.simulator.ledger import Ledger
from ingest.simulator.market import SINGLE, SKEW, Listing, Market, edge_listings
from ingest.simulator.plan import Step
from ingest.simulator.replay import replay_driver
from ingest.simulator.rest import Response, RestApi
from ingest.simulator.rules import ExchangeClock, Rules
from ingest.simulator.seeded_book import LEVELS, ORDERS
from ingest.simulator.state_folder import StateError, StateFolder
from ingest.simulator.streams import Streams
from ingest.simulator.tls import Flaw, server_context

log = logging.getLogger(__name__)

KEEPER_S = 0.05
DERIVED_S = 0.01
BYTES_PER_TRADE = 80
"""Its columns and aggregate, and as much again that is free until the columns are compacted."""
SMALL_BURST = 50


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be chosen at the start."""

    symbols: tuple[Listing, ...] = ()
    rate: float = 100.0
    seed: int = 1
    burst: int = 900
    single: float = SINGLE
    skew: float = SKEW
    replay: Path | None = None
    speed: float = 1.0
    paused: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    rest_port: int = 0
    admin_port: int = 0
    ready_file: Path | None = None
    state: Path | None = None
    state_mb: int = 64
    """Of each of its two files."""
    keep: int | None = None
    memory_mb: float = 768.0
    edges: bool = False
    book_levels: int = LEVELS
    book_orders: float = ORDERS
    layout: Layout = "current"
    weight_limit: int = 6000
    history_lag_s: float = 0.0
    retention: int | None = None
    rules: Rules = field(default_factory=Rules)
    tls: bool = False
    tls_dir: Path | None = None
    tls_names: tuple[str, ...] = ()
    tls_flaw: Flaw = "none"
    plan: Iterable[Step] = ()


class Simulator:
    """One exchange with its three servers. Use ``serve``."""

    def __init__(self, options: Options, announce: Callable[[Mapping[str, object]], None] = lambda _: None) -> None:
        """Raises ``recording.RecordingError``, ``StateError``, OSError and ValueError for what cannot be used.

        A folder of ``options.state`` is held until ``serve`` has ended.
        """
        self._options = options
        self._announce = announce
        self.counters: Counter[str] = Counter()
        self.clock = ExchangeClock()
        self.ledger = Ledger()
        self.streams = Streams(options.rules, self.clock, self.counters)
        self._state = self._keep_state()
        self.books = Books(
            self.ledger, seed=options.seed, levels=options.book_levels, orders=options.book_orders, price=self._price
        )
        rest = RestApi(
            self.ledger,
            now_us=self.clock.now_us,
            weight_limit=options.weight_limit,
            retention=options.retention,
            history_lag_us=int(options.history_lag_s * 1e6),
            market_now_us=lambda: self.driver.now_us(),
            books=self.books,
            seed=options.seed,
        )
        self.exchange = Exchange(
            self.ledger, self.streams, rest, clock=self.clock, counters=self.counters, layout=options.layout
        )
        self.derived = Derived(
            self.exchange,
            Sources(
                self.books,
                rest.candles,
                rest.blocks,
                now_us=lambda: self.driver.now_us(),
                settled_us=lambda: self.driver.settled_us(),
            ),
        )
        self.driver = self._driver()
        rest.block_trades = self.driver.market is not None
        self.injector = Injector(self.exchange, self.driver, self.derived)
        self._rest = HttpServer(self._rest_call)
        self._admin = HttpServer(Admin(self.exchange, self.driver, self.injector, self.derived).handle, guarded=True)
        self.stopping = asyncio.Event()
        self.listening = asyncio.Event()
        self.ready: dict[str, object] = {}
        if self._state is not None:
            self._trim()

    def _listings(self) -> Sequence[Listing]:
        options = self._options
        return edge_listings(options.symbols) if options.edges else options.symbols

    def _keep_state(self) -> StateFolder | None:
        """What happened before a restart, and from now on a journal that is written before what it tells is sent."""
        options = self._options
        if options.state is None:
            return None
        if options.replay is not None:
            raise ValueError("--state and --replay exclude each other: a recording is the same at each start by itself")
        symbols = ",".join(f"{one.base}/{one.quote}" for one in self._listings())
        identity = {"seed": options.seed, "symbols": symbols, "edges": options.edges}
        state = StateFolder(options.state, self.ledger, identity, most_bytes=options.state_mb * 2**20)
        self.streams.before_flush.append(state.journal.flush)
        return state

    def _driver(self) -> Driver:
        options = self._options
        if options.replay is not None:
            listings = {listing.symbol: listing for listing in options.symbols}
            return replay_driver(
                self.exchange, self.derived, options.replay, listings, speed=options.speed, running=not options.paused
            )
        burst = min(options.burst, max(SMALL_BURST, int(options.rate)))  # else a slow market is all bursts and silence
        market = Market(
            self.ledger, self._listings(), seed=options.seed, burst=burst, single=options.single, skew=options.skew,
            at_edges=options.edges,
        )  # fmt: skip
        return MarketDriver(
            self.exchange, market, rate=options.rate, running=not options.paused, at_edges=options.edges
        )

    def _price(self, symbol: str) -> int:
        return 0 if self.driver.market is None else self.driver.market.price(symbol)

    def _rest_call(self, method: str, target: str, headers: dict[str, str], body: bytes, ip: str) -> Response | None:
        path, _, query = target.partition("?")
        return self.exchange.rest.handle(method, path, query, headers, ip)

    async def serve(self) -> None:
        """Listen, write the ready file, and trade until ``stopping`` is set or the task is cancelled."""
        options = self._options
        host = options.host
        secure = "s" if options.tls else ""
        async with AsyncExitStack() as exits:
            if self._state is not None:
                exits.callback(self._state.close)
            context = ca_file = None
            if options.tls:
                directory = options.tls_dir or Path(exits.enter_context(TemporaryDirectory(prefix="k2-simulator-")))
                context, ca_file = server_context(directory, host, names=options.tls_names, flaw=options.tls_flaw)
            for server in (self._admin, self._rest, self.streams):
                exits.push_async_callback(server.stop)
            port = await self.streams.start(host, options.port, context)
            rest_port = await self._rest.start(host, options.rest_port, context)
            admin_port = await self._admin.start(host, options.admin_port, None)
            self.ready = {
                "pid": os.getpid(),
                "ws_url": f"ws{secure}://{host}:{port}",
                "rest_url": f"http{secure}://{host}:{rest_port}",
                "admin_url": f"http://{host}:{admin_port}",
            }
            if ca_file is not None:
                self.ready["ca_file"] = str(ca_file)
            if options.ready_file is not None:
                _write_ready(options.ready_file, self.ready)
            self.listening.set()
            self._announce(self.ready)
            log.info("simulator ready: %s", self.ready)
            async with asyncio.TaskGroup() as group:
                jobs = [
                    group.create_task(self.driver.run(), name="driver"),
                    group.create_task(self._keep(), name="keeper"),
                    group.create_task(self._derive(), name="derived"),
                    group.create_task(self._follow(), name="plan"),
                ]
                await self.stopping.wait()
                for job in jobs:
                    job.cancel()

    async def _follow(self) -> None:
        """Inject what the plan says."""
        await self.driver.started.wait()
        began = self.streams.now()
        for step in self._options.plan:
            await asyncio.sleep(max(0.0, began + step.at - self.streams.now()))
            if self.injector.plan_ended:
                return
            try:
                self.injector.inject(step.kind, step.options)
            except FaultError as error:
                self.counters["plan_failed"] += 1
                log.warning("fault %s of the plan cannot be done: %s", step.kind, error)
            else:
                self.counters["plan_done"] += 1

    async def _keep(self) -> None:
        """What has to be done every now and then."""
        trim_at = 0.0
        while True:
            await asyncio.sleep(KEEPER_S)
            now = self.streams.now()
            await self.streams.accept()
            self.exchange.release(now)
            self.streams.flush()
            if now >= trim_at:
                trim_at = now + 1.0
                self._trim()

    async def _derive(self) -> None:
        """Send what is due of the streams besides trades, while anything of them is subscribed."""
        while True:
            await asyncio.sleep(DERIVED_S if self.streams.others else KEEPER_S)
            self.derived.poll(self.streams.now())
            self.streams.flush()

    def _trim(self) -> None:
        """Forget the oldest trades beyond ``keep`` for each symbol and ``memory_mb`` for all."""
        self.books.trim(self._options.memory_mb / 4)
        symbols = self.ledger.symbols.values()
        held = sum(len(symbol.held) for symbol in symbols)
        most = int(self._options.memory_mb * 2**20 / BYTES_PER_TRADE)
        share = min(1.0, most / held) if held else 1.0
        for symbol in symbols:
            keep = len(symbol.held) if share == 1.0 else int(len(symbol.held) * share)
            symbol.trim(keep if self._options.keep is None else min(keep, self._options.keep))


async def run(options: Options, announce: Callable[[Mapping[str, object]], None] = lambda _: None) -> None:
    """Run a simulator until SIGTERM or SIGINT. ``announce`` gets its addresses once all of them answer.

    Raises what ``Simulator`` raises, and StateError where trades can no longer be kept.
    """
    simulator = Simulator(options, announce)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # not on Windows
            loop.add_signal_handler(number, simulator.stopping.set)
    try:
        await simulator.serve()
    except ExceptionGroup as group:
        failed = group.subgroup(StateError)
        if failed is None:
            raise
        raise failed.exceptions[0] from group


def _write_ready(path: Path, ready: dict[str, object]) -> None:
    """Write the file whole or not at all."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(ready) + "\n")
    draft.replace(path)
