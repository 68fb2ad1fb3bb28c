"""The simulated REST API: market data of a ledger, with Binance's weights, limits and refusals.

Pure: a request goes in, a response comes out, and the clock is the caller's. Facts are those of Binance's
"Public REST API for Binance": endpoints and weights, X-MBX headers, error codes, and the behaviour that an id older
than what is retained is answered from the oldest trade there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ingest.simulator.exchange_info import ExchangeInfo
from ingest.simulator.ledger import Ledger, SymbolLedger
from ingest.simulator.rest_faults import RestFaults
from ingest.simulator.rest_market import DayWindow
from ingest.simulator.rest_params import ApiError, Params
from ingest.simulator.weights import WeightMeter

__all__ = ["Response", "RestApi", "RestFaults"]

JSON_TYPE = "application/json;charset=UTF-8"
DEFAULT_TRADES = 500
MOST_TRADES = 1000
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
    ) -> None:
        """Serve a ledger.

        `retention` is the number of newest trades per symbol that historicalTrades and aggTrades know of (None: all);
        `history_lag_us` hides trades younger than this from both, as their source is a database, not memory.
        """
        self.retention = retention
        self.history_lag_us = history_lag_us
        self.faults = RestFaults()
        self.counters: Counter[str] = Counter()
        self.meter = WeightMeter(weight_limit)
        self._ledger = ledger
        self._now_us = now_us
        self._info = ExchangeInfo(ledger, weight_limit=weight_limit)
        self._days: dict[str, tuple[SymbolLedger, DayWindow]] = {}
        self._endpoints = self._routes()

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], ip: str) -> Response | None:
        """Answer one request; None when a fault says that the answer never comes."""
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
        assert error is not None
