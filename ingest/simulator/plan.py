"""Faults by plan: from a file, or drawn by a seed at a mean rate. The plan's time starts with the first trade.

A file is a JSON list of objects: ``at`` (seconds), ``kind``, and the kind's options.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ingest.simulator.injection import KINDS

Options = dict[str, Any]


class PlanError(ValueError):
    """A plan that cannot be used; the text says where."""


class Step(NamedTuple):
    """What shall happen and when, in seconds of the plan's time."""

    at: float
    kind: str
    options: Options


def from_file(path: Path) -> list[Step]:
    """The steps of a file, in order of time. Raises PlanError and OSError."""
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from error
    steps = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("at"), int | float):
            raise PlanError(f"{path}, step {number}: an object with a number 'at' is needed")
        if entry.get("kind") not in KINDS:
            raise PlanError(f"{path}, step {number}: kind {entry.get('kind')!r} is none of {', '.join(KINDS)}")
        options = {key: value for key, value in entry.items() if key not in ("at", "kind")}
        steps.append(Step(float(entry["at"]), entry["kind"], options))
    return sorted(steps, key=lambda step: step.at)


def seeded(seed: int, per_minute: float, *, kinds: Sequence[str] = ()) -> Iterator[Step]:
    """Endless steps with exponential pauses, the same for the same seed. What lasts is taken back a while later.

    All of them can be survived without loss; ``kinds`` chooses among them. Raises PlanError.
    """
    known = SURVIVABLE | SURVIVABLE_STREAMS
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise PlanError(f"{', '.join(unknown)}: a seeded plan draws from {', '.join(known)}")
    if per_minute <= 0:
        raise PlanError(f"faults per minute must be above 0, got {per_minute:g}")
    return _draw(random.Random(f"{seed}:faults"), per_minute, list(kinds or SURVIVABLE))  # noqa: S311 - repeatable


def _draw(draw: random.Random, per_minute: float, kinds: list[str]) -> Iterator[Step]:
    at = 0.0
    later: list[Step] = []
    known = SURVIVABLE | SURVIVABLE_STREAMS
    weights = [known[kind][0] for kind in kinds]
    while True:
        at += draw.expovariate(per_minute / 60.0)
        while later and later[0].at <= at:
            yield heapq.heappop(later)
        drawn = draw.choices(kinds, weights)[0]
        kind = MARKET_KINDS.get(drawn, drawn)
        yield Step(at, kind, known[drawn][1](draw))
        undo = _UNDO.get(drawn)
        if undo is not None:
            heapq.heappush(later, Step(at + draw.uniform(3.0, 15.0), kind, dict(undo)))


def _one(draw: random.Random) -> str:
    return draw.choice(("all", "oldest", "newest"))


def _few(draw: random.Random) -> Options:
    return {"count": draw.choice((1, 1, 2, 5, 30))}


def _field(draw: random.Random) -> Options:
    return {"field": draw.choice(("t", "p", "q", "T", "m", "s"))}


def _handshake(draw: random.Random) -> Options:
    status = draw.choice((403, 418, 429, 451, 500, 503))
    pause = draw.randint(1, 5) if status in (418, 429) else 0
    return {"status": status, "attempts": draw.randint(1, 4), "retry_after": pause}


