"""Trades, volume and quote volume of an archived day with polars. Needs polars and pyiceberg.

python docs/examples/archive_polars.py 2026-01-15 --warehouse /data/archive
"""

import sys

import polars as pl
from archive_day import arguments, table, within

# polars keeps the scale of its operands: the product of two Decimal(38, 8) loses eight digits. With 16 it is exact.
EXACT = pl.Decimal(38, 16)


def main() -> int:
    """Print one line for each symbol as CSV."""
    options = arguments("An archived day with polars.")
    files = [one.file.file_path for one in table(options).scan(row_filter=within(options)).plan_files()]
    sys.stdout.write("symbol,trades,volume,quote_volume\n")
    if files:
        value = pl.col("price").cast(EXACT) * pl.col("quantity").cast(EXACT)
        found = (
            pl.scan_parquet(files)
            .group_by("symbol")
            .agg(trades=pl.len(), volume=pl.col("quantity").sum(), quote_volume=value.sum())
            .sort("symbol")
            .collect(engine="streaming")
        )
        for row in found.iter_rows():
            sys.stdout.write(",".join(map(str, row)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
