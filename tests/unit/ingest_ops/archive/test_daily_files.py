import hashlib
import io
import zipfile
from datetime import date
from pathlib import Path

import pytest

from ingest_ops.archive.daily_files import Absent, DailyFile, DailyFiles, FileRows, Unusable, WrongChecksum
from ingest_ops.archive.errors import TryAgain
from ingest_ops.archive.rows import decimals
from tests.harness.archive import GeneratedMarket, midnight, served

DAY = date(2026, 1, 15)
NEXT = date(2026, 1, 16)
LINE = "{},1.5,2.00000000,3.0,{},True,True\n"


def zipped(text: str, folder: Path, names: tuple[str, ...] = ("a.csv",)) -> DailyFile:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    path = folder / "file.zip"
    path.write_bytes(made.getvalue())
    return DailyFile(path, "", "")


def test_rows_are_exact(tmp_path: Path) -> None:
    text = "7,0.00000001,123456789012345678901.12345678,1,1768435200000001,False,True\n" + LINE.format(
        8, 1768435200000002
    )
    reader = FileRows(zipped(text, tmp_path))
    (rows,) = reader
    assert (rows.ids.tolist(), rows.times.tolist()) == ([7, 8], [1768435200000001, 1768435200000002])
    assert (rows.prices == decimals([1, 150_000_000])).all()
    assert (rows.quantities == decimals([12345678901234567890112345678, 200_000_000])).all()
    assert (rows.sides.tolist(), reader.unit_us) == ([0, 1], 1)


def test_milliseconds_before_2025(tmp_path: Path) -> None:
    reader = FileRows(zipped(LINE.format(1, 1703462400123), tmp_path))
    (rows,) = reader
    assert (rows.times.tolist(), reader.unit_us) == ([1703462400123000], 1000)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert list(FileRows(zipped("", tmp_path))) == []


@pytest.mark.parametrize(
    "text",
    ["1,2\n", LINE.format("x", 5), LINE.format(1, 1703462400123) + LINE.format(2, 1768435200000002),
     "1,1.123456789,1,1,1768435200000002,True,True\n", "1,-,1,1,1768435200000002,True,True\n"],
)  # fmt: skip
def test_text_that_is_no_trades(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unusable):
        list(FileRows(zipped(text, tmp_path)))


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    good = zipped(LINE.format(1, 1768435200000002) * 5000, tmp_path).path.read_bytes()
    for number, data in enumerate((b"", b"no zip", good[: len(good) // 2], good[:60] + b"\xff" * 20 + good[80:])):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        with pytest.raises(Unusable):
            list(FileRows(DailyFile(path, "", "")))
    for names in ((), ("a.csv", "b.csv"), ("a.txt",)):
        with pytest.raises(Unusable):
            list(FileRows(zipped("", tmp_path, names)))


@pytest.fixture
def market() -> GeneratedMarket:
    made = GeneratedMarket()
    made.listed("BTCUSDT", 100)
    made.fill("BTCUSDT", DAY, 50, voids=2)
    made.now_us = midnight(NEXT)
    return made


def test_the_simulator_serves_the_ledger(market: GeneratedMarket, tmp_path: Path) -> None:
    with served(market) as url:
        files = DailyFiles(url, tmp_path, timeout=30)
        file = files.download("BTCUSDT", DAY)
        (rows,) = FileRows(file)
        truth = market.rows("BTCUSDT", DAY)
        assert rows.ids.tolist() == [one[0] for one in truth]
        assert (rows.prices == decimals([one[1] for one in truth])).all()
        assert (rows.quantities == decimals([one[2] for one in truth])).all()
        assert rows.times.tolist() == [one[3] for one in truth]
        assert rows.sides.tolist() == [int(one[4]) for one in truth]
        assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
        for symbol, day in (("BTCUSDT", NEXT), ("ETHUSDT", DAY)):
            with pytest.raises(Absent):
                files.download(symbol, day)
        files.close()


def test_a_file_without_end_is_left_at_the_bound_and_removed(
    market: GeneratedMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(market) as url:
        files = DailyFiles(url, tmp_path, timeout=30)
        size = files.download("BTCUSDT", DAY).path.stat().st_size
        monkeypatch.setattr("ingest_ops.archive.daily_files.DOWNLOAD_BYTES", size - 1)
        with pytest.raises(TryAgain, match=f"beyond {size - 1} bytes"):
            files.download("BTCUSDT", DAY)
        assert list(tmp_path.iterdir()) == []
        files.close()


def test_faults_of_the_files(market: GeneratedMarket, tmp_path: Path) -> None:
    with served(market) as url:
        files = DailyFiles(url, tmp_path, timeout=30)
        market.fault("late", calls=1)
        with pytest.raises(Absent):
            files.download("BTCUSDT", DAY)
        files.download("BTCUSDT", DAY)
        for form in ("truncated", "checksum"):
            market.fault(form, "BTCUSDT", 1)
            with pytest.raises(WrongChecksum):
                files.download("BTCUSDT", DAY)
        truth = {one[0] for one in market.rows("BTCUSDT", DAY)}
        for form, more in (("corrected", 0), ("hole", -1), ("extra", 1)):
            market.fault(form, calls=1)
            (rows,) = FileRows(files.download("BTCUSDT", DAY))
            assert len(rows) == len(truth) + more, form
        files.close()
