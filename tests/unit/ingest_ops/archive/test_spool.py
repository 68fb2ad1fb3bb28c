import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ingest_ops.archive import spool as spool_module
from ingest_ops.archive.errors import ArchiveError
from ingest_ops.archive.spool import FLUSH_BYTES, Spool, long

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}
SCHEMAS = {b"\0\0\0\0\x01": SCHEMA, b"\0\0\0\0\x02": SCHEMA}


def record(number: int, schema: int = 1) -> bytes:
    return b"\0\0\0\0" + bytes([schema]) + long(number)


def numbers(path: Path) -> list[int]:
    with path.open("rb") as file:
        records: list[Any] = list(fastavro.reader(file))
        return [one["n"] for one in records]


MANY = FLUSH_BYTES // 6
"""Records that are written before a checkpoint."""


def test_any_reader_of_avro_reads_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    assert spool.resume() == {}
    count = 2 * MANY + 5
    values = [record(number) for number in range(count)]
    spool.add({b"BTCUSDT": values[:MANY]}, SCHEMAS)
    spool.add({b"BTCUSDT": values[MANY:]}, SCHEMAS)
    spool.add({b"ETHUSDT": [record(7)], b"BTCUSDT": [record(8, 2)]}, SCHEMAS)
    spool.checkpoint({0: 10})
    files = dict(spool.files())
    assert list(files) == ["BTCUSDT", "ETHUSDT"]
    assert [numbers(path) for path in files["BTCUSDT"]] == [list(range(count)), [8]]
    assert numbers(files["ETHUSDT"][0]) == [7]
    assert spool.records == count + 2


def test_records_of_two_schemas_together(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    spool.add({b"A": [record(1), record(2, 2), record(3), record(4, 2)]}, SCHEMAS)
    spool.checkpoint({})
    assert [numbers(path) for path in dict(spool.files())["A"]] == [[1, 3], [2, 4]]


def test_what_waits_is_bounded_however_many_symbols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "WAITING_BYTES", 1000)
    spool = Spool(tmp_path, "day")
    for number in range(2000):
        spool.add({b"A%d" % (number % 100): [record(number)]}, SCHEMAS)
        assert sum(len(one.values) for one in spool._waiting.values()) * 6 < 1010
    spool.checkpoint({})
    assert sorted(one for _, paths in spool.files() for one in numbers(paths[0])) == list(range(2000))


def test_a_schema_that_is_no_records(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no Avro record: string"):
        Spool(tmp_path, "day").add({b"A": [record(1)]}, {b"\0\0\0\0\x01": "string"})


def test_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    spool.resume()
    spool.add({b"A": [record(1)]}, SCHEMAS)
    spool.checkpoint({0: 1, 2: 5})
    spool.add({b"A": [record(number) for number in range(MANY)]}, SCHEMAS)  # written, not noted
    spool.add({b"B": [record(3)]}, SCHEMAS)
    again = Spool(tmp_path, "day")
    assert again.resume() == {0: 1, 2: 5}
    again.add({b"A": [record(2)], b"C": [record(4)]}, SCHEMAS)
    assert not again.complete
    again.checkpoint({0: 3}, complete=True)
    assert {symbol: numbers(paths[0]) for symbol, paths in again.files()} == {"A": [1, 2], "C": [4]}
    assert again.records == 3
    last = Spool(tmp_path, "day")
    assert (last.resume(), last.complete) == ({0: 3}, True)


@pytest.mark.parametrize("damage", ["another day", "shorter", "no state", "file gone"])
def test_a_spool_that_cannot_be_continued_begins_anew(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path, "day")
    spool.resume()
    spool.add({b"A": [record(1)]}, SCHEMAS)
    spool.checkpoint({0: 1}, complete=True)
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
    assert (again.records, again.complete) == (0, False)


def test_a_key_that_is_no_file_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "day")
    spool.add({b"../\xc3\xa9": [record(1)]}, SCHEMAS)
    spool.checkpoint({})
    assert [symbol for symbol, _ in spool.files()] == ["../é"]
