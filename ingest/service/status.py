"""What ``/status`` says: per symbol last id, lag, holes; per connection state and age; who writes."""

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ingest import __version__
from ingest.core import sequence as hot_path
from ingest.core.symbol_sequence import SymbolSequence

if TYPE_CHECKING:
    from ingest.service.app import Service


COMPILED = not (hot_path.__file__ or "").endswith(".py")
"""Whether the hot path runs as C (setup.py), or as the Python that it is made of."""


def _halt(sequence: SymbolSequence, now: float) -> dict[str, Any]:
    """Why a symbol is halted and since when, with the trade that halted it."""
    if sequence.halted is None:
        return {}
    trade = sequence.halted_by
    return {
        "halt": {
            "reason": sequence.halted,
            "seconds": round(now - sequence.halted_since, 1),
            "next_id": sequence.next_id,
            "withheld": sequence.withheld,
            "trade": msgspec.to_builtins(trade) if trade is not None else None,
        }
    }


def status(service: "Service") -> dict[str, Any]:
    """A snapshot as plain values (built on the loop, once a second)."""
    settings, supervisor, sequencer = service.settings, service.supervisor, service.pipeline.sequencer
    now = time.monotonic()
    symbols = {}
    for symbol, sequence in sequencer.sequences.items():
        last_id = supervisor.positions.get(symbol)
        symbols[symbol] = {
            "last_id": last_id,
            "lag": sequence.lag(last_id) if last_id is not None else None,
            "missing": sequence.missing,
            "held": len(sequence.pending),
            "frozen": sequence.halted,
            "status": service.symbols.infos[symbol].status if symbol in service.symbols.infos else None,
            **_halt(sequence, now),
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
        "held_trades": sequencer.pending,
        "holes": len(sequencer.open_gaps),
        "readers_blocked": service.stable.stuck,
        "symbols": symbols,
        "left_out": service.symbols.left_out,
        "data_overdue": {
            "seconds": round(service.data_monitor.overdue.seconds, 1),
            "reason": service.data_monitor.overdue.reason,
        },
        "connections": [connection.as_dict() for connection in service.feed.status()],
        "shadow": service.watching.comparison.as_dict() if service.watching.comparison is not None else None,
        "threads": threading.active_count(),
    }
