"""Trades, volume and quote volume of an archived day with pandas. Needs pandas and pyiceberg; the day fits into memory.

python docs/examples/archive_pandas.py 2026-01-15 --warehouse /data/archive
"""

import decimal
import sys

from archive_day import arguments, table, within

COLUMNS = ("symbol", "price", "quantity")


def main() -> int:
    """Print one line for each symbol as CSV."""
    options = arguments("An archived day with pandas.")
    decimal.getcontext().prec = 60  # products of 38 digits, exact
    frame = table(options).scan(row_filter=within(options), selected_fields=COLUMNS).to_pandas()
    frame["value"] = frame["price"] * frame["quantity"]  # Python's Decimal in each cell
    sys.stdout.write("symbol,trades,volume,quote_volume\n")
    for symbol, part in frame.groupby("symbol"):
        sys.stdout.write(f"{symbol},{len(part)},{part['quantity'].sum()},{part['value'].sum()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
