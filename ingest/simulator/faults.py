"""What may happen to single events on their way into the streams. Pure: decides and makes bytes, sends nothing.

The ledger and REST stay right unless a fault says that the exchange itself is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ingest.simulator.derived_events import kind_of
from ingest.simulator.event_edits import EDITS, Event, altered, edited
from ingest.simulator.frames import COMBINED, Sendable, StreamEvent, fragmented, frame, wrapped

MALFORMED = ("cut", "trailing", "utf8", "empty", "array", "number")
"""Forms of a frame that is no event: cut in the middle, garbage behind it, invalid UTF-8, JSON that is no object."""


@dataclass(slots=True)
class TradeFault:
    """Strikes the next ``count`` events of a symbol's stream; without a symbol, of the one whose event is next."""

    kind: str
    count: int = 1
    symbol: str | None = None
    stream: str = "trade"
    """What follows the symbol in the name of the stream."""
    connection: int | None = None
    """The number of the only connection that is struck."""
    options: dict[str, Any] = field(default_factory=dict)


class TradeFaults:
    """Faults that wait for their events."""

    def __init__(self) -> None:
        self.armed: list[TradeFault] = []
        self.armed_streams: list[TradeFault] = []
        """Those of all streams but trades."""

    def arm(self, fault: TradeFault) -> None:
        """Wait for the events of the fault's stream."""
        (self.armed if fault.stream == "trade" else self.armed_streams).append(fault)

    def clear(self) -> None:
        """Wait no more."""
        self.armed.clear()
        self.armed_streams.clear()

    def take(self, symbol: str) -> TradeFault | None:
        """The fault that strikes this trade, the one that was armed first; each strikes `count` trades."""
        for fault in self.armed:
            if fault.symbol is None:
                fault.symbol = symbol
            if fault.symbol == symbol:
                fault.count -= 1
                if fault.count <= 0:
                    self.armed.remove(fault)
                return fault
        return None

    def take_event(self, event: StreamEvent) -> TradeFault | None:
        """The fault that strikes this event; a corrected bar is one that was closed."""
        for fault in self.armed_streams:
            if fault.stream != event.kind or (fault.kind == "bar_corrected" and not event.final):
                continue
            if fault.symbol is None:
                fault.symbol = event.symbol.symbol
            if fault.symbol == event.symbol.symbol:
                fault.count -= 1
                if fault.count <= 0:
                    self.armed_streams.remove(fault)
                return fault
        return None


def struck(fault: TradeFault, trade: Sendable, variant: int) -> list[bytes]:
    """The frames that a connection gets instead of the one trade; ``reorder`` is the caller's."""
    return _STRIKES[fault.kind](fault.options, trade, variant)


