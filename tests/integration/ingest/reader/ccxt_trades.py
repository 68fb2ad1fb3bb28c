"""Streams trades and reads klines from the simulator with ccxt, unmodified. Run by the engine's own interpreter."""

import asyncio
import json
import sys

import ccxt.pro


async def main() -> int:
    """Print a JSON object with trades and klines."""
    rest, websocket, symbol, wanted = sys.argv[1:]
    exchange = ccxt.pro.binance(
        {"options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}}
    )
    exchange.urls["api"]["public"] = f"{rest}/api/v3"
    exchange.urls["api"]["ws"]["spot"] = f"{websocket}/ws"
    exchange.newUpdates = True
    trades: list[dict[str, object]] = []
    try:
        await exchange.load_markets()
        while len(trades) < int(wanted):
            trades += [
                {"id": one["id"], "price": one["info"]["p"], "amount": one["info"]["q"]}
                for one in await exchange.watch_trades(symbol)
            ]
        klines = await exchange.fetch_ohlcv(symbol, "1m")
    finally:
        await exchange.close()
    sys.stdout.write(json.dumps({"trades": trades, "klines": klines}))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
