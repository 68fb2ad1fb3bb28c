"""Bytes of events as the exchange sends them: key order and padding included, each form made once per trade."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal, get_args

from ingest.simulator.ledger import Row, SymbolLedger, decimal

Layout = Literal["current", "orders", "no_m", "extra", "reversed", "recorded"]
"""
``current``    e E s t p q T m M, as documented
``orders``     with the order ids b and a between q and T, as until 2024-06-18
``no_m``       without M
``extra``      with unknown keys
``reversed``   the same keys in the opposite order: JSON promises none
``recorded``   as the recording has it; current where there is none
"""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

COMBINED, MICROSECONDS, COMPRESSED = 1, 2, 4
"""Bits of a variant: how one connection wants its data."""


def frame(payload: bytes, *, first_byte: int = 0x81) -> bytes:
    """A server's frame, by default one whole text message."""
    size = len(payload)
    if size < 126:
        return bytes((first_byte, size)) + payload
    if size < 65_536:
        return bytes((first_byte, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first_byte, 127)) + size.to_bytes(8, "big") + payload


def compressed(payload: bytes) -> bytes:
    """A text message by permessage-deflate, without reference to earlier ones."""
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return frame(data[:-4], first_byte=0xC1)


def fragmented(payload: bytes, parts: int = 3) -> bytes:
    """The same message in several frames, with an unsolicited pong in between."""
    size = max(1, len(payload) // parts)
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    found = []
    for number, piece in enumerate(pieces):
        found.append(frame(piece, first_byte=(0x80 if number == last else 0) | (0 if number else 1)))
        if number != last:
            found.append(frame(b"", first_byte=0x8A))
    return b"".join(found)


def stream_of(symbol: str) -> str:
    """The name of a symbol's trade stream."""
    return f"{symbol.lower()}@trade"


def wrapped(stream: str, payload: bytes) -> bytes:
    """An event as /stream sends it."""
    return b'{"stream":"%b","data":%b}' % (stream.encode(), payload)


def server_shutdown(event_us: int, variant: int, *, nested: bool) -> bytes:
    """The notice: raw, combined, or in the shape of the request/response API, which some clients expect here."""
    stamp = event_us if variant & MICROSECONDS else event_us // 1000
    payload = b'{"e":"serverShutdown","E":%d}' % stamp
    if nested:
        return b'{"event":%b}' % payload
    return wrapped("!serverShutdown", payload) if variant & COMBINED else payload


class Rendered:
    """An event on its way: rendered at most once per variant, however many connections want it."""

    __slots__ = ("_frames", "stream", "symbol")

    def __init__(self, symbol: SymbolLedger, stream: str) -> None:
        self.symbol = symbol
        self.stream = stream
        self._frames: dict[int, bytes] = {}

    def payload(self, variant: int) -> bytes:
        """The event without its wrapper."""
        raise NotImplementedError

    def message(self, variant: int) -> bytes:
        """The whole message's text."""
        payload = self.payload(variant)
        return wrapped(self.stream, payload) if variant & COMBINED else payload

    def frame(self, variant: int) -> bytes:
        """The bytes on the wire."""
        found = self._frames.get(variant)
        if found is None:
            message = self.message(variant)
            found = self._frames[variant] = compressed(message) if variant & COMPRESSED else frame(message)
        return found


class Outgoing(Rendered):
    """A trade."""

    __slots__ = ("event_us", "layout", "recorded", "row")

    def __init__(
        self, symbol: SymbolLedger, row: Row, event_us: int, layout: Layout, recorded: bytes | None = None
    ) -> None:
        super().__init__(symbol, stream_of(symbol.symbol))
        self.row = row
        self.event_us = event_us
        self.layout = layout
        self.recorded = recorded

    def payload(self, variant: int) -> bytes:
        """The event without its wrapper."""
        if self.recorded is not None and self.layout == "recorded" and not variant & MICROSECONDS:
            return self.recorded
        return _trade(self.symbol, self.row, self.event_us, 1 if variant & MICROSECONDS else 1000, self.layout)


class StreamEvent(Rendered):
    """An event of any other stream; ``last`` is the last number it has, ``final`` that it closes a bar."""

    __slots__ = ("final", "kind", "last", "render")

    def __init__(
        self, symbol: SymbolLedger, stream: str, render: Callable[[int], bytes], *, last: int = 0, final: bool = False
    ) -> None:
        """``render`` makes the event of the microseconds that a unit of time has."""
        super().__init__(symbol, stream)
        self.kind = stream.partition("@")[2]
        self.render = render
        self.last = last
        self.final = final

    def payload(self, variant: int) -> bytes:
        """The event without its wrapper."""
        return self.render(1 if variant & MICROSECONDS else 1000)


Sendable = Outgoing | StreamEvent


def _trade(symbol: SymbolLedger, row: Row, event_us: int, divisor: int, layout: Layout) -> bytes:
    trade_id, price, quantity, time_us, maker = row
    spelled = symbol.malformed_text.get(trade_id) if symbol.malformed_text else None
    price_text, quantity_text = (decimal(price), decimal(quantity)) if spelled is None else spelled
    orders = f'"b":{trade_id * 2 + 1},"a":{trade_id * 2},' if layout == "orders" else ""
    head = (
        f'"e":"trade","E":{event_us // divisor},"s":"{symbol.symbol}","t":{trade_id},"p":"{price_text}",'
        f'"q":"{quantity_text}",{orders}"T":{time_us // divisor},"m":{"true" if maker else "false"}'
    )
    match layout:
        case "no_m":
            return f"{{{head}}}".encode()
        case "extra":
            return f'{{{head},"M":true,"X":"MARKET","st":[1,{{"k":null}}],"Ω":1.5}}'.encode()
        case "reversed":
            keys = [*head.split(","), '"M":true']
            return f"{{{','.join(reversed(keys))}}}".encode()
        case _:
            return f'{{{head},"M":true}}'.encode()
