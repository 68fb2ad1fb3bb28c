"""The command on an archive of two imported days."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingest_ops.__main__ import main
from ingest_ops.archive.day import Archive
from ingest_ops.archive.settings import ArchiveSettings
from tests.harness.archive import GeneratedMarket, midnight, served

DAY = date(2025, 3, 1)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    market = GeneratedMarket()
    market.listed("BTCUSDT", 100)
    for number in range(2):
        market.fill("BTCUSDT", DAY + timedelta(days=number), 30)
    market.now_us = midnight(DAY + timedelta(days=2))
    with served(market) as url:
        for name, value in (("WAREHOUSE", tmp_path / "archive"), ("WORK", tmp_path / "work"), ("FILES_URL", url),
                            ("REST_URL", url)):  # fmt: skip
            monkeypatch.setenv(f"K2_ARCHIVE_{name}", str(value))
        yield tmp_path


def test_import_verify_list_report(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "import", str(DAY), "--to", str(DAY + timedelta(days=1)), "--symbols", "btcusdt"]) == 0
    assert "2025-03-01 PASS: 30 trades, 1 symbols" in capsys.readouterr().out
    assert main(["archive", "verify"]) == 0
    assert capsys.readouterr().out == "2 days as certified\n"
    assert main(["archive", "list", "--json", "-"]) == 0
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)] == ["PASS", "PASS"]
    assert main(["archive", "report", "--reports", str(archive / "reports"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    data = json.loads(Path(written["files"]["json"]).read_text())
    assert (data["verdict"], data["run_id"], data["certificate"]["day"]) == ("PASS", "2025-03-02-2d", "2025-03-02")


def test_a_changed_file_is_exit_code_1(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "import", str(DAY), "--symbols", "BTCUSDT"]) == 0
    settings = ArchiveSettings(warehouse=str(archive / "archive"))
    (path,) = Archive(settings, create=False).table.files(DAY)
    file = Path(path.removeprefix("file://"))
    data = file.read_bytes()
    file.write_bytes(data[:200] + bytes([data[200] ^ 4]) + data[201:])
    capsys.readouterr()
    assert main(["archive", "verify", "--json", "-"]) == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert faults
    assert {one["day"] for one in faults} == {str(DAY)}


def test_what_cannot_be_done_has_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K2_ARCHIVE_WAREHOUSE", str(tmp_path / "none"))
    monkeypatch.setenv("K2_ARCHIVE_WORK", str(tmp_path / "work"))
    assert main(["archive", "verify"]) == 3
    assert main(["archive", "day", "2999-01-01"]) == 2
    assert main(["archive", "day", "2026-01-15", "--warehouse", "s3://bucket"]) == 2
    monkeypatch.setenv("K2_ARCHIVE_TIMEOUT_SECONDS", "1")
    assert main(["archive", "day", "2026-01-15", "--bootstrap-servers", "127.0.0.1:1"]) == 75
    assert "Traceback" not in capsys.readouterr().err
