"""Faults of the order book and of the streams besides trades, as far as they are more than a changed event."""

from __future__ import annotations

from ingest.simulator.derived_events import kind_of
from ingest.simulator.fault_table import FaultError, Outcome, Site, fault
from ingest.simulator.faults import TradeFault
from ingest.simulator.rest import MOST_DEPTH
from ingest.simulator.rest_faults import Hole, StaleDepth

LONGEST_LAG_S = 3600.0
FOR_GOOD = 10**9


@fault("depth_stale")
def depth_stale(site: Site, *, symbol: str | None = None, calls: int = 1) -> Outcome:
    """Answer the next snapshots of a book with what it is now: older than the first update of a later subscriber."""
    if calls < 1:
        raise FaultError(f"calls must be at least 1, got {calls}")
    one = site.symbol(symbol)
    book = site.rest.books.of(one)
    bids, asks = (book.side(bids=side, limit=MOST_DEPTH) for side in (True, False))
    site.rest.faults.stale[one.symbol] = StaleDepth(calls, book.update_id, bids, asks)
    return {"symbol": one.symbol, "calls": calls, "update_id": book.update_id}


@fault("stream_lag")
def stream_lag(site: Site, *, stream: str = "depth@100ms", symbol: str | None = None, seconds: float = 5.0) -> Outcome:
    """Send a stream's events so much later, so that a snapshot by REST lies beyond what has come; 0 seconds end it."""
    if kind_of(stream) is None:
        raise FaultError(f"there is no stream {stream!r} that can lag")
    if not 0 <= seconds <= LONGEST_LAG_S:
        raise FaultError(f"seconds must be 0 to {LONGEST_LAG_S:g}, got {seconds:g}")
    name = None if symbol is None else site.symbol(symbol).symbol
    if seconds:
        site.derived.lag_s[stream, name] = seconds
    else:
        site.derived.lag_s.pop((stream, name), None)
    return {"stream": stream, "symbol": name, "seconds": seconds}


@fault("book_crossed")
def book_crossed(site: Site, *, symbol: str | None = None) -> Outcome:
    """Cross the exchange's own book: a bid above the best ask, in the streams and in REST, until the next trade."""
    site.market("book_crossed")
    one = site.symbol(symbol)
    book = site.rest.books.seeded(one)
    price = book.cross()
    return {"symbol": one.symbol, "price": price, "update_id": book.update_id}


@fault("aggregate_without_trades")
def aggregate_without_trades(site: Site, *, symbol: str | None = None, count: int = 1) -> Outcome:
    """Lose the next trades from the stream and from REST, but not from their aggregates."""
    if count < 1:
        raise FaultError(f"count must be at least 1, got {count}")
    one = site.symbol(symbol)
    first, last = one.next_id, one.next_id + count - 1
    site.exchange.faults.arm(TradeFault("gap", count, one.symbol))
    site.rest.faults.holes.append(Hole(one.symbol, first, last, FOR_GOOD))
    return {"symbol": one.symbol, "first": first, "last": last}
