"""The admin API: what the exchange has traded, and what shall go wrong with it. For tests and operators, loopback only.

GET /admin/state, /admin/ledger, /admin/book and /admin/streams, POST /admin/faults and /admin/market; bodies and
answers are JSON.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from ingest.simulator.derived import Derived
from ingest.simulator.drivers import Driver
from ingest.simulator.exchange import Exchange
from ingest.simulator.injection import KINDS, FaultError, Injector
from ingest.simulator.ledger import SymbolLedger, decimal
from ingest.simulator.rest import JSON_TYPE, Response
from ingest.simulator.stream_ledger import StreamLedger

PAGE = 20_000
"""Most trades of one page: a larger one would keep the event loop from its streams."""


class Admin:
    """The handler of the admin port."""

    def __init__(self, exchange: Exchange, driver: Driver, injector: Injector, derived: Derived) -> None:
        self._exchange = exchange
        self._derived = derived
        self._streams = StreamLedger(derived.sources)
        self._driver = driver
        self._injector = injector

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes, ip: str) -> Response | None:
        """Answer one request; what the caller did wrong is a 400 with ``error``."""
        path, _, query = target.partition("?")
        try:
            match method, path:
                case "GET", "/admin/state":
                    return _reply(200, self.state())
                case "GET", "/admin/ledger":
                    return self._page(dict(parse_qsl(query)))
                case "GET", "/admin/book":
                    return self._book(dict(parse_qsl(query)))
                case "GET", "/admin/streams":
                    return _reply(200, self._sent())
                case "POST", "/admin/faults":
                    order = _object(body)
                    return _reply(200, self._injector.inject(str(order.pop("kind", "")), order))
                case "GET", "/admin/faults":
                    return _reply(200, {"kinds": list(KINDS)})
                case "POST", "/admin/market":
                    return _reply(200, self._market(_object(body)))
                case _:
                    return _reply(404, {"error": f"there is no {method} {path}"})
        except RecursionError:
            return _reply(400, {"error": "the body is nested too deeply"})
        except (FaultError, ValueError, TypeError, KeyError) as error:
            return _reply(400, {"error": str(error)})

    def state(self) -> dict[str, Any]:
        """Symbols, connections, counters and the source of trades."""
        exchange = self._exchange
        now = exchange.streams.now()
        rest = exchange.rest.counters
        counters = {key if key.startswith("rest_") else f"rest_{key}": value for key, value in rest.items()}
        return {
            "symbols": {name: _symbol(one) for name, one in exchange.ledger.all_symbols.items()},
            "connections": [
                {
                    "number": session.number,
                    "ip": session.ip,
                    "streams": len(session.control.streams),
                    "combined": session.control.combined,
                    "variant": session.variant,
                    "deflate": session.deflates,
                    "age_s": round(now - session.opened_at, 3),
                    "frames": session.sent,
                    "backlog": session.backlog,
                    "stalled": now < session.silent_until,
                    "frozen": session.frozen,
                }
                for session in exchange.streams.sessions.values()
            ],
            "counters": {"rest_429": 0, "rest_418": 0, "rest_weight": 0, **exchange.counters, **counters},
            "market": self._driver.state(),
            "time_us": exchange.clock.now_us(),
            "layout": exchange.layout,
            "faults": list(self._injector.done),
        }

    def _page(self, query: dict[str, str]) -> Response:
        symbol = self._exchange.ledger.all_symbols.get(query["symbol"])
        if symbol is None:
            return _reply(404, {"error": f"{query['symbol']} is not listed"})
        from_id = int(query.get("from_id", "0"))
        limit = max(1, min(PAGE, int(query.get("limit", str(PAGE)))))
        stream = query.get("stream", "trade")
        if stream != "trade":
            page = self._streams.page(symbol, stream, from_id, limit)
            head = {"symbol": symbol.symbol, "stream": stream, "last_id": self._streams.last_id(symbol, stream)}
            return _reply(200, head | page._asdict())
        rows = symbol.rows(from_id, limit)
        spelled = symbol.malformed_text
        parts = []
        for trade_id, price, quantity, time_us, maker in rows:
            texts = spelled.get(trade_id) if spelled else None
            p, q = (decimal(price), decimal(quantity)) if texts is None else texts
            parts.append(f'[{trade_id},"{p}","{q}",{time_us},{"true" if maker else "false"}]')
        more = len(rows) == limit and bool(symbol.rows(rows[-1][0] + 1, 1))
        body = (
            f'{{"symbol":{json.dumps(symbol.symbol)},"trades":[{",".join(parts)}],'
            f'"next_from_id":{rows[-1][0] + 1 if more else "null"},"voids":{json.dumps(symbol.voids)}}}'
        )
        return Response(200, [("Content-Type", JSON_TYPE)], body.encode())

    def _book(self, query: dict[str, str]) -> Response:
        symbol = self._exchange.ledger.symbols.get(query["symbol"])
        if symbol is None:
            return _reply(404, {"error": f"{query['symbol']} is not listed"})
        return _reply(200, self._streams.book(symbol, int(query["id"]) if "id" in query else None))

    def _sent(self) -> dict[str, Any]:
        """What was sent of each stream besides trades, and which part of each book is remembered."""
        books = self._exchange.rest.books
        known = {name: books.known(name) for name in self._exchange.ledger.symbols}
        return {
            "streams": {name: {"events": events, "last": last} for name, (events, last) in self._derived.sent.items()},
            "books": {
                name: {"floor_id": book.floor_id, "update_id": book.update_id}
                for name, book in known.items()
                if book is not None
            },
        }

    def _market(self, order: dict[str, Any]) -> dict[str, Any]:
        match order.get("action"):
            case "start":
                self._driver.start()
            case "stop":
                self._driver.stop()
            case "rate" | "speed":
                self._driver.set_pace(float(order.get("rate", order.get("speed", 0))))
            case other:
                raise ValueError(f"action {other!r} is none of start, stop, rate, speed")
        return self._driver.state()


def _symbol(one: SymbolLedger) -> dict[str, Any]:
    return {
        "first_id": one.first_id,
        "last_id": one.last_id,
        "floor_id": one.floor_id,
        "forgotten": one.forgotten,
        "former": one.former,
        "sent_trades": one.sent_trades,
        "voids": one.voids,
        "status": one.status,
        "base_asset": one.base_asset,
        "quote_asset": one.quote_asset,
    }


def _object(body: bytes) -> dict[str, Any]:
    value = json.loads(body or b"{}")
    if not isinstance(value, dict):
        raise TypeError("the body must be a JSON object")
    return value


def _reply(status: int, value: object) -> Response:
    return Response(status, [("Content-Type", JSON_TYPE)], json.dumps(value, separators=(",", ":")).encode())
