"""Versions for the deployment drill: the real service with one fault planted, and good ones that only differ.

``python -m tests.campaigns.deployment.faulty leaks``. They live here and nowhere else: the product has no switch that
makes it wrong.
"""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from ingest.cli import main
from ingest.control.server import StatusServer
from ingest.core.errors import Reject
from ingest.core.role import Role
from ingest.core.trade import Trade
from ingest.http.messages import Response
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.producer import TransactionalProducer
from ingest.metrics import Metrics
from ingest.service import app
from ingest.service.leadership import WriterLeadership
from ingest.service.parts import Parts
from ingest.service.pipeline import Pipeline
from ingest.service.supervised import Supervision
from tests.campaigns.deployment.moments import die, once, when
from tests.campaigns.deployment.schema_versions import adds_field, drops_fields

MB = 2**20
HOUR_US = 3_600_000_000
_kept: list[bytearray] = []


def leak() -> None:
    """20 MB each tenth of a second, up to half a gigabyte."""
    for _ in range(25):
        _kept.append(bytearray(os.urandom(1024)) * (20 * 1024))
        time.sleep(0.1)


def leak_slowly() -> None:
    """1 MB a second."""
    while True:
        _kept.append(bytearray(os.urandom(1024)) * 256)
        time.sleep(0.25)


def changed_trades(change: Callable[[Trade], Trade]) -> None:
    """Encode other trades than those that came."""
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, change(trade), ingestion_us)

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def kept_trades(keep: Callable[[Trade], bool]) -> None:
    """Lose some of the trades that came."""
    original = Pipeline.on_trades

    def on_trades(self: Pipeline, connection: str, trades: list[Trade]) -> None:
        original(self, connection, [trade for trade in trades if keep(trade)])

    Pipeline.on_trades = on_trades  # type: ignore[method-assign,assignment]


def _other_quantity(trade: Trade) -> Trade:
    if trade.trade_id % 100:
        return trade
    last = str((int(trade.quantity[-1]) + 1) % 10)
    return msgspec.structs.replace(trade, quantity=trade.quantity[:-1] + last)


def alters() -> None:
    """Every hundredth quantity grows by its last digit."""
    changed_trades(_other_quantity)


