"""Trades, volume and quote volume of an archived day with DuckDB, in bounded memory. Needs duckdb and pyiceberg.

python docs/examples/archive_duckdb.py 2026-01-15 --warehouse /data/archive
"""

import sys

import duckdb
from archive_day import arguments, table, within

QUERY = """
    SELECT symbol, count(*) AS trades, sum(quantity) AS volume, sum(price * quantity) AS quote_volume
    FROM read_parquet($files) GROUP BY symbol ORDER BY symbol
"""


def main() -> int:
    """Print one line for each symbol as CSV."""
    options = arguments("An archived day with DuckDB.")
    # The files that the table's snapshot names, and no others: a pattern would see those of an interrupted run, too.
    files = [one.file.file_path for one in table(options).scan(row_filter=within(options)).plan_files()]
    sys.stdout.write("symbol,trades,volume,quote_volume\n")
    if files:
        with duckdb.connect() as connection:
            for row in connection.execute(QUERY, {"files": files}).fetchall():
                sys.stdout.write(",".join(map(str, row)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
