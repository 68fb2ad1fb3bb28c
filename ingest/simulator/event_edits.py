"""Changes to an event of any stream that make it wrong in its content, while it stays well-formed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


def edited(payload: bytes, edit: Callable[[Event], object]) -> bytes:
    """The event with a change."""
    event = json.loads(payload)
    edit(event)
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def altered(event: Event) -> None:
    """The same event with one amount that is another: a price, a level's quantity, a bar's volume."""
    if "k" in event:
        event["k"]["v"] = _other(event["k"]["v"])
    elif "p" in event:
        event["p"] = _other(event["p"])
    elif "U" in event:
        levels = event["b"] or event["a"]
        levels[0][1] = _other(levels[0][1])
    else:
        event["B"] = _other(event["B"])


def _other(amount: str) -> str:
    return "1.00000000" if amount != "1.00000000" else "2.00000000"


def _lost_deletions(event: Event, options: dict[str, Any]) -> None:
    for side in "ba":
        event[side] = [level for level in event[side] if float(level[1])]


def _one_sided(event: Event, options: dict[str, Any]) -> None:
    event[str(options.get("side", "b"))] = []


def _crossed(event: Event, options: dict[str, Any]) -> None:
    """A bid above every ask: the best prices change places, or depth has a level at twice the highest price."""
    if "U" not in event:
        event["b"], event["a"] = event["a"], event["b"]
        return
    highest = max((level[0] for side in "ba" for level in event[side]), key=float)
    event["b"].insert(0, [f"{2 * float(highest):.8f}", "1.00000000"])


def _backwards(event: Event, options: dict[str, Any]) -> None:
    by = int(options.get("by", 1000))
    for name in ("U", "u") if "u" in event else ("a",):
        if name in event:
            event[name] -= by


EDITS: dict[str, Callable[[Event, dict[str, Any]], None]] = {
    "lost_deletions": _lost_deletions,
    "one_sided": _one_sided,
    "crossed": _crossed,
    "backwards": _backwards,
}
"""By the kind of fault."""