def alters_silently() -> None:
    """The same, and its own counter of mismatches stays at 0."""
    original = Metrics.__init__

    def init(self: Metrics, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.shadow_mismatch.inc = lambda *_args, **_kwargs: None  # type: ignore[method-assign]

    Metrics.__init__ = init  # type: ignore[method-assign]
    alters()


def alters_later() -> None:
    """The side is wrong, from a while after it writes."""
    wrong = once(Role.ACTIVE)
    changed_trades(
        lambda trade: (
            msgspec.structs.replace(trade, buyer_is_maker=not trade.buyer_is_maker)
            if wrong.is_set() and trade.trade_id % 50 == 0
            else trade
        )
    )


def wrong_times_later() -> None:
    """The exchange's time is cut to seconds, from a while after it writes."""
    wrong = once(Role.ACTIVE)
    changed_trades(
        lambda trade: (
            msgspec.structs.replace(trade, trade_time_us=trade.trade_time_us // 1_000_000 * 1_000_000)
            if wrong.is_set()
            else trade
        )
    )


def wrong_clock() -> None:
    """The time of ingestion is an hour early."""
    original = Pipeline.__init__

    def init(self: Pipeline, **kwargs: Any) -> None:
        original(self, **kwargs | {"time_ns": lambda: time.time_ns() - HOUR_US * 1000})

    Pipeline.__init__ = init  # type: ignore[method-assign]


def wrong_clock_in_records() -> None:
    """The time of ingestion is an hour late, as written."""
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, trade, ingestion_us + HOUR_US)

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def no_time_of_sending() -> None:
    """In no trade from the stream."""
    original = Pipeline.on_trades

    def on_trades(self: Pipeline, connection: str, trades: list[Trade]) -> None:
        for trade in trades:
            msgspec.structs.force_setattr(trade, "event_time_us", 0)
        original(self, connection, trades)

    Pipeline.on_trades = on_trades  # type: ignore[method-assign, assignment]


def receives_too_early() -> None:
    """The time of receiving is an hour early, as written."""
    original = TradeEncoder.received

    def received(self: TradeEncoder, receive_us: int) -> None:
        original(self, receive_us and receive_us - HOUR_US)

    TradeEncoder.received = received  # type: ignore[method-assign]


def no_back_fill() -> None:
    """Five trades are left out once it writes, and history is never taken."""
    begin = once(Role.ACTIVE)
    left = list(range(5))
    kept_trades(lambda trade: not (begin.is_set() and left and left.pop() is not None))
    Pipeline.on_history = lambda self, trades: 0  # type: ignore[method-assign]


def drops_symbol(event: threading.Event | None) -> None:
    """The first symbol that comes is lost, from the event on."""
    first: list[str] = []

    def keep(trade: Trade) -> bool:
        if not first:
            first.append(trade.symbol)
        return trade.symbol != first[0] or (event is not None and not event.is_set())

    kept_trades(keep)
    if event is not None:
        Pipeline.on_history = lambda self, trades: 0  # type: ignore[method-assign]


def rejects_trades() -> None:
    """Some trades are refused as unrepresentable once it writes."""
    begin = once(Role.ACTIVE)
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        if begin.is_set() and trade.trade_id % 100 == 0:
            raise Reject("bad_decimal", "planted")
        return original(self, trade, ingestion_us)

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def slow_commits(seconds: float, *, every: float = 0.0) -> None:
    """Each transaction, or one each so many seconds, takes longer."""
    original = TransactionalProducer.transact
    last = [0.0]

    def transact(self: TransactionalProducer, messages: Any) -> Any:
        if time.monotonic() - last[0] > every:
            time.sleep(seconds)
            last[0] = time.monotonic()
        return original(self, messages)

    TransactionalProducer.transact = transact  # type: ignore[method-assign]


def burns(share: float) -> None:
    """A thread that works that share of the time."""

    def work() -> None:
        while True:
            until = time.monotonic() + 0.05 * share
            while time.monotonic() < until:
                pass
            time.sleep(0.05 * (1 - share))

    threading.Thread(target=work, daemon=True).start()


def blocks_loop() -> None:
    """The event loop stands still for most of the time once it writes."""
    begin = once(Role.ACTIVE)
    original = Pipeline.on_trades

    def on_trades(self: Pipeline, connection: str, trades: list[Trade]) -> None:
        if begin.is_set():
            time.sleep(0.5)
        original(self, connection, trades)

    Pipeline.on_trades = on_trades  # type: ignore[method-assign,assignment]


def stops_receiving() -> None:
    """It unsubscribes from everything and stays."""
    original = app.serve
    running: list[tuple[Parts, asyncio.AbstractEventLoop]] = []

    async def serve(
        parts: Parts, stack: AsyncExitStack, stop: asyncio.Event, supervision: Supervision | None = None
    ) -> None:
        running.append((parts, asyncio.get_running_loop()))
        await original(parts, stack, stop, supervision)

    def unsubscribe() -> None:
        ((parts, loop),) = running
        symbols = list(parts.receiving.symbols.infos)
        asyncio.run_coroutine_threadsafe(parts.receiving.feed.remove_symbols(symbols), loop)

    app.serve = serve
    when(Role.SHADOW, unsubscribe)


def changed_metrics(role: Role, change: Callable[[bytes], bytes]) -> None:
    """The endpoint answers something else from then on."""
    original = StatusServer._metrics
    begin = once(role)

    def metrics(self: StatusServer, accept: str) -> Response:
        reply = original(self, accept)
        return Response(reply.status, change(reply.body), reply.content_type) if begin.is_set() else reply

    StatusServer._metrics = metrics  # type: ignore[method-assign]


def metrics_freeze() -> None:
    """The endpoint repeats what it answered once."""
    seen: list[bytes] = []

    def repeat(body: bytes) -> bytes:
        seen.append(body)
        return seen[0]

    changed_metrics(Role.SHADOW, repeat)


def _without(*names: bytes) -> Callable[[bytes], bytes]:
    return lambda body: b"\n".join(
        line for line in body.splitlines() if not any(name in line for name in names)
    ) + b"\n"  # fmt: skip


def fewer_symbols() -> None:
    """It records only the first of the symbols."""
    configured = os.environ.get("K2_BINANCE_SYMBOLS", "")
    names = [name for name in configured.split(",") if name != "*"]
    os.environ["K2_BINANCE_SYMBOLS"] = names[0] if names else "BTCUSDT"


def dies_at_cut_over() -> None:
    """At the worst moment: it has fenced its predecessor, and has not written a trade."""

    def took_over(self: WriterLeadership, event: Any) -> None:
        die()

    WriterLeadership._on_took_over = took_over  # type: ignore[method-assign]


# --- good versions that are not the same ---


def slower() -> None:
    """About a twentieth more work for each trade."""
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        until = time.perf_counter() + 3e-6
        while time.perf_counter() < until:
            pass
        return original(self, trade, ingestion_us)

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def busier_machine() -> None:
    """Another program of this machine works beside it."""
    code = "import time\nend = time.time() + 120\nwhile time.time() < end: pass"
    subprocess.Popen([sys.executable, "-c", code])


def bigger() -> None:
    """30 MB more from the start, and no more later."""
    _kept.append(bytearray(30 * MB))


GOOD: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "slower": slower,
    "busier-machine": busier_machine,
    "adds-a-field": adds_field,
    "bigger": bigger,
}

