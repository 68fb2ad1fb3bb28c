"""Watches an order book and the best prices of the simulator with ccxt, unmodified. Run by the engine's interpreter."""

import asyncio
import json
import sys

import ccxt.pro

SYMBOL = "BTC/USDT"


async def main() -> int:
    """Print a JSON object: states of the book by update id, best prices, and a snapshot."""
    rest, websocket, wanted = sys.argv[1:]
    exchange = ccxt.pro.binance(
        {"options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}}
    )
    exchange.urls["api"]["public"] = f"{rest}/api/v3"
    exchange.urls["api"]["ws"]["spot"] = f"{websocket}/ws"
    books: dict[int, list[list[list[float]]]] = {}
    quotes: list[list[object]] = []
    try:
        await exchange.load_markets()

        async def watch_quotes() -> None:
            while True:
                info = (await exchange.watch_bids_asks([SYMBOL]))[SYMBOL]["info"]
                quotes.append([info["u"], info["b"], info["B"], info["a"], info["A"]])

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch_quotes(), name="quotes")
            while len(books) < int(wanted):
                book = await exchange.watch_order_book(SYMBOL, 1000)
                books[int(book["nonce"])] = [[list(level) for level in book[side]] for side in ("bids", "asks")]
            watching.cancel()
        snapshot = await exchange.fetch_order_book(SYMBOL, 1000)
    finally:
        await exchange.close()
    sys.stdout.write(json.dumps({"books": books, "quotes": quotes, "snapshot": [snapshot["nonce"], snapshot["bids"]]}))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
