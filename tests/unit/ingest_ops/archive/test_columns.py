"""Columns of records: values of a map, and sorting that goes through files."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest_ops.archive import columns
from ingest_ops.archive.columns import decoded
from ingest_ops.archive.spool import Spool
from tests.harness.archive import SCHEMA, GeneratedMarket
from tests.harness.archive_world import DAY

MAP = pa.map_(pa.string(), pa.string())
Maps = list[list[tuple[str, str]] | None]


@pytest.mark.parametrize(
    "maps",
    [
        [[("a", "1"), ("b", "2")], [("b", "3"), ("a", "4")]],
        [[("a", "1"), ("b", "2")], [("b", "3")]],
        [[("a", "1"), ("a", "2")], []],
        [[], [("a", "1"), ("a", "2")]],
        [[("a", "1")], None],
        [],
    ],
)
def test_the_value_of_a_key(maps: Maps) -> None:
    column = pa.array(maps, MAP)
    for one in (column, column[1:]):
        assert columns._looked_up(one, "a").to_pylist() == pc.map_lookup(one, "a", "first").to_pylist()


def test_sorting_goes_through_files_beyond_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market = GeneratedMarket()
    market.listed("BTCUSDT", 1000)
    market.fill("BTCUSDT", DAY, 60_000)
    values = [one for _, one, _ in market.values(1)]
    random.Random(1).shuffle(values)
    spool = Spool(tmp_path, "day")
    spool.add({b"BTCUSDT": values}, {values[0][:5]: json.loads(SCHEMA.read_text())})
    spool.checkpoint({})
    paths = dict(spool.files())["BTCUSDT"]
    # Beyond this much memory the sort would end with an error, if it had no files.
    monkeypatch.setattr(columns, "SORT_BYTES", 24 << 20)
    monkeypatch.setattr(columns, "BATCH_ROWS", 8192)
    found: list[Any] = [one for batch in decoded(paths, by_id=True) for one in batch["source_sequence"].to_pylist()]
    assert found == list(range(1000, 61_000))