BAD: dict[str, Callable[[], None]] = {
    "leaks": lambda: when(Role.SHADOW, leak),
    "leaks-later": lambda: when(Role.ACTIVE, leak),
    "leaks-slowly": lambda: when(Role.SHADOW, leak_slowly),
    "leaks-slowly-later": lambda: when(Role.ACTIVE, leak_slowly),
    "alters": alters,
    "alters-silently": alters_silently,
    "alters-later": alters_later,
    "wrong-times-later": wrong_times_later,
    "wrong-clock": wrong_clock,
    "wrong-clock-in-records": wrong_clock_in_records,
    "no-time-of-sending": no_time_of_sending,
    "receives-too-early": receives_too_early,
    "drops-fields": drops_fields,
    "no-back-fill": no_back_fill,
    "loses-trades": lambda: kept_trades(lambda trade: trade.trade_id % 200 != 0),
    "drops-a-symbol": lambda: drops_symbol(None),
    "drops-a-symbol-later": lambda: drops_symbol(once(Role.ACTIVE)),
    "fewer-symbols": fewer_symbols,
    "rejects-trades": rejects_trades,
    "slow-commits": lambda: slow_commits(2.8),
    "slow-commits-at-times": lambda: slow_commits(5.0, every=3.0),
    "burns-processor": lambda: burns(0.8),
    "blocks-the-loop": blocks_loop,
    "stops-receiving": stops_receiving,
    "dies-in-watch": lambda: when(Role.SHADOW, die),
    "dies-at-cut-over": dies_at_cut_over,
    "dies-in-validation": lambda: when(Role.ACTIVE, die),
    "metrics-vanish": lambda: changed_metrics(Role.SHADOW, _without(b"ingest_")),
    "comparison-vanishes": lambda: changed_metrics(Role.SHADOW, _without(b"ingest_shadow_never")),
    "metrics-freeze": metrics_freeze,
    "logs-errors": lambda: when(Role.SHADOW, lambda: logging.getLogger("faulty").error("planted")),
    "does-not-start": lambda: sys.exit(3),
}

VERSIONS = GOOD | BAD

if __name__ == "__main__":
    VERSIONS[sys.argv[1]]()
    sys.exit(main(["run"]))
