"""The content of ``/status``: per symbol last id, lag and gaps; per connection state and age; the writer."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ingest import __version__
from ingest.binance.feed import ConnectionStatus
from ingest.core import sequence as hot_path
from ingest.core.data_due import Overdue
from ingest.core.symbol_sequence import SymbolSequence
from ingest.service.leadership import WriterLeadership
from ingest.service.pipeline import Pipeline
from ingest.service.shadow_comparison import Comparison
from ingest.service.symbol_set import SymbolSet
from ingest.settings import Settings

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


@dataclass(frozen=True)
class StatusSources:
    """What the status is made from."""

    settings: Settings
    leadership: WriterLeadership
    pipeline: Pipeline
    symbols: SymbolSet
    connections: Callable[[], Sequence[ConnectionStatus]]
    overdue: Callable[[], Overdue]
    readers_blocked: Callable[[], Any]
    topic_problems: Callable[[], dict[str, list[str]]]
    shadow: Callable[[], Comparison | None]
    streams: Callable[[], dict[str, Any]] = dict
    peers: Callable[[], dict[str, dict[str, str]]] = dict


def status(sources: StatusSources) -> dict[str, Any]:
    """Return a snapshot as plain values (on the loop, once a second)."""
    settings, leadership, sequencer = sources.settings, sources.leadership, sources.pipeline.sequencer
    shadow, overdue = sources.shadow(), sources.overdue()
    return {
        "pid": os.getpid(),
        "instance": settings.service.instance_id,
        "slot": settings.service.slot,
        "version": settings.service.version or __version__,
        "revision": settings.service.revision,
        "compiled": COMPILED,
        "shard": {"index": settings.shard, "count": settings.service.shard_count},
        "role": leadership.role.value,
        "generation": leadership.generation,
        "takeover_refused": leadership.refusal,
        "peers": sources.peers(),
        "delivery": settings.kafka.delivery,
        "topic": settings.kafka.topic,
        "last_commit_us": leadership.last_commit_us or None,
        "buffered_trades": len(sources.pipeline.outbox),
        "held_trades": sequencer.pending,
        "holes": len(sequencer.open_gaps),
        "readers_blocked": sources.readers_blocked(),
        "topic_problems": sources.topic_problems(),
        "symbols": _symbols(sources),
        "positions_unchecked": sorted(leadership.trust.unchecked),
        "positions_comparing": leadership.trust.comparing,
        "left_out": sources.symbols.left_out,
        "data_overdue": {"seconds": round(overdue.seconds, 1), "reason": overdue.reason},
        "connections": [connection.as_dict() for connection in sources.connections()],
        "shadow": shadow.as_dict() if shadow is not None else None,
        "streams": sources.streams(),
        "threads": threading.active_count(),
    }


def _symbols(sources: StatusSources) -> dict[str, Any]:
    now, infos = time.monotonic(), sources.symbols.infos
    symbols = {}
    for symbol, sequence in sources.pipeline.sequencer.sequences.items():
        last_id = sources.leadership.positions.get(symbol)
        symbols[symbol] = {
            "last_id": last_id,
            "lag": sequence.lag(last_id) if last_id is not None else None,
            "missing": sequence.missing,
            "held": len(sequence.pending),
            "frozen": sequence.halted,
            "status": infos[symbol].status if symbol in infos else None,
            **_halt(sequence, now),
        }
    return symbols
