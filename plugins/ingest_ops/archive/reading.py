"""Reads rows of one symbol back from data files: the row groups that can have it, and no others."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest_ops.archive.columns import BATCH_ROWS, rows_of_table
from ingest_ops.archive.rows import Rows
from ingest_ops.archive.storage import Storage


def symbol_rows(storage: Storage, location: str, symbol: str) -> Iterator[Rows]:
    """Rows of a symbol in a data file, in their order there."""
    system, path = storage.place(location)
    with system.open_input_file(path) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        place = file.schema_arrow.get_field_index("symbol")
        groups = [
            number
            for number in range(file.metadata.num_row_groups)
            if _may_have(file.metadata.row_group(number).column(place).statistics, symbol)
        ]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=groups):
            yield rows_of_table(_only(batch, symbol))


def _only(batch: pa.RecordBatch, symbol: str) -> pa.RecordBatch:
    found: pa.RecordBatch = batch.filter(pc.equal(batch.column("symbol"), symbol))
    return found


def _may_have(statistics: pq.Statistics | None, symbol: str) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= symbol <= statistics.max)
