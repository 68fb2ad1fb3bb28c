"""A simulator of one symbol, and faults of it."""

from typing import Any

from websockets.asyncio.client import ClientConnection

from ingest.simulator.app import Simulator
from tests.unit.ingest.simulator.client import receive


def inject(exchange: Simulator, kind: str, **options: Any) -> dict[str, Any]:
    before = exchange.counters[f"fault_{kind}"]
    outcome = exchange.injector.inject(kind, options)
    assert exchange.counters[f"fault_{kind}"] == before + 1
    return outcome


async def ids(connection: ClientConnection, count: int) -> list[int]:
    return [event["t"] for event in await receive(connection, count)]
