"""The topic as Arrow batches, for DuckDB, polars, pandas and Parquet: exact decimals, times in microseconds, UTC."""

from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

from ingest.reader import Record, Trade

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("source_sequence", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("price", pa.decimal128(38, 8)),
        ("quantity", pa.decimal128(38, 8)),
        ("side", pa.string()),
        ("currency", pa.string()),
    ]
)


def arrow_batches(records: Iterable[Record], size: int = 20_000) -> Iterator[pa.RecordBatch]:
    """Batches of at most ``size`` trades: the memory that is needed at once."""
    trades = (record for record in records if isinstance(record, Trade))
    while batch := list(islice(trades, size)):
        columns = [[getattr(trade, name) for trade in batch] for name in SCHEMA.names]
        yield pa.RecordBatch.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )
