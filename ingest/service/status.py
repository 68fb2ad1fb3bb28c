"""What ``/status`` says: per symbol last id, lag, holes; per connection state and age; who writes."""

import os
import threading
from typing import TYPE_CHECKING, Any

from ingest import __version__
from ingest.core import sequence

if TYPE_CHECKING:
    from ingest.service.app import Service


COMPILED = not (sequence.__file__ or "").endswith(".py")
"""Whether the hot path runs as C (setup.py), or as the Python that it is made of."""


def status(service: "Service") -> dict[str, Any]:
    """A snapshot as plain values (built on the loop, once a second)."""
    settings, supervisor, sequencer = service.settings, service.supervisor, service.pipeline.sequencer
    symbols = {}
    for symbol, lane in sequencer.lanes.items():
        last_id = supervisor.positions.get(symbol)
        symbols[symbol] = {
            "last_id": last_id,
            "lag": max(0, max(lane.highest, (lane.next_id or 0) - 1) - last_id) if last_id is not None else None,
            "missing": lane.missing,
            "held": len(lane.held),
            "frozen": lane.frozen,
            "status": service.symbols[symbol].status if symbol in service.symbols else None,
        }
    return {
        "pid": os.getpid(),
        "instance": settings.service.instance_id,
        "slot": settings.service.slot,
        "version": settings.service.version or __version__,
        "revision": settings.service.revision,
        "compiled": COMPILED,
        "shard": {"index": settings.service.shard_index, "count": settings.service.shard_count},
        "role": supervisor.role.value,
        "generation": supervisor.generation,
        "delivery": settings.kafka.delivery,
        "topic": settings.kafka.topic,
        "last_commit_us": supervisor.last_commit_us or None,
        "buffered_trades": len(service.pipeline.outbox),
        "held_trades": sequencer.held,
        "holes": len(sequencer.open_gaps),
        "readers_blocked": service.stable.stuck,
        "symbols": symbols,
        "connections": [connection.as_dict() for connection in service.feed.status()],
        "shadow": service.watching.comparison.as_dict() if service.watching.comparison is not None else None,
        "threads": threading.active_count(),
    }
