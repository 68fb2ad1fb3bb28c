"""Recorded trade frames: JSON lines with ``recv`` (ns), ``source`` and ``frame``, the text exactly as received."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, NamedTuple

_MICROSECONDS_FROM = 10**14


class RecordingError(ValueError):
    """A recording that cannot be replayed: the text says which line and why."""


class RecordedTrade(NamedTuple):
    """A trade as it was received."""

    received_ns: int
    symbol: str
    trade_id: int
    price: int
    quantity: int
    time_us: int
    event_us: int
    buyer_is_maker: bool
    payload: bytes
    """The event's own bytes, without a combined stream's wrapper."""


def trades(path: Path) -> Iterator[RecordedTrade]:
    """The trades of a recording, in the order they were received; all other frames are passed over.

    Raises RecordingError and OSError.
    """
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if b'\\"e\\":\\"trade\\"' not in line:  # cheaper than to parse every frame of a full recording
                continue
            try:
                entry = json.loads(line)
                found = _trade(int(entry["recv"]), entry["frame"])
            except (ValueError, KeyError, TypeError, InvalidOperation) as error:
                raise RecordingError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
            if found is not None:
                yield found


def first_ids(path: Path) -> dict[str, int]:
    """The symbols of a recording with the id of their first trade. Raises RecordingError and OSError."""
    found: dict[str, int] = {}
    for trade in trades(path):
        found.setdefault(trade.symbol, trade.trade_id)
    if not found:
        raise RecordingError(f"{path} has no trade frames")
    return found


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _trade(received_ns: int, frame: str) -> RecordedTrade | None:
    event = json.loads(frame)
    payload = frame
    if "stream" in event and "data" in event:
        event = event["data"]
        payload = frame[frame.index('"data":') + len('"data":') : frame.rindex("}")].strip()
    if event.get("e") != "trade":
        return None
    to_us = 1 if event["T"] >= _MICROSECONDS_FROM else 1000
    return RecordedTrade(
        received_ns,
        event["s"],
        event["t"],
        _units(event["p"]),
        _units(event["q"]),
        event["T"] * to_us,
        event["E"] * to_us,
        event["m"],
        payload.encode(),
    )


def _units(text: str) -> int:
    units = Decimal(text).scaleb(8)
    if units != int(units):
        raise ValueError(f"{text} has more than 8 decimals")
    return int(units)
