"""Faults by kind: what the admin API and a fault plan may ask for, and how it is done.

Every kind has a counter ``fault_<kind>``. A request names what it wants to change; the rest has defaults.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import zlib
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ingest.simulator.drivers import Driver
from ingest.simulator.exchange import Exchange
from ingest.simulator.faults import TRADE_KINDS, TradeFault, check_options
from ingest.simulator.frames import COMBINED, LAYOUTS, frame, wrapped
from ingest.simulator.ledger import SymbolLedger
from ingest.simulator.market import split
from ingest.simulator.session import StreamSession

Outcome = dict[str, Any]
REMEMBERED = 200
STATUSES = ("TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY")


class FaultError(ValueError):
    """A fault that does not exist or cannot be done here; the text says why."""


class Injector:
    """Does what is asked, at once. The methods named ``do_<kind>`` are the kinds; their parameters are the options.

    ``connection`` is ``all``, ``oldest``, ``newest`` or a number from /admin/state.
    """

    def __init__(self, exchange: Exchange, driver: Driver) -> None:
        self._exchange = exchange
        self._driver = driver
        self._streams = exchange.streams
        self._rest = exchange.rest
        self.plan_ended = False
        self.done: deque[Outcome] = deque(maxlen=REMEMBERED)
        """What was injected last."""
        for kind in KINDS:
            exchange.counters[f"fault_{kind}"] = 0

    def inject(self, kind: str, options: dict[str, Any]) -> Outcome:
        """Do one fault; what it hit. Raises FaultError."""
        if kind not in KINDS:
            raise FaultError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
        if kind in TRADE_KINDS:
            outcome = self._arm(kind, dict(options))
        else:
            action: Callable[..., Outcome] = getattr(self, f"do_{kind}")
            try:
                inspect.signature(action).bind(**options)
            except TypeError as error:
                raise FaultError(f"{kind}: {error}") from error
            try:
                outcome = action(**options)
            except (ValueError, TypeError, OverflowError) as error:
                raise FaultError(f"{kind}: {error}") from error
        self._exchange.counters[f"fault_{kind}"] += 1
        self.done.append({"time_us": self._exchange.clock.now_us(), "kind": kind, "options": options, "hit": outcome})
        return {"kind": kind, **outcome}

    # Connections.

    def do_reset(self, *, connection: str | int = "all") -> Outcome:
        """End connections with a TCP reset."""
        return _each(self._chosen(connection), StreamSession.reset)

    def do_close(self, *, connection: str | int = "all", code: int = 1001, reason: str = "") -> Outcome:
        """End connections with a close frame."""
        return _each(self._chosen(connection), lambda one: one.close(code, reason))

    def do_stall(self, *, connection: str | int = "all", symbol: str | None = None, seconds: float = 30.0) -> Outcome:
        """Send no data, of all symbols or one, while pings go on; what is traded meanwhile is never sent."""
        until = self._streams.now() + seconds

        def stall(session: StreamSession) -> None:
            if symbol is None:
                session.silent_until = until
            else:
                session.silent_streams[f"{symbol.lower()}@trade"] = until

        return _each(self._chosen(connection), stall)

    def do_black_hole(self, *, connection: str | int = "all", seconds: float = 600.0) -> Outcome:
        """Neither read nor write, as if the network had gone; after the seconds the connection is dropped."""

        def freeze(session: StreamSession) -> None:
            session.freeze()
            asyncio.get_running_loop().call_later(seconds, session.abort)

        return _each(self._chosen(connection), freeze)

    def do_server_shutdown(
        self, *, connection: str | int = "all", lead_s: float = 1.0, nested: bool = False, code: int = 1001
    ) -> Outcome:
        """Announce the end of connections, and end them after the lead (0: at once)."""
        return _each(
            self._chosen(connection), lambda one: one.announce_shutdown(float(lead_s), code=code, nested=nested)
        )

    def do_handshake(self, *, status: int = 403, attempts: int = 1, retry_after: int = 0) -> Outcome:
        """Refuse the next handshakes with an HTTP status; a negative number of attempts means all."""
        if not 400 <= status <= 599:
            raise FaultError(f"a handshake is refused with 400 to 599, got {status}")
        door = self._streams.door
        door.status, door.refuse, door.retry_after = status, attempts, retry_after
        return {"attempts": attempts}

    def do_handshake_hang(self, *, attempts: int = 1) -> Outcome:
        """Accept the next TCP connections and never say a word."""
        self._streams.door.hang = attempts
        return {"attempts": attempts}

    def do_refuse_connects(self, *, seconds: float = 5.0) -> Outcome:
        """Do not listen for a while: the system refuses connections."""
        self._streams.refuse_for(seconds)
        return {"seconds": seconds}

    def do_replay(self, *, connections: int = 1, trades: int = 10) -> Outcome:
        """Begin the next subscriptions with trades that were sent before."""
        self._exchange.replay_on_connect, self._exchange.replayed_trades = connections, trades
        return {"connections": connections}

    # Frames that are no trades.

    def do_huge_frame(self, *, connection: str | int = "all", size: int = 2 * 2**20) -> Outcome:
        """Send an event of this many bytes."""
        return self._tell(connection, b'{"e":"huge","x":"%b"}' % (b"x" * max(0, size - 20)))

    def do_deflate_bomb(self, *, connection: str | int = "all", size: int = 64 * 2**20) -> Outcome:
        """Send a few kilobytes that inflate to this many bytes, to whom negotiated permessage-deflate."""
        bomb = _bomb(size)
        return _each([one for one in self._chosen(connection) if one.deflates], lambda one: one.push(bomb))

    def do_unknown_event(self, *, connection: str | int = "all", count: int = 1) -> Outcome:
        """Send an event that no documentation knows."""
        payload = b'{"e":"quantumTrade","E":1,"s":"BTCUSDT","t":{"q":[1,2,3]},"p":null}'
        return self._tell(connection, payload, stream="btcusdt@quantumTrade", count=count)

    def do_error_object(self, *, connection: str | int = "all", code: int = -1, text: str = "Internal") -> Outcome:
        """Send an error that answers no request."""
        return self._tell(connection, json.dumps({"error": {"code": code, "msg": text}}).encode(), stream=None)

    def do_array(self, *, connection: str | int = "all") -> Outcome:
        """Send an array, as the streams of all tickers do."""
        return self._tell(connection, b'[{"e":"24hrMiniTicker","s":"BTCUSDT"}]', stream="!miniTicker@arr")

    def do_text(self, *, text: str, connection: str | int = "all") -> Outcome:
        """Send any text."""
        return self._tell(connection, text.encode("utf-8", "surrogateescape"), stream=None)

    def do_binary(self, *, connection: str | int = "all") -> Outcome:
        """Send a binary message."""
        return _each(self._chosen(connection), lambda one: one.push(frame(b"\x00\x01\x02", first_byte=0x82)))

    # The exchange's own truth.

    def do_void(self, *, symbol: str | None = None, count: int = 1) -> Outcome:
        """Lose ids for good: neither the streams nor REST ever have them."""
        one = self._symbol(symbol)
        if self._driver.market is None:
            self._exchange.lost[one.symbol] = self._exchange.lost.get(one.symbol, 0) + count
            return {"symbol": one.symbol, "first": one.next_id, "last": one.next_id + count - 1}
        first, last = one.void(count)
        return {"symbol": one.symbol, "first": first, "last": last}

    def do_giant_jump(self, *, symbol: str | None = None, ids: int = 10**12) -> Outcome:
        """Go on with an id far ahead; those in between exist nowhere."""
        self._needs_market("giant_jump")
        one = self._symbol(symbol)
        first, last = one.void(ids)
        return {"symbol": one.symbol, "first": first, "last": last}

    def do_id_reset(self, *, symbol: str | None = None, to: int = 1) -> Outcome:
        """Go on with a lower id, as if the venue had started to count anew."""
        self._needs_market("id_reset")
        one = self._symbol(symbol)
        one.restart_at(to)
        return {"symbol": one.symbol, "next_id": to}

    def do_clock_skew(self, *, ms: int = 0, event_only: bool = False) -> Outcome:
        """Set the exchange's clock ahead or back, or only the event times."""
        if event_only:
            self._exchange.event_skew_us = ms * 1000
        else:
            self._exchange.clock.skew_us = ms * 1000
        return {"ms": ms}

    def do_symbol_status(self, *, symbol: str, status: str = "BREAK") -> Outcome:
        """Change a symbol's status; in a BREAK it is not traded."""
        if status not in STATUSES:
            raise FaultError(f"status {status!r} is none of {', '.join(STATUSES)}")
        self._symbol(symbol).status = status
        return {"symbol": symbol, "status": status}

    def do_list_symbol(self, *, symbol: str) -> Outcome:
        """List a symbol and trade it."""
        self._needs_market("list_symbol")
        assert self._driver.market is not None  # noqa: S101
        ledger = self._driver.market.list(split(symbol))
        return {"symbol": ledger.symbol, "first_id": ledger.first_id}

    def do_delist(self, *, symbol: str) -> Outcome:
        """Take a symbol off the exchange: REST knows it no more, its stream is silent; its books stay."""
        self._needs_market("delist")
        assert self._driver.market is not None  # noqa: S101
        one = self._symbol(symbol)
        self._driver.market.delist(one.symbol)
        self._exchange.ledger.delist(one.symbol)
        return {"symbol": one.symbol, "last_id": one.last_id}

    def do_layout(self, *, name: str = "current") -> Outcome:
        """Write trade events differently from now on."""
        if name not in LAYOUTS:
            raise FaultError(f"layout {name!r} is none of {', '.join(LAYOUTS)}")
        self._exchange.layout = name
        return {"layout": name}

    # REST.

    def do_rest_status(self, *, status: int, calls: int = 1, retry_after: int = 0, path: str = "") -> Outcome:
        """Answer the next calls with a status; a negative number of calls means all."""
        self._rest.faults.refuse(status, calls=calls, retry_after=retry_after)
        self._rest.faults.only = path
        return {"status": status, "calls": calls}

    def do_rest_429(self, *, calls: int = 1, retry_after: int = 1, path: str = "") -> Outcome:
        """Too many requests."""
        return self.do_rest_status(status=429, calls=calls, retry_after=retry_after, path=path)

    def do_rest_418(self, *, calls: int = 1, retry_after: int = 5, path: str = "") -> Outcome:
        """Banned."""
        return self.do_rest_status(status=418, calls=calls, retry_after=retry_after, path=path)

    def do_rest_5xx(self, *, calls: int = 1, status: int = 503, path: str = "") -> Outcome:
        """Overloaded, or broken."""
        return self.do_rest_status(status=status, calls=calls, path=path)

    def do_rest_hang(self, *, calls: int = 1, path: str = "") -> Outcome:
        """Never answer the next calls."""
        self._rest.faults.hang, self._rest.faults.only = calls, path
        return {"calls": calls}

    def do_rest_garbage(self, *, calls: int = 1, path: str = "") -> Outcome:
        """Cut the next answers in the middle."""
        self._rest.faults.garbage, self._rest.faults.only = calls, path
        return {"calls": calls}

    def do_rest_truncate(self, *, calls: int = 1, path: str = "") -> Outcome:
        """Leave trades out of the next lists: in turns in the middle and at the end."""
        self._rest.faults.truncate, self._rest.faults.only = calls, path
        return {"calls": calls}

    def do_rest_weight(self, *, limit: int) -> Outcome:
        """Set the weight limit that is enforced; exchangeInfo keeps the one from the start."""
        if limit < 1:
            raise FaultError(f"a weight limit must be positive, got {limit}")
        self._rest.meter.limit = limit
        return {"limit": limit}

    def do_history_lag(self, *, seconds: float = 5.0) -> Outcome:
        """Hide trades younger than this from historicalTrades and aggTrades."""
        self._rest.history_lag_us = int(seconds * 1e6)
        return {"seconds": seconds}

    def do_retention(self, *, trades: int | None = None) -> Outcome:
        """Keep only the newest trades per symbol in historicalTrades and aggTrades; null: all."""
        self._rest.retention = trades
        return {"trades": trades}

    def do_clear(self) -> Outcome:
        """Call off everything that waits or lasts, the plan included; connections that are black holes are dropped."""
        exchange = self._exchange
        self.plan_ended = True
        exchange.faults.armed.clear()
        exchange.event_skew_us = exchange.clock.skew_us = exchange.replay_on_connect = 0
        exchange.lost.clear()
        self._rest.faults.clear()
        self._rest.history_lag_us, self._rest.retention = 0, None
        self._streams.door.refuse = self._streams.door.hang = 0
        self._streams.refuse_for(0.0)
        for session in self._chosen("all"):
            session.silent_until = 0.0
            session.silent_streams.clear()
            if session.frozen:
                session.abort()
        return {}

    # Helpers.

    def _arm(self, kind: str, options: dict[str, Any]) -> Outcome:
        symbol = options.pop("symbol", None)
        connection = options.pop("connection", "all")
        count = int(options.pop("count", 1))
        if count < 1:
            raise FaultError(f"{kind}: count must be at least 1, got {count}")
        try:
            check_options(kind, options)
        except (ValueError, TypeError) as error:
            raise FaultError(str(error)) from error
        if symbol is not None:
            self._symbol(symbol)
        number = None
        if connection != "all":
            chosen = self._chosen(connection)
            if not chosen:
                raise FaultError(f"there is no connection {connection!r}")
            number = chosen[0].number
        self._exchange.faults.armed.append(TradeFault(kind, count, symbol, number, options))
        return {"count": count}

    def _chosen(self, connection: str | int) -> list[StreamSession]:
        sessions = list(self._streams.sessions.values())
        match connection:
            case "all":
                return sessions
            case "oldest":
                return sessions[:1]
            case "newest":
                return sessions[-1:]
            case _:
                number = int(connection)
                return [session for session in sessions if session.number == number]

    def _symbol(self, name: str | None) -> SymbolLedger:
        if name is None:
            return self._exchange.busiest()
        found = self._exchange.ledger.symbols.get(name)
        if found is None:
            raise FaultError(f"{name} is not listed")
        return found

    def _needs_market(self, kind: str) -> None:
        if self._driver.market is None:
            raise FaultError(f"{kind} needs a seeded market: a recording has its own ids and symbols")

    def _tell(
        self, connection: str | int, payload: bytes, *, stream: str | None = "btcusdt@huge", count: int = 1
    ) -> Outcome:
        def tell(session: StreamSession) -> None:
            combined = stream is not None and session.variant & COMBINED
            text = wrapped(stream, payload) if combined and stream is not None else payload
            for _ in range(count):
                session.push(frame(text))

        return _each(self._chosen(connection), tell)


KINDS = tuple(sorted((*TRADE_KINDS, *(name[3:] for name in vars(Injector) if name.startswith("do_")))))
"""Every fault there is."""


def _each(sessions: list[StreamSession], action: Callable[[StreamSession], object]) -> Outcome:
    for session in sessions:
        action(session)
        session.flush()
    return {"connections": [session.number for session in sessions]}


@lru_cache(maxsize=2)
def _bomb(size: int) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    chunk = b"0" * 2**20
    parts = [deflate.compress(b'{"e":"bomb","x":"')]
    parts += [deflate.compress(chunk) for _ in range(max(1, size // len(chunk)))]
    parts += [deflate.compress(b'"}'), deflate.flush(zlib.Z_SYNC_FLUSH)]
    return frame(b"".join(parts)[:-4], first_byte=0xC1)
