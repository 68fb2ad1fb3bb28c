"""Faults of the REST API and of the history behind it."""

from __future__ import annotations

from ingest.simulator.daily_files import FORMS, FileFault
from ingest.simulator.fault_table import FaultError, Outcome, Site, fault
from ingest.simulator.rest_faults import TRUNCATIONS, Hole


def _restrict(site: Site, path: str) -> None:
    """Hit paths that start with this one alone. Raises ``FaultError`` for one that no request has."""
    if path and not path.startswith("/"):
        raise FaultError(f"path {path!r} does not begin with '/': for example /api/v3/historicalTrades")
    site.rest.faults.only = path


@fault("rest_status")
def rest_status(site: Site, *, status: int, calls: int = 1, retry_after: int = 0, path: str = "") -> Outcome:
    """Answer the next calls with a status; a negative number of calls means all."""
    _restrict(site, path)
    site.rest.faults.refuse(status, calls=calls, retry_after=retry_after)
    return {"status": status, "calls": calls}


@fault("rest_429")
def rest_429(site: Site, *, calls: int = 1, retry_after: int = 1, path: str = "") -> Outcome:
    """Too many requests."""
    return rest_status(site, status=429, calls=calls, retry_after=retry_after, path=path)


@fault("rest_418")
def rest_418(site: Site, *, calls: int = 1, retry_after: int = 5, path: str = "") -> Outcome:
    """Banned."""
    return rest_status(site, status=418, calls=calls, retry_after=retry_after, path=path)


@fault("rest_5xx")
def rest_5xx(site: Site, *, calls: int = 1, status: int = 503, path: str = "") -> Outcome:
    """Overloaded, or broken."""
    return rest_status(site, status=status, calls=calls, path=path)


@fault("rest_hang")
def rest_hang(site: Site, *, calls: int = 1, path: str = "") -> Outcome:
    """Never answer the next calls."""
    _restrict(site, path)
    site.rest.faults.hang = calls
    return {"calls": calls}


@fault("rest_garbage")
def rest_garbage(site: Site, *, calls: int = 1, path: str = "") -> Outcome:
    """Cut the next answers in the middle."""
    _restrict(site, path)
    site.rest.faults.garbage = calls
    return {"calls": calls}


@fault("rest_truncate")
def rest_truncate(site: Site, *, calls: int = 1, path: str = "", form: str = "turns") -> Outcome:
    """Leave trades out of the next lists: the middle (``hole``), the newer half (``tail``), or both in ``turns``."""
    if form not in TRUNCATIONS:
        raise FaultError(f"form is one of {', '.join(TRUNCATIONS)}")
    _restrict(site, path)
    site.rest.faults.truncate, site.rest.faults.form = calls, form
    return {"calls": calls}


@fault("history_hole")
def history_hole(site: Site, *, symbol: str | None = None, back: int = 100, count: int = 50, calls: int = 2) -> Outcome:
    """Leave the same ids out of the next lists of a symbol's trades that would have them.

    They begin ``back`` ids before the last one; after so many lists with the hole they are there again.
    """
    if count < 1 or calls < 1:
        raise FaultError(f"count and calls must be at least 1, got {count} and {calls}")
    one = site.symbol(symbol)
    first = max(0, one.last_id - back)
    site.rest.faults.holes.append(Hole(one.symbol, first, first + count - 1, calls))
    return {"symbol": one.symbol, "first": first, "last": first + count - 1}


@fault("daily_file")
def daily_file(site: Site, *, form: str = "absent", symbol: str | None = None, calls: int = -1) -> Outcome:
    """Serve daily files of trades wrongly, or not at all; a negative number of calls means all, null all symbols."""
    if form not in FORMS:
        raise FaultError(f"form is one of {', '.join(FORMS)}")
    name = None if symbol is None else site.symbol(symbol).symbol
    site.rest.daily_files.faults.append(FileFault(form, name, calls))
    return {"form": form, "symbol": name, "calls": calls}


@fault("rest_weight")
def rest_weight(site: Site, *, limit: int) -> Outcome:
    """Set the weight limit that is enforced; exchangeInfo keeps the one from the start."""
    if limit < 1:
        raise FaultError(f"a weight limit must be positive, got {limit}")
    site.rest.meter.limit = limit
    return {"limit": limit}


@fault("history_lag")
def history_lag(site: Site, *, seconds: float = 5.0) -> Outcome:
    """Hide trades younger than this from historicalTrades and aggTrades."""
    site.rest.history_lag_us = int(seconds * 1e6)
    return {"seconds": seconds}


@fault("retention")
def retention(site: Site, *, trades: int | None = None) -> Outcome:
    """Keep only the newest trades per symbol in historicalTrades and aggTrades; null: all."""
    site.rest.retention = trades
    return {"trades": trades}


@fault("clear")
def clear(site: Site) -> Outcome:
    """Call off everything that waits or lasts, the plan included; connections that are black holes are dropped."""
    exchange = site.exchange
    site.plan_ended = True
    exchange.faults.clear()
    site.derived.lag_s.clear()
    exchange.event_skew_us = exchange.clock.skew_us = exchange.replay_on_connect = 0
    exchange.lost.clear()
    site.rest.faults.clear()
    site.rest.daily_files.faults.clear()
    site.rest.history_lag_us, site.rest.retention = 0, None
    site.streams.handshake_policy.refuse = site.streams.handshake_policy.hang = 0
    site.streams.refuse_for(0.0)
    for session in site.chosen("all"):
        session.silent_until = 0.0
        session.silent_streams.clear()
        if session.frozen:
            session.abort()
    return {}
