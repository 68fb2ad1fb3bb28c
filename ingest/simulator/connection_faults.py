"""Faults of connections, and frames that are no trades."""

from __future__ import annotations

import asyncio
import json
import zlib
from functools import lru_cache, partial

from ingest.simulator.fault_table import FaultError, Outcome, Site, each, fault
from ingest.simulator.frames import frame
from ingest.simulator.session import StreamSession


@fault("reset")
def reset(site: Site, *, connection: str | int = "all", mid_frame: bool = False) -> Outcome:
    """End connections with a TCP reset, on request when a frame has been sent in part."""
    return each(site.chosen(connection), StreamSession.reset_in_frame if mid_frame else StreamSession.reset)


@fault("close")
def close(site: Site, *, connection: str | int = "all", code: int = 1001, reason: str = "") -> Outcome:
    """End connections with a close frame."""
    return each(site.chosen(connection), lambda one: one.close(code, reason))


@fault("stall")
def stall(
    site: Site,
    *,
    connection: str | int = "all",
    symbol: str | None = None,
    stream: str | None = None,
    seconds: float = 30.0,
) -> Outcome:
    """Send no data while pings go on: of a symbol's stream (trades by default), of a stream of all symbols, or at all.

    What happens meanwhile is never sent.
    """
    until = site.streams.now() + seconds

    def silence(session: StreamSession) -> None:
        if symbol is None and stream is None:
            session.silent_until = until
        elif symbol is None:
            names = [name for name in session.control.streams if name.partition("@")[2] == stream]
            session.silent_streams.update(dict.fromkeys(names, until))
        else:
            session.silent_streams[f"{symbol.lower()}@{stream or 'trade'}"] = until

    return each(site.chosen(connection), silence)


@fault("black_hole")
def black_hole(site: Site, *, connection: str | int = "all", seconds: float = 600.0) -> Outcome:
    """Neither read nor write, as if the network had gone; after the seconds the connection is dropped."""

    def freeze(session: StreamSession) -> None:
        session.freeze()
        asyncio.get_running_loop().call_later(seconds, session.abort)

    return each(site.chosen(connection), freeze)


@fault("server_shutdown")
def server_shutdown(
    site: Site, *, connection: str | int = "all", lead_s: float = 1.0, nested: bool = False, code: int = 1001
) -> Outcome:
    """Announce the end of connections at one moment to all, and end them after the lead (0: at once)."""
    at_us = site.streams.clock.now_us()
    announce = partial(StreamSession.announce_shutdown, lead_s=float(lead_s), at_us=at_us, code=code, nested=nested)
    return each(site.chosen(connection), announce)


@fault("handshake")
def handshake(site: Site, *, status: int = 403, attempts: int = 1, retry_after: int = 0) -> Outcome:
    """Refuse the next handshakes with an HTTP status; a negative number of attempts means all."""
    if not 400 <= status <= 599:
        raise FaultError(f"a handshake is refused with 400 to 599, got {status}")
    policy = site.streams.handshake_policy
    policy.status, policy.refuse, policy.retry_after = status, attempts, retry_after
    return {"attempts": attempts}


@fault("handshake_hang")
def handshake_hang(site: Site, *, attempts: int = 1) -> Outcome:
    """Accept the next TCP connections and never say a word."""
    site.streams.handshake_policy.hang = attempts
    return {"attempts": attempts}


@fault("refuse_connects")
def refuse_connects(site: Site, *, seconds: float = 5.0) -> Outcome:
    """Do not listen for a while: the system refuses connections."""
    site.streams.refuse_for(seconds)
    return {"seconds": seconds}


@fault("replay")
def replay(site: Site, *, connections: int = 1, trades: int = 10) -> Outcome:
    """Begin the next subscriptions with trades that were sent before."""
    site.exchange.replay_on_connect, site.exchange.replayed_trades = connections, trades
    return {"connections": connections}


@fault("huge_frame")
def huge_frame(site: Site, *, connection: str | int = "all", size: int = 2 * 2**20) -> Outcome:
    """Send an event of this many bytes."""
    return site.send(connection, b'{"e":"huge","x":"%b"}' % (b"x" * max(0, size - 20)))


@fault("deflate_bomb")
def deflate_bomb(site: Site, *, connection: str | int = "all", size: int = 64 * 2**20) -> Outcome:
    """Send a few kilobytes that inflate to this many bytes, to whom negotiated permessage-deflate."""
    bomb = _bomb(size)
    return each([one for one in site.chosen(connection) if one.deflates], lambda one: one.push(bomb))


@fault("unknown_event")
def unknown_event(site: Site, *, connection: str | int = "all", count: int = 1) -> Outcome:
    """Send an event that no documentation knows, at most 10,000 times."""
    if count > 10_000:
        raise FaultError(f"unknown_event: count may be 10,000 at most, got {count}")
    payload = b'{"e":"quantumTrade","E":1,"s":"BTCUSDT","t":{"q":[1,2,3]},"p":null}'
    return site.send(connection, payload, stream="btcusdt@quantumTrade", count=count)


@fault("error_object")
def error_object(site: Site, *, connection: str | int = "all", code: int = -1, text: str = "Internal") -> Outcome:
    """Send an error that answers no request."""
    return site.send(connection, json.dumps({"error": {"code": code, "msg": text}}).encode(), stream=None)


@fault("array")
def array(site: Site, *, connection: str | int = "all") -> Outcome:
    """Send an array, as the streams of all tickers do."""
    return site.send(connection, b'[{"e":"24hrMiniTicker","s":"BTCUSDT"}]', stream="!miniTicker@arr")


@fault("text")
def text(site: Site, *, text: str, connection: str | int = "all") -> Outcome:
    """Send any text."""
    return site.send(connection, text.encode("utf-8", "surrogateescape"), stream=None)


@fault("binary")
def binary(site: Site, *, connection: str | int = "all") -> Outcome:
    """Send a binary message."""
    return each(site.chosen(connection), lambda one: one.push(frame(b"\x00\x01\x02", first_byte=0x82)))


@lru_cache(maxsize=2)
def _bomb(size: int) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    chunk = b"0" * 2**20
    parts = [deflate.compress(b'{"e":"bomb","x":"')]
    parts += [deflate.compress(chunk) for _ in range(max(1, size // len(chunk)))]
    parts += [deflate.compress(b'"}'), deflate.flush(zlib.Z_SYNC_FLUSH)]
    return frame(b"".join(parts)[:-4], first_byte=0xC1)
