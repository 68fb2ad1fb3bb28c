"""Faults of the exchange itself: what it has traded, lists and writes is different from then on."""

from __future__ import annotations

import asyncio
import time

from ingest.simulator.fault_table import FaultError, Outcome, Site, fault
from ingest.simulator.frames import LAYOUTS
from ingest.simulator.market import split

STATUSES = ("TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY")


@fault("void")
def void(site: Site, *, symbol: str | None = None, count: int = 1) -> Outcome:
    """Lose ids for good: neither the streams nor REST ever have them."""
    one = site.symbol(symbol)
    if site.driver.market is None:
        site.exchange.lost[one.symbol] = site.exchange.lost.get(one.symbol, 0) + count
        return {"symbol": one.symbol, "first": one.next_id, "last": one.next_id + count - 1}
    first, last = one.void(count)
    return {"symbol": one.symbol, "first": first, "last": last}


@fault("giant_jump")
def giant_jump(site: Site, *, symbol: str | None = None, ids: int = 10**12) -> Outcome:
    """Go on with an id far ahead; those in between exist nowhere."""
    site.market("giant_jump")
    one = site.symbol(symbol)
    first, last = one.void(ids)
    return {"symbol": one.symbol, "first": first, "last": last}


@fault("id_reset")
def id_reset(site: Site, *, symbol: str | None = None, to: int | None = None, back: int | None = None) -> Outcome:
    """Go on with a lower id: ``to`` (1 by default), or ``back`` from the last one.

    Ids that are taken are used again; then the earlier trades with these ids are gone, as when a coin is listed again.
    """
    market = site.market("id_reset")
    one = site.symbol(symbol)
    if to is not None and back is not None:
        raise FaultError("to and back exclude each other")
    wanted = max(0, one.last_id - back) if back is not None else 1 if to is None else to
    if one.is_free(wanted):
        one.restart_at(wanted)
    else:
        market.replace(site.exchange.ledger.relist(one.symbol, wanted))
    return {"symbol": one.symbol, "next_id": wanted, "last_id": one.last_id}


@fault("relist")
def relist(site: Site, *, symbol: str, first_id: int = 1) -> Outcome:
    """List a symbol again, whether it is listed or was delisted: its ids begin again, its history is gone."""
    market = site.market("relist")
    made = site.exchange.ledger.relist(symbol, first_id)
    market.replace(made)
    return {"symbol": symbol, "first_id": first_id}


@fault("exchange_frozen")
def exchange_frozen(site: Site, *, seconds: float = 10.0) -> Outcome:
    """Stand still as a whole: streams, pings, REST, trading and the admin API, as a process that was stopped."""
    if not 0 < seconds <= 3600:
        raise FaultError(f"seconds must be above 0 and at most 3600, got {seconds:g}")
    # After the answer to this call; the event loop blocks on purpose.
    asyncio.get_running_loop().call_later(0.05, time.sleep, seconds)
    return {"seconds": seconds}


@fault("clock_skew")
def clock_skew(site: Site, *, ms: int = 0, event_only: bool = False) -> Outcome:
    """Set the exchange's clock ahead or back, or only the event times."""
    if event_only:
        site.exchange.event_skew_us = ms * 1000
    else:
        site.exchange.clock.skew_us = ms * 1000
    return {"ms": ms}


@fault("symbol_status")
def symbol_status(site: Site, *, symbol: str, status: str = "BREAK") -> Outcome:
    """Change a symbol's status; in a BREAK it is not traded."""
    if status not in STATUSES:
        raise FaultError(f"status {status!r} is none of {', '.join(STATUSES)}")
    site.symbol(symbol).change_status(status)
    return {"symbol": symbol, "status": status}


@fault("list_symbol")
def list_symbol(site: Site, *, symbol: str, first_id: int | None = None) -> Outcome:
    """List a symbol and trade it; one that was delisted begins again at ``first_id``, or at 1."""
    market = site.market("list_symbol")
    books = site.exchange.ledger
    if symbol in books.delisted:
        ledger = books.relist(symbol, 1 if first_id is None else first_id)
        market.replace(ledger)
    else:
        ledger = market.list(split(symbol), first_id=first_id)
    return {"symbol": ledger.symbol, "first_id": ledger.first_id}


@fault("delist")
def delist(site: Site, *, symbol: str) -> Outcome:
    """Take a symbol off the exchange: REST knows it no more, its stream is silent; the ledger keeps its trades."""
    market = site.market("delist")
    one = site.symbol(symbol)
    market.delist(one.symbol)
    site.exchange.ledger.delist(one.symbol)
    return {"symbol": one.symbol, "last_id": one.last_id}


@fault("layout")
def layout(site: Site, *, name: str = "current") -> Outcome:
    """Write trade events differently from now on."""
    if name not in LAYOUTS:
        raise FaultError(f"layout {name!r} is none of {', '.join(LAYOUTS)}")
    site.exchange.layout = name
    return {"layout": name}
