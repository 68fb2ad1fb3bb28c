"""Recorded frames: JSON lines with ``recv`` (ns), ``source`` and ``frame``, the text exactly as received.

Beside a recording there may be one of REST replies, ``<name>.http.ndjson``, whose lines have ``url`` and ``body``; its
first snapshot of each book is where that book begins.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ingest.simulator.book import Level

_MICROSECONDS_FROM = 10**14
_STREAM = re.compile(rb'\\"stream\\":\\"([^\\"@]+)@([^\\"]+)\\"')
_KINDS = re.compile(r"bookTicker|depth|depth@100ms|aggTrade|blockTrade|kline_\w+")


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


class RecordedEvent(NamedTuple):
    """An event of any other stream as it was received."""

    received_ns: int
    symbol: str
    stream: str
    """The whole name of its stream."""
    event: dict[str, Any]
    payload: bytes


class Snapshot(NamedTuple):
    """A book as REST had it."""

    update_id: int
    bids: list[Level]
    asks: list[Level]


@dataclass(slots=True)
class Contents:
    """What a recording has."""

    first_ids: dict[str, int] = field(default_factory=dict)
    """The id of the first trade of each symbol that has any."""
    streams: dict[str, str] = field(default_factory=dict)
    """The symbol of each stream besides trades, by the stream's whole name."""


def trades(path: Path) -> Iterator[RecordedTrade]:
    """The trades of a recording, in the order they were received; all other frames are passed over.

    Raises RecordingError and OSError.
    """
    return (one for one in _frames(path, others=False) if isinstance(one, RecordedTrade))


def events(path: Path) -> Iterator[RecordedTrade | RecordedEvent]:
    """Trades and the events of other streams, in the order they were received. Raises RecordingError and OSError.

    Streams are recognised by their name: an event without a combined stream's wrapper counts only if it is a trade.
    """
    return _frames(path, others=True)


def contents(path: Path) -> Contents:
    """What a recording has. Raises RecordingError and OSError."""
    found = Contents()
    for trade in trades(path):
        found.first_ids.setdefault(trade.symbol, trade.trade_id)
    with _opened(path) as lines:
        for line in lines:
            stream = _STREAM.search(line)
            if stream is not None and _KINDS.fullmatch(stream[2].decode()):
                name = stream[1].decode()
                found.streams.setdefault(f"{name}@{stream[2].decode()}", name.upper())
    if not found.first_ids and not found.streams:
        raise RecordingError(f"{path} has no frames of a stream that is served")
    return found


def snapshots(path: Path, symbols: set[str]) -> dict[str, Snapshot]:
    """The first snapshot of each book in the recorded replies beside a recording; without such a file there is none.

    A reply that names no symbol is of the only one that there is. Raises RecordingError and OSError.
    """
    found: dict[str, Snapshot] = {}
    replies = _beside(path)
    if replies is None:
        return found
    with _opened(replies) as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                body = json.loads(entry["body"])
                named = parse_qs(urlsplit(entry["url"] or "").query).get("symbol", [])
                symbol = named[0] if named else next(iter(symbols)) if len(symbols) == 1 else ""
                if isinstance(body, dict) and "lastUpdateId" in body and symbol in symbols and symbol not in found:
                    found[symbol] = Snapshot(body["lastUpdateId"], levels(body["bids"]), levels(body["asks"]))
            except (ValueError, KeyError, TypeError, InvalidOperation) as error:
                raise RecordingError(f"{replies}, line {number}: {type(error).__name__}: {error}") from error
    return found


def levels(side: list[list[str]]) -> list[Level]:
    """Prices and quantities in units of 1e-8. Raises ValueError."""
    return [(units(level[0]), units(level[1])) for level in side]


def units(text: str) -> int:
    """A decimal in units of 1e-8. Raises ValueError for one that has more places."""
    if text[-9:-8] == "." and text.isascii():
        return int(text[:-9] + text[-8:])
    found = Decimal(text).scaleb(8)
    if found != int(found):
        raise ValueError(f"{text} has more than 8 decimals")
    return int(found)


def _beside(path: Path) -> Path | None:
    """The file of recorded replies that belongs to a recording."""
    stem = re.sub(r"(\.full|\.trade)?(\.ws)?\.ndjson(\.gz)?$", "", path.name)
    names = (f"{stem}.http.ndjson", f"{stem}.http.ndjson.gz")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _frames(path: Path, *, others: bool) -> Iterator[RecordedTrade | RecordedEvent]:
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            is_trade = b'\\"e\\":\\"trade\\"' in line  # cheaper than to parse every frame of a full recording
            stream = None if is_trade or not others else _STREAM.search(line)
            if not is_trade and (stream is None or not _KINDS.fullmatch(stream[2].decode())):
                continue
            try:
                entry = json.loads(line)
                found = _frame(int(entry["recv"]), entry["frame"], is_trade=is_trade)
            except (ValueError, KeyError, TypeError, InvalidOperation) as error:
                raise RecordingError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
            if found is not None:
                yield found


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _frame(received_ns: int, frame: str, *, is_trade: bool) -> RecordedTrade | RecordedEvent | None:
    event = json.loads(frame)
    payload, stream = frame, ""
    if "stream" in event and "data" in event:
        stream, event = event["stream"], event["data"]
        payload = frame[frame.index('"data":') + len('"data":') : frame.rindex("}")].strip()
    if not is_trade:
        return RecordedEvent(received_ns, str(event["s"]), stream, event, payload.encode())
    if event.get("e") != "trade":
        return None
    to_us = 1 if event["T"] >= _MICROSECONDS_FROM else 1000
    return RecordedTrade(
        received_ns,
        event["s"],
        event["t"],
        units(event["p"]),
        units(event["q"]),
        event["T"] * to_us,
        event["E"] * to_us,
        event["m"],
        payload.encode(),
    )
