"""The exchange: a trade goes into the ledger first and then to the streams, past the faults that wait for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from ingest.simulator.event_edits import altered, edited
from ingest.simulator.faults import TradeFault, TradeFaults, struck
from ingest.simulator.frames import Layout, Outgoing, Sendable, StreamEvent, stream_of
from ingest.simulator.ledger import Ledger, Row, SymbolLedger, decimal
from ingest.simulator.rest import RestApi
from ingest.simulator.rest_market import units
from ingest.simulator.rules import ExchangeClock
from ingest.simulator.session import StreamSession
from ingest.simulator.streams import Streams

HELD_S = 1.0
"""How long a trade is held back for another one to overtake it."""


class Exchange:
    """Ledger, streams and REST of one venue. Everything happens in the event loop's thread."""

    def __init__(
        self,
        ledger: Ledger,
        streams: Streams,
        rest: RestApi,
        *,
        clock: ExchangeClock,
        counters: Counter[str],
        layout: Layout = "current",
    ) -> None:
        self.ledger = ledger
        self.streams = streams
        self.rest = rest
        self.clock = clock
        self.counters = counters
        self.layout: Layout = layout
        self.faults = TradeFaults()
        self.event_skew_us = 0
        """Added to E alone."""
        self.replay_on_connect = 0
        """Subscriptions that begin with trades the client may have had before."""
        self.replayed_trades = 10
        self.lost: dict[str, int] = {}
        """Recorded trades, per symbol, that are to vanish without a trace."""
        self._held: dict[str, tuple[float, TradeFault, Sendable]] = {}
        streams.on_subscribed.append(self._subscribed)

    def trade(
        self,
        symbol: SymbolLedger,
        price: int,
        quantity: int,
        time_us: int,
        buyer_is_maker: bool,  # noqa: FBT001
        *,
        event_us: int,
        recorded: bytes | None = None,
    ) -> None:
        """Make a trade and send it. Raises ValueError when the ledger cannot take it."""
        fault = self.faults.take(symbol.symbol) if self.faults.armed else None
        trade_id = symbol.append(price, quantity, time_us, buyer_is_maker)
        row: Row = (trade_id, price, quantity, time_us, buyer_is_maker)
        if fault is not None and fault.kind == "bad_decimal" and fault.options.get("truth"):
            _misspell(symbol, row, fault)
        trade = Outgoing(symbol, row, event_us + self.event_skew_us, self.layout, recorded)
        held = self._held.pop(trade.stream, None) if self._held else None
        if fault is None:
            self.streams.send(trade)
        else:
            self._strike(fault, trade)
        if held is not None:
            self._send_struck(held[2], held[1])

    def record(
        self,
        symbol: SymbolLedger,
        trade_id: int,
        price: int,
        quantity: int,
        time_us: int,
        buyer_is_maker: bool,  # noqa: FBT001
        *,
        event_us: int,
        recorded: bytes,
    ) -> None:
        """Make a recorded trade under its recorded id; ids that the recording leaves out are voids."""
        if trade_id < symbol.next_id:
            self.counters["replay_ids_again"] += 1
            return
        lost = self.lost.get(symbol.symbol, 0)
        if lost:
            self.lost[symbol.symbol] = lost - 1
            return
        if trade_id > symbol.next_id:
            symbol.void(trade_id - symbol.next_id)
        self.trade(symbol, price, quantity, time_us, buyer_is_maker, event_us=event_us, recorded=recorded)

    def publish(self, event: StreamEvent) -> None:
        """Send an event of another stream."""
        fault = self.faults.take_event(event) if self.faults.armed_streams else None
        held = self._held.pop(event.stream, None) if self._held else None
        if fault is not None:
            self._strike(fault, event)
        else:
            for session in self.streams.listeners(event.stream):
                session.push(event.frame(session.variant))
        if held is not None:
            self._send_struck(held[2], held[1])

    def release(self, now: float) -> None:
        """Send the held trades that nothing has overtaken in time."""
        for name, (since, fault, trade) in list(self._held.items()):
            if now - since >= HELD_S:
                del self._held[name]
                self._send_struck(trade, fault)

    def busiest(self) -> SymbolLedger:
        """The symbol with the most trades. Raises ValueError when none is listed."""
        trading = [one for one in self.ledger.symbols.values() if one.status == "TRADING"]
        if not trading:
            raise ValueError("no symbol is trading")
        return max(trading, key=lambda one: one.sent_trades)

    def _strike(self, fault: TradeFault, trade: Sendable) -> None:
        for session in self.streams.listeners(trade.stream):
            if fault.connection not in (None, session.number):
                session.push(trade.frame(session.variant))
        if fault.kind == "bar_corrected" and fault.options.get("truth"):
            corrected = json.loads(edited(trade.payload(0), altered))["k"]
            times = int(corrected["t"]) * 1000, int(corrected["T"]) * 1000 + 999
            self.rest.candles(trade.symbol).corrected[times] = units(corrected["v"])
        if fault.kind == "reorder":
            previous = self._held.pop(trade.stream, None)
            self._held[trade.stream] = (self.streams.now(), fault, trade)
            if previous is not None:
                self._send_struck(previous[2], previous[1])
            return
        for session in self._in_scope(trade, fault):
            for data in struck(fault, trade, session.variant):
                session.push(data)

    def _send_struck(self, trade: Sendable, fault: TradeFault) -> None:
        for session in self._in_scope(trade, fault):
            session.push(trade.frame(session.variant))

    def _in_scope(self, trade: Sendable, fault: TradeFault) -> Iterator[StreamSession]:
        for session in self.streams.listeners(trade.stream):
            if fault.connection in (None, session.number):
                yield session

    def _subscribed(self, session: StreamSession, added: tuple[str, ...]) -> None:
        if self.replay_on_connect <= 0:
            return
        self.replay_on_connect -= 1
        for name in added:
            symbol = self.ledger.symbols.get(name.partition("@")[0].upper())
            if symbol is not None and name == stream_of(symbol.symbol):
                for row in symbol.newest(self.replayed_trades):
                    session.push(Outgoing(symbol, row, row[3], self.layout).frame(session.variant))
                    self.counters["replayed_trades"] += 1


def _misspell(symbol: SymbolLedger, row: Row, fault: TradeFault) -> None:
    value = str(fault.options.get("value", "-1.00000000"))
    if fault.options.get("field", "p") == "p":
        symbol.misspell(row[0], value, decimal(row[2]))
    else:
        symbol.misspell(row[0], decimal(row[1]), value)
