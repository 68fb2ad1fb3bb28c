import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ingest_ops.archive.spool import FLUSH_RECORDS, Spool, long

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}
SCHEMAS = {b"\0\0\0\0\x01": SCHEMA, b"\0\0\0\0\x02": SCHEMA}


def record(number: int, schema: int = 1) -> bytes:
    return b"\0\0\0\0" + bytes([schema]) + long(number)


def numbers(path: Path) -> list[int]:
    with path.open("rb") as file:
        records: list[Any] = list(fastavro.reader(file))
        return [one["n"] for one in records]


def test_any_reader_of_avro_reads_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    assert spool.resume() == {}
    count = 2 * FLUSH_RECORDS + 5
    spool.add([(b"BTCUSDT", record(number)) for number in range(count)], SCHEMAS)
    spool.add([(b"ETHUSDT", record(7)), (b"BTCUSDT", record(8, 2))], SCHEMAS)
    spool.checkpoint({0: 10})
    files = dict(spool.files())
    assert list(files) == ["BTCUSDT", "ETHUSDT"]
    assert [numbers(path) for path in files["BTCUSDT"]] == [list(range(count)), [8]]
    assert numbers(files["ETHUSDT"][0]) == [7]
    assert spool.records == count + 2


def test_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    spool.resume()
    spool.add([(b"A", record(1))], SCHEMAS)
    spool.checkpoint({0: 1, 2: 5})
    spool.add([(b"A", record(number)) for number in range(FLUSH_RECORDS)], SCHEMAS)  # written, not noted
    spool.add([(b"B", record(3))], SCHEMAS)
    again = Spool(tmp_path, "day")
    assert again.resume() == {0: 1, 2: 5}
    again.add([(b"A", record(2)), (b"C", record(4))], SCHEMAS)
    again.checkpoint({0: 3})
    assert {symbol: numbers(paths[0]) for symbol, paths in again.files()} == {"A": [1, 2], "C": [4]}
    assert again.records == 3


@pytest.mark.parametrize("damage", ["another day", "shorter", "no state", "file gone"])
def test_a_spool_that_cannot_be_continued_begins_anew(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path, "day")
    spool.resume()
    spool.add([(b"A", record(1))], SCHEMAS)
    spool.checkpoint({0: 1})
    path = tmp_path / "A.1.avro"
    if damage == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no state":
        (tmp_path / "state.json").write_text(json.dumps({"fingerprint": 5}))
    elif damage == "file gone":
        path.unlink()
    again = Spool(tmp_path, "other" if damage == "another day" else "day")
    assert again.resume() == {}
    assert list(again.files()) == []
    assert again.records == 0


def test_a_key_that_is_no_file_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    spool.add([(b"../\xc3\xa9", record(1))], SCHEMAS)
    spool.checkpoint({})
    assert [symbol for symbol, _ in spool.files()] == ["../é"]
