"""Arrow columns of the topic's records and of the table, and what is hashed of them."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext, col

from ingest_ops.archive.errors import ArchiveError
from ingest_ops.archive.judge import Identity
from ingest_ops.archive.merkle import Bytes
from ingest_ops.archive.rows import NO_TIME, SIDES, Rows

BATCH_ROWS: Final = 65_536
SORT_BYTES: Final = 192 << 20

MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
DECIMAL: Final = pa.decimal128(38, 8)
TRADES: Final = pa.schema([
    pa.field("exchange", pa.string(), nullable=False),
    pa.field("symbol", pa.string(), nullable=False),
    pa.field("trade_id", pa.int64(), nullable=False),
    pa.field("timestamp", MICROSECONDS, nullable=False),
    pa.field("price", DECIMAL, nullable=False),
    pa.field("quantity", DECIMAL, nullable=False),
    pa.field("side", pa.string(), nullable=False),
    pa.field("base_asset", pa.string(), nullable=False),
    pa.field("quote_asset", pa.string(), nullable=False),
    pa.field("ingestion_timestamp", MICROSECONDS),
])  # fmt: skip
"""The table ``trades``. ``message_id`` of the topic is <exchange>-<symbol>-<trade id>: it is checked and left out."""

_WANTED: Final = (
    "message_id", "trade_id", "symbol", "exchange", "source_sequence", "timestamp", "price", "quantity", "side",
    "currency", "ingestion_timestamp", "vendor_data",
)  # fmt: skip


def decoded(paths: Sequence[Path], *, by_id: bool = False) -> Iterator[pa.RecordBatch]:
    """The records of container files in their order, or in the order of their ids. Raises ``ArchiveError``."""
    config = SessionConfig().with_target_partitions(1).with_batch_size(BATCH_ROWS)
    # Sorting beyond this much memory goes through files.
    runtime = RuntimeEnvBuilder().with_temp_file_path(paths[0].parent).with_fair_spill_pool(SORT_BYTES)
    try:
        context = SessionContext(config, runtime)
        frames = [context.read_avro(str(path)).select(*(col(name) for name in _WANTED)) for path in paths]
        if by_id:
            union = functools.reduce(lambda one, other: one.union(other), frames)
            frames = [union.sort(col("source_sequence").sort(ascending=True, nulls_first=True))]
        for frame in frames:
            for batch in frame.execute_stream():
                yield batch.to_pyarrow()
    except Exception as error:
        if isinstance(error, ArchiveError):
            raise
        # DataFusion raises plain Exceptions
        raise ArchiveError(f"{paths[0].name}: the spooled records cannot be decoded: {error}") from error


class RecordReader:
    """Turns decoded records of one symbol into rows; counts the records that contradict themselves."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self.malformed = 0
        self.identity: Identity | None = None
        """Of the latest record."""

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """The rows of a batch. Raises ``ArchiveError`` for records without a trade id."""
        ids = batch.column("source_sequence")
        if ids.null_count:
            raise ArchiveError(f"{self._symbol}: {ids.null_count} records have no trade id (source_sequence)")
        vendor = batch.column("vendor_data")
        base, quote = (_looked_up(vendor, name) for name in ("base_asset", "quote_asset"))
        exchange = batch.column("exchange")
        if len(batch):
            texts = [str(one[len(batch) - 1].as_py() or "") for one in (exchange, base, quote)]
            self.identity = Identity(self._symbol, *texts)
        assert self.identity is not None  # noqa: S101 - an empty batch never comes first
        self.malformed += self._contradictions(batch, base, quote, self.identity)
        return rows_of(ids, batch.column("timestamp"), batch.column("price"), batch.column("quantity"),
                       batch.column("side"), batch.column("ingestion_timestamp"))  # fmt: skip

    def _contradictions(self, batch: pa.RecordBatch, base: Any, quote: Any, identity: Identity) -> int:
        digits = batch.column("source_sequence").cast(pa.string())
        join = pc.binary_join_element_wise
        right = pc.equal(batch.column("symbol"), self._symbol)
        for one in (
            pc.equal(batch.column("exchange"), identity.exchange),
            pc.equal(batch.column("message_id"), join(f"{identity.exchange}-{self._symbol}", digits, "-")),
            pc.equal(batch.column("trade_id"), join(identity.exchange, digits, "-")),
            pc.fill_null(pc.equal(base, identity.base_asset), identity.base_asset == ""),
            pc.fill_null(pc.equal(quote, identity.quote_asset), identity.quote_asset == ""),
            pc.equal(batch.column("currency"), identity.quote_asset),
        ):
            right = pc.and_(right, one)
        return len(batch) - int(pc.sum(right).as_py() or 0)


def _looked_up(maps: Any, name: str) -> Any:
    """The value of a key in each map of a column. At once if each map has the key once: Arrow's search is slow."""
    if not maps.offset and not maps.null_count:
        places = np.flatnonzero(pc.equal(maps.keys, name))
        bounds = maps.offsets.to_numpy()
        if len(places) == len(maps) and ((places >= bounds[:-1]) & (places < bounds[1:])).all():
            return maps.items.take(pa.array(places))
    return pc.map_lookup(maps, name, "first")


def rows_of(ids: Any, times: Any, prices: Any, quantities: Any, sides: Any, encoded: Any) -> Rows:
    """Rows from Arrow arrays."""
    stamps = pc.fill_null(encoded.cast(pa.int64()), NO_TIME)
    return Rows(
        _int64(ids), _int64(times.cast(pa.int64())), _bytes(prices), _bytes(quantities), _sides(sides), _int64(stamps)
    )


def _int64(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def _bytes(array: Any) -> Bytes:
    array = array.cast(DECIMAL)
    data = np.frombuffer(array.buffers()[1], dtype=np.uint8)
    return data[array.offset * 16 : (array.offset + len(array)) * 16].reshape(len(array), 16)


def _sides(array: Any) -> Any:
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    unknown = [name for name in names if name not in SIDES]
    if unknown:
        raise ArchiveError(f"side {unknown[0]!r} is none of {', '.join(SIDES)}")
    places = np.array([SIDES.index(name) for name in names], dtype=np.uint8)
    return places[encoded.indices.to_numpy(zero_copy_only=False)] if len(places) else np.empty(0, dtype=np.uint8)


def as_table(rows: Rows, identity: Identity) -> pa.Table:
    """The rows as the table has them."""
    count = len(rows)
    encoded = pa.array(rows.encoded, mask=rows.encoded == NO_TIME).cast(MICROSECONDS)
    same = (pa.repeat(text, count) for text in (identity.exchange, identity.symbol))
    assets = (pa.repeat(text, count) for text in (identity.base_asset, identity.quote_asset))
    sides = pa.DictionaryArray.from_arrays(pa.array(rows.sides.astype(np.int8)), pa.array(SIDES)).cast(pa.string())
    return pa.Table.from_arrays(
        [*same, pa.array(rows.ids), pa.array(rows.times).cast(MICROSECONDS), _decimals(rows.prices),
         _decimals(rows.quantities), sides, *assets, encoded],
        schema=TRADES,
    )  # fmt: skip


def _decimals(data: Bytes) -> Any:
    return pa.Decimal128Array.from_buffers(DECIMAL, len(data), [None, pa.py_buffer(np.ascontiguousarray(data))])


def rows_of_table(batch: pa.RecordBatch) -> Rows:
    """Rows of a batch of the table."""
    return rows_of(batch.column("trade_id"), batch.column("timestamp"), batch.column("price"),
                   batch.column("quantity"), batch.column("side"), batch.column("ingestion_timestamp"))  # fmt: skip
