"""How symbols are shared out over buckets."""

from pathlib import Path

import pytest

from ingest_ops.archive import build
from ingest_ops.archive.build import RECORD_BYTES, buckets


def planned(folder: Path, sizes: list[int], rows: int, workers: int = 1) -> list[list[str]]:
    files = []
    for number, count in enumerate(sizes):
        path = folder / f"S{number}"
        path.write_bytes(b"")
        with path.open("r+b") as file:
            file.truncate(count * RECORD_BYTES)
        files.append((path.name, [path]))
    return [[symbol for symbol, _ in one] for one in buckets(iter(files), rows, workers=workers)]


def test_a_bucket_has_whole_symbols_up_to_a_number_of_rows(tmp_path: Path) -> None:
    assert planned(tmp_path, [3, 3, 3, 20, 1], rows=7) == [["S0", "S1"], ["S2"], ["S3"], ["S4"]]
    assert planned(tmp_path, [], rows=7) == []


def test_every_worker_has_a_bucket_if_it_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(tmp_path, [10, 10, 10, 10], rows=100, workers=2) == [["S0", "S1", "S2", "S3"]]
    monkeypatch.setattr(build, "SHARE_ROWS", 5)
    assert planned(tmp_path, [10, 10, 10, 10], rows=100, workers=2) == [["S0", "S1"], ["S2", "S3"]]