SURVIVABLE: dict[str, tuple[float, Callable[[random.Random], Options]]] = {
    "reset": (3.0, lambda draw: {"connection": _one(draw)}),
    "close": (3.0, lambda draw: {"connection": _one(draw), "code": draw.choice((1000, 1001, 1008, 1011, 1012))}),
    "stall": (1.0, lambda draw: {"connection": _one(draw), "seconds": draw.uniform(1.0, 20.0)}),
    "black_hole": (1.0, lambda draw: {"connection": _one(draw), "seconds": 60.0}),
    "server_shutdown": (
        2.0,
        lambda draw: {
            "connection": _one(draw),
            "lead_s": draw.choice((0.0, 0.5, 3.0)),
            "nested": draw.random() < 0.2,
        },
    ),
    "gap": (3.0, lambda draw: {"count": draw.choice((1, 3, 25, 400))}),
    "void": (0.5, lambda draw: {"count": draw.randint(1, 5)}),
    "duplicate": (2.0, _few),
    "altered_duplicate": (1.0, _few),
    "reorder": (2.0, _few),
    "malformed": (1.0, lambda draw: {"form": draw.choice(("cut", "trailing", "utf8", "empty", "array", "number"))}),
    "fragments": (1.0, _few),
    "missing_field": (1.0, _field),
    "mistyped_field": (1.0, _field),
    "bad_decimal": (1.0, lambda draw: {"value": draw.choice(("NaN", "-1.00000000", "1e5", "0.123456789", "", "1,5"))}),
    "unknown_event": (1.0, lambda draw: {"count": draw.randint(1, 20)}),
    "error_object": (0.5, lambda _: {}),
    "array": (0.5, lambda _: {}),
    "binary": (0.5, lambda _: {}),
    "huge_frame": (0.5, lambda draw: {"connection": _one(draw)}),
    "deflate_bomb": (0.3, lambda draw: {"connection": _one(draw)}),
    "replay": (2.0, lambda draw: {"connections": 1, "trades": draw.randint(1, 100)}),
    "handshake": (1.0, _handshake),
    "handshake_hang": (0.5, lambda draw: {"attempts": draw.randint(1, 2)}),
    "refuse_connects": (1.0, lambda draw: {"seconds": draw.uniform(0.5, 8.0)}),
    "clock_skew": (0.5, lambda draw: {"ms": draw.choice((-3000, -400, 400, 3000))}),
    "layout": (0.5, lambda draw: {"name": draw.choice(("orders", "no_m", "extra", "reversed"))}),
    "rest_429": (1.0, lambda draw: {"calls": draw.randint(1, 3), "retry_after": draw.randint(1, 4)}),
    "rest_418": (0.3, lambda draw: {"calls": 1, "retry_after": draw.randint(2, 6)}),
    "rest_5xx": (1.0, lambda draw: {"calls": draw.randint(1, 4), "status": draw.choice((500, 502, 503, 504))}),
    "rest_hang": (0.5, lambda _: {"calls": 1}),
    "rest_garbage": (1.0, lambda draw: {"calls": draw.randint(1, 3)}),
    "rest_truncate": (1.0, lambda draw: {"calls": draw.randint(1, 3)}),
    "history_lag": (1.0, lambda draw: {"seconds": draw.uniform(0.5, 5.0)}),
}
"""Weight and options of the faults that a seeded plan draws: those a right client comes through without loss."""


def _stream(draw: random.Random) -> Options:
    return {"stream": draw.choice(("depth@100ms", "bookTicker", "aggTrade", "kline_1m", "blockTrade"))}


SURVIVABLE_STREAMS: dict[str, tuple[float, Callable[[random.Random], Options]]] = {
    "market_gap": (3.0, lambda draw: _stream(draw) | {"count": draw.choice((1, 3, 25)), "connection": _one(draw)}),
    "market_duplicate": (2.0, lambda draw: _stream(draw) | _few(draw)),
    "market_reorder": (2.0, lambda draw: _stream(draw) | _few(draw)),
    "market_malformed": (1.0, lambda draw: _stream(draw) | {"form": draw.choice(("cut", "utf8", "empty", "array"))}),
    "market_backwards": (1.0, lambda draw: {"stream": draw.choice(("depth@100ms", "bookTicker")), "by": 1000}),
    "market_stall": (
        1.0, lambda draw: _stream(draw) | {"connection": _one(draw), "seconds": draw.uniform(1.0, 10.0)},
    ),
    "stream_lag": (1.0, lambda draw: {"stream": "depth@100ms", "seconds": draw.uniform(0.5, 5.0)}),
    "depth_stale": (1.0, lambda draw: {"calls": draw.randint(1, 3)}),
    "reset_in_frame": (1.0, lambda draw: {"connection": _one(draw), "mid_frame": True}),
}  # fmt: skip
"""The same of the other streams: drawn only where they are named, so that plans of trades stay what they were."""

MARKET_KINDS = {
    "market_gap": "gap", "market_duplicate": "duplicate", "market_reorder": "reorder", "market_malformed": "malformed",
    "market_backwards": "backwards", "market_stall": "stall", "reset_in_frame": "reset",
}  # fmt: skip
"""The kinds of faults that names of a seeded plan stand for."""

_UNDO: dict[str, Options] = {
    "clock_skew": {"ms": 0},
    "layout": {"name": "current"},
    "history_lag": {"seconds": 0.0},
    "stream_lag": {"seconds": 0.0},
}
