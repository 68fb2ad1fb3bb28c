"""One-minute bars with pandas, from exact decimals.

python docs/examples/bars.py --symbol BTCUSDT --csv bars.csv
"""

import sys

import pandas as pd
from trades import options, trades


def main() -> int:
    """Print, or write, the bars of one symbol."""
    parser = options("One-minute bars of a symbol.")
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument("--csv", help="write them here instead of printing the last ten")
    arguments = parser.parse_args()
    mine = [trade for trade in trades(arguments) if trade["symbol"] == arguments.symbol]
    if not mine:
        sys.stderr.write(f"no trade of {arguments.symbol} in {arguments.topic}\n")
        return 1
    frame = pd.DataFrame(mine).set_index("timestamp")  # already in UTC and in the order of trade ids
    frame["value"] = frame["price"] * frame["quantity"]
    minutes = frame.groupby(frame.index.floor("min"))
    bars = minutes["price"].agg(open="first", high="max", low="min", close="last")
    bars["volume"] = minutes["quantity"].sum()
    bars["vwap"] = minutes["value"].sum() / bars["volume"]
    bars["trades"] = minutes.size()
    if arguments.csv:
        bars.to_csv(arguments.csv)
    else:
        sys.stdout.write(bars.tail(10).to_string() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
