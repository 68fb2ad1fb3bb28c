"""The simulator's admin API and the exchange's history, as far as the auditor asks, on a port of their own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from ingest.audit.model import LedgerTrade


class LedgerServer:
    """Serves ``books`` (symbol -> trades, ascending) with small pages; ``scripted`` answers come first."""

    def __init__(self, books: dict[str, list[LedgerTrade]], *, page: int = 7) -> None:
        self.books = books
        self.page = page
        self.voids: dict[str, list[tuple[int, int]]] = {}
        self.scripted: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], str | None]] = []
        self.headers: dict[str, str] = {}
        self.refusal: tuple[int, Any] | None = None
        """Status and body of every answer."""
        self.cut = 0
        """Answers that end in the middle."""
        self.lag = 0
        """Newest trades that the history does not have yet."""
        self.kept: int | None = None
        """Newest trades that the history has."""
        self.newest: LedgerTrade | None = None
        """The trade that happened last, if it is not the one with the greatest id."""
        self.forgotten = False
        self.former: list[tuple[int, int]] = []
        self.holes = 0
        """Replies of the history that leave out their middle third."""
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if self.refusal is not None:
            return self.refusal
        symbol = query.get("symbol", "")
        trades = self.books.get(symbol, [])
        match path:
            case "/admin/state":
                return 200, {"symbols": {name: self._state(name) for name in self.books}, "counters": {}}
            case "/admin/ledger":
                due = [one for one in trades if one.trade_id >= int(query["from_id"])]
                page = due[: min(self.page, int(query["limit"]))]
                more = len(due) > len(page)
                rows = [[o.trade_id, o.price, o.quantity, o.time_us, o.buyer_is_maker] for o in page]
                next_id = page[-1].trade_id + 1 if more else None
                return 200, {"symbol": symbol, "trades": rows, "next_from_id": next_id, "voids": []}
            case "/api/v3/exchangeInfo":
                if symbol not in self.books:
                    return 400, {"code": -1121, "msg": "Invalid symbol."}
                assets = {"baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT"}
                return 200, {"symbols": [{"symbol": symbol, "status": "TRADING", **assets}]}
            case "/api/v3/historicalTrades" if symbol not in self.books:
                return 400, {"code": -1121, "msg": "Invalid symbol."}
            case "/api/v3/historicalTrades":
                trades = trades[: len(trades) - self.lag]
                trades = trades if self.kept is None else trades[-self.kept :]
                limit = int(query.get("limit", "500"))
                if "fromId" in query:
                    page = [one for one in trades if one.trade_id >= int(query["fromId"])][:limit]
                else:
                    page = trades[-limit:] if self.newest is None else [self.newest]
                if self.holes and len(page) > 2:
                    self.holes -= 1
                    page = page[: len(page) // 3] + page[-(len(page) // 3) :]
                return 200, [
                    {"id": o.trade_id, "price": o.price, "qty": o.quantity, "quoteQty": "1", "time": o.time_us,
                     "isBuyerMaker": o.buyer_is_maker, "isBestMatch": True}
                    for o in page
                ]  # fmt: skip
            case _:
                return 404, {}

    def _state(self, symbol: str) -> dict[str, Any]:
        trades = self.books[symbol]
        return {
            "first_id": trades[0].trade_id, "last_id": (self.newest or trades[-1]).trade_id, "sent_trades": len(trades),
            "floor_id": trades[0].trade_id, "forgotten": self.forgotten, "former": self.former,
            "voids": self.voids.get(symbol, []), "base_asset": symbol.removesuffix("USDT"), "quote_asset": "USDT",
        }  # fmt: skip

    def __enter__(self) -> Self:
        ledger = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                ledger.requests.append((parts.path, query, self.headers.get("X-MBX-TIME-UNIT")))
                if ledger.scripted:
                    status, headers = ledger.scripted.pop(0)
                    body = b"{}"
                else:
                    headers = ledger.headers
                    status, data = ledger.answer(parts.path, query)
                    body = json.dumps(data).encode()
                    if ledger.cut:
                        ledger.cut -= 1
                        body = body[: len(body) // 2]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="ledger", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
