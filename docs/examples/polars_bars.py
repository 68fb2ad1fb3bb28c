"""One-minute bars with polars, batch by batch. Needs polars and pyarrow.

python docs/examples/polars_bars.py --symbol BTCUSDT --from 2026-01-31T00:00Z
"""

import sys

import polars as pl
from arrow_batches import arrow_batches
from trades import options, reader

from ingest.reader import ReaderError

# polars keeps the scale of its operands: the product of two Decimal(38, 8) loses eight digits. With 16 it is exact.
EXACT = pl.Decimal(38, 16)


def partial_bars(frame: pl.DataFrame) -> pl.DataFrame:
    """Bars of one batch, with the ids by which two parts of a minute are joined."""
    value = pl.col("price").cast(EXACT) * pl.col("quantity").cast(EXACT)
    return frame.group_by("symbol", minute=pl.col("timestamp").dt.truncate("1m")).agg(
        first_id=pl.col("source_sequence").min(),
        last_id=pl.col("source_sequence").max(),
        open=pl.col("price").sort_by("source_sequence").first(),
        high=pl.col("price").max(),
        low=pl.col("price").min(),
        close=pl.col("price").sort_by("source_sequence").last(),
        volume=pl.col("quantity").sum(),
        quote_volume=value.sum(),
        trades=pl.len(),
    )


def joined(parts: pl.DataFrame) -> pl.DataFrame:
    """Bars of all batches."""
    return (
        parts.group_by("symbol", "minute")
        .agg(
            open=pl.col("open").sort_by("first_id").first(),
            high=pl.col("high").max(),
            low=pl.col("low").min(),
            close=pl.col("close").sort_by("last_id").last(),
            volume=pl.col("volume").sum(),
            quote_volume=pl.col("quote_volume").sum(),
            trades=pl.col("trades").sum(),
        )
        .sort("symbol", "minute")
    )


def main() -> int:
    """Print the bars as CSV."""
    arguments = options("One-minute bars with polars.").parse_args()
    try:
        with reader(arguments) as records:
            parts = [partial_bars(pl.DataFrame(pl.from_arrow(batch))) for batch in arrow_batches(records)]
    except ReaderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if parts:
        sys.stdout.write(joined(pl.concat(parts)).write_csv())
    return 0


if __name__ == "__main__":
    sys.exit(main())
