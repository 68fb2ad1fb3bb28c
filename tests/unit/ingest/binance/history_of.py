"""The history of scripted servers, on a clock of the test."""

from collections.abc import Callable
from typing import Any

from ingest.binance.history import History
from ingest.binance.rest import RestClient
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_http import Answer, Request, ScriptedHttp

INFO = {
    "rateLimits": [
        {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
                {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
                {"filterType": "PERCENT_PRICE", "avgPriceMins": 5},
            ],
        },
        {"symbol": "BNBUSD", "status": "BREAK", "baseAsset": "BNB", "quoteAsset": "USD"},
    ],
}  # fmt: skip


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + int(self.now * 1e9)


def history(*servers: ScriptedHttp, clock: Any = None, **changes: Any) -> History:
    binance = BinanceSettings(
        rest_url=servers[0].url,
        rest_fallback_urls=tuple(server.url for server in servers[1:]),
        **{"rest_timeout_seconds": 2.0, **changes},
    )
    client = RestClient(
        binance, Metrics(process=False), ssl_context=None, clock=clock or Hands(), uniform=lambda low, high: high
    )
    return History(client)


def always(answer: Answer) -> Callable[[Request], Answer]:
    return lambda _request: answer
