"""The simulated REST API: market data of a ledger, with Binance's weights, limits and refusals.

Pure: a request goes in, a response comes out, and the clock is the caller's. Facts are those of Binance's
"Public REST API for Binance": endpoints and weights, X-MBX headers, error codes, and the behaviour that an id older
than what is retained is answered from the oldest trade there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ingest.simulator.block_trades import BlockTrade, BlockTrades
from ingest.simulator.books import Books
from ingest.simulator.daily_files import PREFIX as DAILY_FILES
from ingest.simulator.daily_files import DailyFiles
from ingest.simulator.derived_events import aggregate_text, bare
from ingest.simulator.exchange_info import ExchangeInfo
from ingest.simulator.klines import INTERVALS, Candles, zone_us
from ingest.simulator.ledger import Aggregate, Ledger, Row, SymbolLedger, decimal
from ingest.simulator.rest_faults import RestFaults, refusal_body
from ingest.simulator.rest_market import DayWindow, average_price, depth, depth_text, last_price, top_text
from ingest.simulator.rest_params import ApiError, Params, bad_combination, invalid, missing
from ingest.simulator.weights import Refusal, WeightMeter

__all__ = ["Response", "RestApi", "RestFaults"]

JSON_TYPE = "application/json;charset=UTF-8"
DEFAULT_TRADES = 500
MOST_TRADES = 1000
DEFAULT_DEPTH = 100
MOST_DEPTH = 5000
TICKER_FEW = 20
TICKER_MANY = 100
_KLINES = frozenset(("symbol", "interval", "startTime", "endTime", "timeZone", "limit"))
_UNITS = {"MILLISECOND": 1000, "millisecond": 1000, "MICROSECOND": 1, "microsecond": 1}


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer; the server adds the headers of its transport (Date, Content-Length, Connection)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Call(NamedTuple):
    """A request whose parameters are known to the endpoint."""

    path: str
    params: Params
    divisor: int  # microseconds per unit of time in the answer
    now_us: int


class _Endpoint(NamedTuple):
    params: frozenset[str]
    weight: Callable[[Params], int]
    answer: Callable[[_Call], str | bytes]


class RestApi:
    """All endpoints over one ledger; `retention`, `history_lag_us` and `faults` may be changed at any time."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        now_us: Callable[[], int],
        weight_limit: int = 6000,
        retention: int | None = None,
        history_lag_us: int = 0,
        market_now_us: Callable[[], int] | None = None,
        books: Books | None = None,
        seed: int = 1,
    ) -> None:
        """Serve a ledger, and its books; ``seed`` is that of block trades.

        `retention` is the number of newest trades per symbol that historicalTrades and aggTrades know of (None: all);
        `history_lag_us` hides trades younger than this from both, as their source is a database, not memory.
        `market_now_us` is the time by which trades are young; of a replay it is the recorded one.
        """
        self.retention = retention
        self.history_lag_us = history_lag_us
        self.faults = RestFaults()
        self.daily_files = DailyFiles(ledger, now_us if market_now_us is None else market_now_us)
        self.books = Books(ledger) if books is None else books
        self.block_trades = True
        """Whether there are any: a recording has none."""
        self.counters: Counter[str] = Counter()
        self.meter = WeightMeter(weight_limit)
        self._ledger = ledger
        self._now_us = now_us
        self._market_now_us = now_us if market_now_us is None else market_now_us
        self._info = ExchangeInfo(ledger, weight_limit=weight_limit)
        self._seed = seed
        self._candles: dict[str, Candles] = {}
        self._blocks: dict[str, BlockTrades] = {}
        self._days: dict[str, tuple[SymbolLedger, DayWindow]] = {}
        self._endpoints = self._routes()

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], ip: str) -> Response | None:
        """Answer one request; None when a fault says that the answer never comes."""
        if path.startswith(DAILY_FILES):
            return self._daily_file(method, path)
        now_us = self._now_us()
        endpoint = self._endpoints.get(path)
        self.counters[f"calls:{path}" if endpoint else "calls:unknown"] += 1
        if self.faults.take_hang(path):
            self.counters["rest_hang"] += 1
            return None
        status = self.faults.take_status(path)
        if status is not None:
            return self._faulty(status, ip, now_us)
        lowered = {name.lower(): value for name, value in headers.items()}
        error: ApiError | None = None
        call: _Call | None = None
        weight = 1
        try:
            if endpoint is None:
                raise ApiError(-1000, f"Path {path}, Method {method} is invalid", status=404)  # noqa: TRY301
            if method != "GET":
                raise ApiError(-1000, f"Request method '{method}' is not supported.", status=405)  # noqa: TRY301
            call, weight = self._read(endpoint, path, query, lowered, now_us)
        except ApiError as refused:
            error = refused
        used = self.meter.charge(ip, weight, now_us / 1e6)
        self.counters["weight"] += weight
        refusal = self.meter.refusal(ip, now_us / 1e6)
        if refusal is not None:
            return self._refused(refusal, used)
        if error is None and call is not None and endpoint is not None:
            try:
                answer = endpoint.answer(call)
            except ApiError as refused:
                error = refused
            else:
                body = answer if isinstance(answer, bytes) else answer.encode()
                return _response(200, self.faults.spoil(path, body), used)
        assert error is not None  # noqa: S101 - without an error there was a call, and it has been answered
        self.counters[f"error:{error.code}"] += 1
        return _response(error.status, error.body, used)

    def _daily_file(self, method: str, path: str) -> Response:
        """The files have a host of their own: neither weights nor faults of the API apply."""
        self.counters["calls:daily_files"] += 1
        body = self.daily_files.get(path) if method == "GET" else None
        if body is None:
            return Response(404, [("Content-Type", "application/xml")], b"<Error><Code>NoSuchKey</Code></Error>")
        return Response(200, [("Content-Type", "application/zip")], body)

    def _read(
        self, endpoint: _Endpoint, path: str, query: str, headers: Mapping[str, str], now_us: int
    ) -> tuple[_Call, int]:
        unit = headers.get("x-mbx-time-unit", "MILLISECOND")
        divisor = _UNITS.get(unit)
        if divisor is None:
            raise ApiError(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
        params = Params.parse(query, endpoint.params)
        return _Call(path, params, divisor, now_us), endpoint.weight(params)

    def _refused(self, refusal: Refusal, used: int) -> Response:
        self.counters[f"rest_{refusal.status}"] += 1
        body, kind = refusal_body(refusal.status, until_ms=int(refusal.until * 1000), limit=self.meter.limit)
        return _response(refusal.status, body, used, kind, retry_after=refusal.retry_after)

    def _faulty(self, status: int, ip: str, now_us: int) -> Response:
        self.counters[f"rest_{status}"] += 1
        pause = self.faults.retry_after
        body, kind = refusal_body(status, until_ms=now_us // 1000 + pause * 1000, limit=self.meter.limit)
        return _response(status, body, self.meter.used(ip, now_us / 1e6), kind, retry_after=pause)

    def _routes(self) -> dict[str, _Endpoint]:
        symbol, several = frozenset(("symbol",)), frozenset(("symbol", "symbols", "symbolStatus"))
        trades = frozenset(("symbol", "limit"))
        return {
            "/api/v3/ping": _Endpoint(frozenset(), _weighs(1), lambda _: "{}"),
            "/api/v3/time": _Endpoint(frozenset(), _weighs(1), _time),
            "/api/v3/exchangeInfo": _Endpoint(ExchangeInfo.PARAMS, _weighs(20), self._exchange_info),
            "/api/v3/depth": _Endpoint(trades | {"symbolStatus"}, _depth_weight, self._depth),
            "/api/v3/trades": _Endpoint(trades, _weighs(25), self._recent),
            "/api/v3/historicalTrades": _Endpoint(trades | {"fromId"}, _weighs(25), self._historical),
            "/api/v3/historicalBlockTrades": _Endpoint(trades | {"fromId"}, _weighs(25), self._block_trades),
            "/api/v3/aggTrades": _Endpoint(trades | {"fromId", "startTime", "endTime"}, _weighs(4), self._aggregates),
            "/api/v3/klines": _Endpoint(_KLINES, _weighs(2), self._klines),
            "/api/v3/uiKlines": _Endpoint(_KLINES, _weighs(2), self._klines),
            "/api/v3/avgPrice": _Endpoint(symbol, _weighs(2), self._average),
            "/api/v3/ticker/24hr": _Endpoint(several | {"type"}, _ticker_weight, self._ticker),
            "/api/v3/ticker/price": _Endpoint(several, _few_weight, self._price),
            "/api/v3/ticker/bookTicker": _Endpoint(several, _few_weight, self._book_ticker),
        }

    def _exchange_info(self, call: _Call) -> bytes:
        return self._info.body(call.params, call.now_us // call.divisor)

    def _depth(self, call: _Call) -> str:
        symbol, limit = call.params.symbol(self._ledger), call.params.limit(DEFAULT_DEPTH, MOST_DEPTH)
        stale = self.faults.take_stale(symbol.symbol)
        if stale is not None:
            return depth_text(stale.update_id, stale.bids[:limit], stale.asks[:limit])
        return depth(self.books.of(symbol), limit)

    def _recent(self, call: _Call) -> str:
        symbol = call.params.symbol(self._ledger)
        rows = symbol.newest(call.params.limit(DEFAULT_TRADES, MOST_TRADES))
        return self._trades(call, symbol, rows)

    def _historical(self, call: _Call) -> str:
        symbol = call.params.symbol(self._ledger)
        limit = call.params.limit(DEFAULT_TRADES, MOST_TRADES)
        from_id = call.params.number("fromId")
        within = self._kept(symbol)
        if from_id is None:
            return self._trades(call, symbol, symbol.newest(limit, within=within))
        return self._trades(call, symbol, symbol.rows(from_id, limit, within=within))

    def _trades(self, call: _Call, symbol: SymbolLedger, rows: list[Row]) -> str:
        divisor, spelled = call.divisor, symbol.malformed_text
        shown = self.faults.without_holes(symbol.symbol, rows)
        parts = [_trade(row, divisor, spelled.get(row[0])) for row in self.faults.thin(call.path, shown)]
        return f"[{','.join(parts)}]"

    def _aggregates(self, call: _Call) -> str:
        symbol = call.params.symbol(self._ledger)
        limit = call.params.limit(DEFAULT_TRADES, MOST_TRADES)
        from_agg = call.params.number("fromId")
        start, end = call.params.time_us("startTime"), call.params.time_us("endTime", end=True)
        if from_agg is not None and (start is not None or end is not None):
            raise bad_combination()
        kept = self._kept(symbol)
        low = kept.start if start is None else max(kept.start, symbol.sequence_at(start))
        high = kept.stop if end is None else min(kept.stop, symbol.sequence_at(end + 1))
        found = symbol.aggregates(
            limit, from_agg=from_agg or 0, within=range(low, high), newest=from_agg is None and start is None
        )
        return f"[{','.join(_aggregate(one, call.divisor) for one in self.faults.thin(call.path, found))}]"

    def _block_trades(self, call: _Call) -> str:
        symbol, from_id = call.params.symbol(self._ledger), call.params.number("fromId")
        if from_id is None:
            raise missing("fromId")
        limit = call.params.limit(DEFAULT_TRADES, MOST_TRADES)
        young = self._market_now_us() - self.history_lag_us
        found = [one for one in self.blocks(symbol).page(from_id, limit) if one.time_us <= young]
        return f"[{','.join(_block(one, call.divisor) for one in found)}]"

    def blocks(self, symbol: SymbolLedger) -> BlockTrades:
        """The block trades of a symbol, shared by REST and streams."""
        held = self._blocks.get(symbol.symbol)
        if held is None or held.ledger is not symbol:  # delisted and listed again
            held = self._blocks[symbol.symbol] = BlockTrades(symbol, self._seed if self.block_trades else None)
        return held

    def _klines(self, call: _Call) -> str:
        symbol = call.params.symbol(self._ledger)
        interval = call.params.text("interval")
        if interval is None:
            raise missing("interval")
        if interval not in INTERVALS:
            raise ApiError(-1120, "Invalid interval.")
        zone = zone_us(call.params.text("timeZone") or "0")
        if zone is None:
            raise invalid("timeZone")
        start, end = call.params.time_us("startTime"), call.params.time_us("endTime", end=True)
        limit = call.params.limit(DEFAULT_TRADES, MOST_TRADES)
        candles = self.candles(symbol).page(interval, limit, self._market_now_us(), start=start, end=end, zone=zone)
        return f"[{','.join(one.row(call.divisor) for one in candles)}]"

    def candles(self, symbol: SymbolLedger) -> Candles:
        """The candles of a symbol, shared by REST and streams."""
        held = self._candles.get(symbol.symbol)
        if held is None or held.ledger is not symbol:  # delisted and listed again
            held = self._candles[symbol.symbol] = Candles(symbol)
        return held

    def _average(self, call: _Call) -> str:
        return average_price(call.params.symbol(self._ledger), call.now_us, call.divisor)

    def _ticker(self, call: _Call) -> str:
        kind = call.params.choice("type", ("FULL", "MINI"), -1139, "Invalid ticker type.")

        def body(symbol: SymbolLedger) -> str:
            held = self._days.get(symbol.symbol)
            if held is None or held[0] is not symbol:  # delisted and listed again
                held = self._days[symbol.symbol] = (symbol, DayWindow(symbol))
            if kind == "MINI":
                return held[1].body(call.now_us, call.divisor, mini=True)
            return held[1].body(call.now_us, call.divisor, mini=False, top=top_text(self.books.of(symbol)))

        return self._listed(call, body)

    def _price(self, call: _Call) -> str:
        return self._listed(call, lambda one: f'{{"symbol":"{one.symbol}","price":"{decimal(last_price(one))}"}}')

    def _book_ticker(self, call: _Call) -> str:
        form = '{{"symbol":"{}","bidPrice":"{}","bidQty":"{}","askPrice":"{}","askQty":"{}"}}'
        return self._listed(call, lambda one: form.format(one.symbol, *top_text(self.books.of(one))))

    def _listed(self, call: _Call, body: Callable[[SymbolLedger], str]) -> str:
        selected: Iterable[SymbolLedger] = call.params.selection(self._ledger)
        bodies = [body(symbol) for symbol in selected]
        return bodies[0] if "symbol" in call.params else f"[{','.join(bodies)}]"

    def _kept(self, symbol: SymbolLedger) -> range:
        """Sequence numbers of the trades that the database knows of."""
        low, high = symbol.held.start, symbol.sent_trades
        if self.history_lag_us:
            high = symbol.sequence_at(self._market_now_us() - self.history_lag_us)
        if self.retention is not None:
            low = max(low, symbol.sent_trades - self.retention)
        return range(low, high)


def _weighs(weight: int) -> Callable[[Params], int]:
    return lambda _: weight


def _depth_weight(params: Params) -> int:
    limit = params.limit(DEFAULT_DEPTH, MOST_DEPTH)
    return next(weight for most, weight in ((100, 5), (500, 25), (1000, 50), (MOST_DEPTH, 250)) if limit <= most)


def _ticker_weight(params: Params) -> int:
    if "symbol" in params:
        return 2
    if "symbols" not in params:
        return 80
    named = (params.text("symbols") or "").count(",") + 1
    return 2 if named <= TICKER_FEW else 40 if named <= TICKER_MANY else 80


def _few_weight(params: Params) -> int:
    return 2 if "symbol" in params else 4


def _time(call: _Call) -> str:
    return f'{{"serverTime":{call.now_us // call.divisor}}}'


def _trade(row: Row, divisor: int, spelled: tuple[str, str] | None) -> str:
    trade_id, price, quantity, time_us, maker = row
    price_text, quantity_text = (decimal(price), decimal(quantity)) if spelled is None else spelled
    return (
        f'{{"id":{trade_id},"price":"{price_text}","qty":"{quantity_text}",'
        f'"quoteQty":"{decimal(price * quantity // 10**8)}","time":{time_us // divisor},'
        f'"isBuyerMaker":{"true" if maker else "false"},"isBestMatch":true}}'
    )


def _aggregate(one: Aggregate, divisor: int) -> str:
    return f"{{{aggregate_text(one, divisor)}}}"


def _block(one: BlockTrade, divisor: int) -> str:
    return (
        f'{{"id":{one.block_id},"price":"{bare(one.price)}","qty":"{bare(one.quantity)}",'
        f'"quoteQty":"{bare(one.price * one.quantity // 10**8)}","time":{one.time_us // divisor},'
        f'"isBuyerMaker":{"true" if one.buyer_is_maker else "false"}}}'
    )


def _response(status: int, body: bytes, used: int, kind: str = JSON_TYPE, *, retry_after: int = 0) -> Response:
    headers = [("Content-Type", kind), ("x-mbx-used-weight", str(used)), ("x-mbx-used-weight-1m", str(used))]
    if retry_after:
        headers.append(("Retry-After", str(retry_after)))
    return Response(status, headers, body)