def _gap(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    return []


def _duplicate(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    return [trade.frame(variant)] * (1 + int(options.get("times", 1)))


def _altered_duplicate(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    frames = [trade.frame(variant), _edited(trade, variant, altered)]
    return frames[::-1] if options.get("first") else frames


def _bar_corrected(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    return [trade.frame(variant), _edited(trade, variant, altered)]


def _edit(name: str) -> Callable[[dict[str, Any], Sendable, int], list[bytes]]:
    return lambda options, trade, variant: [_edited(trade, variant, lambda event: EDITS[name](event, options))]


def _malformed(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    message = trade.message(variant)
    match options.get("form", "cut"):
        case "trailing":
            broken = message + b"}{"
        case "utf8":
            broken = message.replace(b'"s":"', b'"s":"\xff\xfe')
        case "empty":
            broken = b""
        case "array":
            broken = b"[" + trade.payload(variant) + b"]"
        case "number":
            broken = b"42"
        case _:
            broken = message[: len(message) * 2 // 3]
    return [frame(broken)]


def _fragments(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    return [fragmented(trade.message(variant), int(options.get("parts", 3)))]


def _missing_field(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    return [_edited(trade, variant, lambda event: event.pop(str(options.get("field", "p")), None))]


def _mistyped_field(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    name = str(options.get("field", "t"))

    def mistype(event: dict[str, Any]) -> None:
        value = event.get(name)
        event[name] = options["value"] if "value" in options else [value] if isinstance(value, bool) else _other(value)

    return [_edited(trade, variant, mistype)]


def _bad_decimal(options: dict[str, Any], trade: Sendable, variant: int) -> list[bytes]:
    if options.get("truth"):
        return [trade.frame(variant)]  # the ledger has it like this already
    name = str(options.get("field", "p"))
    return [_edited(trade, variant, lambda event: event.update({name: str(options.get("value", "NaN"))}))]


def _edited(trade: Sendable, variant: int, edit: Callable[[Event], Any]) -> bytes:
    payload = edited(trade.payload(variant), edit)
    return frame(wrapped(trade.stream, payload) if variant & COMBINED else payload)


def _other(value: object) -> object:
    return str(value) if isinstance(value, int) else 17


_STRIKES: dict[str, Callable[[dict[str, Any], Sendable, int], list[bytes]]] = {
    "gap": _gap,
    "duplicate": _duplicate,
    "altered_duplicate": _altered_duplicate,
    "malformed": _malformed,
    "fragments": _fragments,
    "missing_field": _missing_field,
    "mistyped_field": _mistyped_field,
    "bad_decimal": _bad_decimal,
    "bar_corrected": _bar_corrected,
    **{name: _edit(name) for name in EDITS},
}
TRADE_KINDS = (*_STRIKES, "reorder")

_OPTIONS: dict[str, dict[str, type]] = {
    "duplicate": {"times": int},
    "altered_duplicate": {"first": bool},
    "malformed": {"form": str},
    "fragments": {"parts": int},
    "missing_field": {"field": str},
    "mistyped_field": {"field": str, "value": object},
    "bad_decimal": {"field": str, "value": str, "truth": bool},
    "bar_corrected": {"truth": bool},
    "one_sided": {"side": str},
    "backwards": {"by": int},
}
DEFAULT_STREAMS = {
    "lost_deletions": "depth@100ms", "one_sided": "depth@100ms", "crossed": "depth@100ms", "backwards": "depth@100ms",
    "bar_corrected": "kline_1m",
}  # fmt: skip
"""The stream that a fault strikes if none is named; all others strike trades."""
_FITTING = {
    "lost_deletions": ("depth", "depth@100ms"), "one_sided": ("depth", "depth@100ms"),
    "crossed": ("depth", "depth@100ms", "bookTicker"), "backwards": ("depth", "depth@100ms", "bookTicker", "aggTrade"),
}  # fmt: skip


def stream_for(kind: str, stream: str | None) -> str:
    """The stream that a fault of this kind strikes. Raises ValueError for one that it cannot strike."""
    chosen = stream or DEFAULT_STREAMS.get(kind, "trade")
    if chosen != "trade" and kind_of(chosen) is None:
        raise ValueError(f"{kind}: there is no stream {chosen!r}; for example aggTrade, bookTicker, depth@100ms")
    fits = chosen.startswith("kline_") if kind == "bar_corrected" else chosen in _FITTING.get(kind, (chosen,))
    if not fits:
        raise ValueError(f"{kind} does not strike the stream {chosen!r}")
    return chosen


def check_options(kind: str, options: dict[str, Any]) -> None:
    """Refuse what would only fail once a trade is struck. Raises ValueError and TypeError."""
    known = _OPTIONS.get(kind, {})
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"{kind}: there is no option {name!r}; there are {', '.join(known) or 'none'}")
        if not isinstance(value, known[name]):
            raise TypeError(f"{kind}: {name} must be of type {known[name].__name__}, got {value!r}")
        if isinstance(value, int) and not isinstance(value, bool) and known[name] is int and not 1 <= value <= 1000:
            raise ValueError(f"{kind}: {name} must be 1 to 1000, got {value}")
    if options.get("form", "cut") not in MALFORMED:
        raise ValueError(f"{kind}: form is one of {', '.join(MALFORMED)}")
    if options.get("side", "b") not in ("b", "a"):
        raise ValueError(f"{kind}: side is b or a")
    if kind == "bad_decimal" and options.get("field", "p") not in ("p", "q"):
        raise ValueError("bad_decimal: field is p or q")
