"""Versions that must not go live: the real service with one fault planted.

``python -m tests.ops.deployment.faulty leaks``. They live here and nowhere else: the product has no switch that makes
it wrong.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ingest.cli import main
from ingest.control.server import StatusServer
from ingest.core.role import Role, RoleEvent
from ingest.core.trade import Trade
from ingest.http.messages import Response
from ingest.kafka.encoding import TradeEncoder
from ingest.service.app import Service
from ingest.service.supervisor import Supervisor

AFTER_SECONDS = float(os.environ.get("FAULT_AFTER_SECONDS", "4"))
_kept: list[bytearray] = []


def die() -> None:
    """End as the kernel would end it."""
    os.kill(os.getpid(), signal.SIGKILL)


def later(call: Callable[[], None]) -> None:
    """Do it in a while, whatever the loop does."""
    timer = threading.Timer(AFTER_SECONDS, call)
    timer.daemon = True
    timer.start()


def when(role: Role, call: Callable[[], None]) -> None:
    """Do it in a while after this instance first takes that role."""
    original = Supervisor.move
    done: list[Role] = []

    def move(self: Supervisor, event: RoleEvent) -> None:
        original(self, event)
        if self.role is role and not done:
            done.append(role)
            later(call)

    Supervisor.move = move  # type: ignore[method-assign]


def leak() -> None:
    """20 MB each tenth of a second, up to half a gigabyte."""
    for _ in range(25):
        _kept.append(bytearray(os.urandom(1024)) * (20 * 1024))
        time.sleep(0.1)


def alters() -> None:
    """Every hundredth quantity grows by its last digit."""
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        if trade.trade_id % 100 == 0:
            last = str((int(trade.quantity[-1]) + 1) % 10)
            trade = msgspec.structs.replace(trade, quantity=trade.quantity[:-1] + last)
        return original(self, trade, ingestion_us)

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def stops_receiving() -> None:
    """It unsubscribes from everything and stays."""
    original = Service.run
    services: list[tuple[Service, asyncio.AbstractEventLoop]] = []

    async def run(self: Service) -> None:
        services.append((self, asyncio.get_running_loop()))
        await original(self)

    def unsubscribe() -> None:
        ((service, loop),) = services
        asyncio.run_coroutine_threadsafe(service.feed.remove_symbols(list(service.symbols)), loop)

    Service.run = run  # type: ignore[method-assign]
    when(Role.SHADOW, unsubscribe)


def metrics_vanish() -> None:
    """The endpoint answers, and says nothing of the service any more."""
    original = StatusServer._metrics
    gone = threading.Event()

    def metrics(self: StatusServer, accept: str) -> Response:
        reply = original(self, accept)
        if not gone.is_set():
            return reply
        kept = [line for line in reply.body.splitlines() if b"ingest_" not in line]
        return Response(reply.status, b"\n".join(kept) + b"\n", reply.content_type)

    StatusServer._metrics = metrics  # type: ignore[method-assign]
    when(Role.SHADOW, gone.set)


def dies_at_cut_over() -> None:
    """At the worst moment: it has fenced its predecessor, and has not written a trade."""

    def took_over(self: Supervisor, event: Any) -> None:
        die()

    Supervisor._on_took_over = took_over  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "leaks": lambda: when(Role.SHADOW, leak),
    "leaks-later": lambda: when(Role.ACTIVE, leak),
    "alters": alters,
    "stops-receiving": stops_receiving,
    "dies-in-watch": lambda: when(Role.SHADOW, die),
    "dies-at-cut-over": dies_at_cut_over,
    "dies-in-validation": lambda: when(Role.ACTIVE, die),
    "metrics-vanish": metrics_vanish,
    "logs-errors": lambda: when(Role.SHADOW, lambda: logging.getLogger("faulty").error("planted")),
    "does-not-start": lambda: sys.exit(3),
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    sys.exit(main(["run"]))
