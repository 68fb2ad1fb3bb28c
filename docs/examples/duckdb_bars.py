"""One-minute bars with DuckDB over the topic, in bounded memory. Needs duckdb and pyarrow.

python docs/examples/duckdb_bars.py --symbol BTCUSDT --from 2026-01-31T00:00Z
"""

import sys

import duckdb
import pyarrow as pa
from arrow_batches import SCHEMA, arrow_batches
from trades import options, reader

from ingest.reader import ReaderError

# The product of two DECIMAL(38, 8) is DECIMAL(38, 16) in DuckDB: exact, or an error. Do not cast to
# DECIMAL(18, 8) first: there the product of two 64-bit numbers overflows.
QUERY = """
    SELECT symbol, time_bucket(INTERVAL 1 MINUTE, "timestamp") AS minute,
           arg_min(price, source_sequence) AS open, max(price) AS high, min(price) AS low,
           arg_max(price, source_sequence) AS close,
           sum(quantity) AS volume, sum(price * quantity) AS quote_volume, count(*) AS trades
    FROM trades GROUP BY ALL ORDER BY symbol, minute
"""


def main() -> int:
    """Print the bars as CSV."""
    arguments = options("One-minute bars with DuckDB.").parse_args()
    try:
        with reader(arguments) as records, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            batches = pa.RecordBatchReader.from_batches(SCHEMA, arrow_batches(records))
            connection.register("trades", batches)
            table = connection.execute(QUERY)
            sys.stdout.write(",".join(column[0] for column in table.description or ()) + "\n")
            while row := table.fetchone():
                sys.stdout.write(",".join(str(value) for value in row) + "\n")
    except ReaderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
