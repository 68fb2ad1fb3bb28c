"""Trades, volume and quote volume of an archived day with Spark. Needs pyspark, Java 17 and pyiceberg.

python docs/examples/archive_spark.py 2026-01-15 --warehouse /data/archive
"""

import sys

from archive_day import arguments, table, within
from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main() -> int:
    """Print one line for each symbol as CSV."""
    options = arguments("An archived day with Spark.")
    files = [one.file.file_path for one in table(options).scan(row_filter=within(options)).plan_files()]
    sys.stdout.write("symbol,trades,volume,quote_volume\n")
    if files:
        spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        # The product of two DECIMAL(38, 8) loses digits in Spark: DECIMAL(18, 8) first, and it is exact.
        price, quantity = (f.col(name).cast("decimal(18,8)") for name in ("price", "quantity"))
        trades = spark.read.parquet(*files)
        found = trades.groupBy("symbol").agg(
            f.count("*").alias("trades"), f.sum(quantity).alias("volume"), f.sum(price * quantity).alias("quote_volume")
        )
        for row in found.orderBy("symbol").collect():
            sys.stdout.write(",".join(map(str, row)) + "\n")
        spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
