"""Stream names, the opening URL and control messages within the exchange's limits. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

URL_LIMIT = 7_500
"""Longer than about 8,004 characters fails in the handshake [obs unicorn-binance-websocket-api#17]."""
MESSAGE_LIMIT = 4_000
"""Above 4,096 bytes a control message gets no reply at all [obs binance-connector-rust#27]."""


def stream_of(symbol: str, wire: str = "trade") -> str:
    """The name of a symbol's stream: the symbol part is in lower case [wss]."""
    return f"{symbol.lower()}@{wire}"


def opening_url(base: str, symbols: Sequence[str], *, wire: str = "trade", limit: int = URL_LIMIT) -> tuple[str, int]:
    """The URL of the combined stream in microseconds, and how many of ``symbols`` it names.

    The rest is subscribed once the connection is open. With no symbols at all the path is the bare ``/stream``.
    """
    base = base.rstrip("/")
    tail = "timeUnit=MICROSECOND"
    length = len(base) + len("/stream?streams=&") + len(tail)
    names: list[str] = []
    for symbol in symbols:
        name = quote(stream_of(symbol, wire), safe="@")
        length += len(name) + 1
        if length > limit:
            break
        names.append(name)
    if not names:
        return f"{base}/stream?{tail}", 0
    return f"{base}/stream?streams={'/'.join(names)}&{tail}", len(names)


def request(method: str, symbols: Iterable[str], request_id: int, wire: str = "trade") -> bytes:
    """A SUBSCRIBE or UNSUBSCRIBE message."""
    params = [stream_of(symbol, wire) for symbol in symbols]
    message = {"method": method, "params": params, "id": request_id}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def chunks(symbols: Iterable[str], *, wire: str = "trade", limit: int = MESSAGE_LIMIT) -> Iterator[list[str]]:
    """Split symbols so that each one's share, as a request, stays below ``limit`` bytes."""
    overhead = len(request("UNSUBSCRIBE", (), 2**53))
    part: list[str] = []
    size = overhead
    for symbol in symbols:
        cost = len(stream_of(symbol, wire).encode()) + 3
        if part and size + cost > limit:
            yield part
            part, size = [], overhead
        part.append(symbol)
        size += cost
    if part:
        yield part
