"""Bodies of /api/v3/exchangeInfo; the part of a symbol is built once per status."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ingest.simulator.ledger import Ledger, SymbolLedger
from ingest.simulator.rest_params import Params, bad_combination, invalid

PERMISSIONS = ("SPOT", "MARGIN")
"""The permissions every simulated symbol has."""

_KNOWN_PERMISSIONS = frozenset((*PERMISSIONS, "LEVERAGED", *(f"TRD_GRP_{number:03d}" for number in range(1, 61))))
_MODES = ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]


class ExchangeInfo:
    """Answers of exchangeInfo over a ledger, whose symbols may come, go and change their status."""

    PARAMS = frozenset(("symbol", "symbols", "permissions", "symbolStatus", "showPermissionSets"))

    def __init__(self, ledger: Ledger, *, weight_limit: int = 6000) -> None:
        self._ledger = ledger
        self._cache: dict[str, tuple[SymbolLedger, str, bytes, bytes]] = {}  # with and without permission sets
        self._rate_limits = _compact(
            [
                _limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
                _limit("ORDERS", "SECOND", 10, 100),
                _limit("ORDERS", "DAY", 1, 200_000),
                _limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
            ]
        )

    def body(self, params: Params, server_time: int) -> bytes:
        """The answer; `server_time` is in the unit the caller asked for.

        Raises ApiError: -1128 for combinations, -1121 for unknown symbols, -1122, -1130 and -1100 for bad values.
        """
        named = "symbol" in params or "symbols" in params
        if named and ("permissions" in params or "symbolStatus" in params):
            raise bad_combination()
        selected: Iterable[SymbolLedger] = params.selection(self._ledger)
        if "permissions" in params and not _permissions(params) & set(PERMISSIONS):
            selected = ()
        with_sets = params.flag("showPermissionSets", default=True)
        parts = b",".join([self._part(symbol, with_sets=with_sets) for symbol in selected])
        return b'{"timezone":"UTC","serverTime":%d,"rateLimits":%b,"exchangeFilters":[],"symbols":[%b]}' % (
            server_time,
            self._rate_limits,
            parts,
        )

    def _part(self, symbol: SymbolLedger, *, with_sets: bool) -> bytes:
        cached = self._cache.get(symbol.symbol)
        if cached is None or cached[0] is not symbol or cached[1] != symbol.status:
            cached = (symbol, symbol.status, _entry(symbol, [list(PERMISSIONS)]), _entry(symbol, []))
            self._cache[symbol.symbol] = cached
        return cached[2] if with_sets else cached[3]


def _permissions(params: Params) -> set[str]:
    text = params.text("permissions") or ""
    try:
        value = json.loads(text) if text.startswith("[") else [text]
    except ValueError as error:
        raise invalid("permissions") from error
    wanted = {item for item in value if isinstance(item, str)}
    if len(wanted) < len(value) or not wanted or not wanted <= _KNOWN_PERMISSIONS:
        raise invalid("permissions")
    return wanted


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _entry(symbol: SymbolLedger, permission_sets: list[list[str]]) -> bytes:
    tick, step = symbol.tick_size, symbol.step_size
    return _compact(
        {
            "symbol": symbol.symbol,
            "status": symbol.status,
            "baseAsset": symbol.base_asset,
            "baseAssetPrecision": 8,
            "quoteAsset": symbol.quote_asset,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "opoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "pegInstructionsAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": "MARGIN" in PERMISSIONS,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
                {"filterType": "ICEBERG_PARTS", "limit": 100},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.00000000",
                    "maxQty": "900.00000000",
                    "stepSize": "0.00000000",
                },
                {
                    "filterType": "TRAILING_DELTA",
                    "minTrailingAboveDelta": 10,
                    "maxTrailingAboveDelta": 2000,
                    "minTrailingBelowDelta": 10,
                    "maxTrailingBelowDelta": 2000,
                },
                {
                    "filterType": "PERCENT_PRICE_BY_SIDE",
                    "bidMultiplierUp": "5",
                    "bidMultiplierDown": "0.2",
                    "askMultiplierUp": "5",
                    "askMultiplierDown": "0.2",
                    "avgPriceMins": 5,
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": "5.00000000",
                    "applyMinToMarket": True,
                    "maxNotional": "9000000.00000000",
                    "applyMaxToMarket": False,
                    "avgPriceMins": 5,
                },
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
            ],
            "permissions": [],
            "permissionSets": permission_sets,
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": _MODES,
        }
    )
