"""Import of days from the exchange's files, served by the simulator."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingest_ops.archive.day import Archive, Outcome
from ingest_ops.archive.errors import ArchiveError, NotFinished
from ingest_ops.archive.importing import import_day
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.verify import verify_days
from ingest_ops.common.verdict import Verdict
from tests.harness.archive import GeneratedMarket, duckdb_rows, midnight, served, table_rows

DAY = date(2025, 3, 1)
NEXT = DAY + timedelta(days=1)


class History:
    """Two days of two symbols, served as files."""

    def __init__(self, url: str, market: GeneratedMarket, folder: Path) -> None:
        self.market = market
        self.settings = ArchiveSettings(
            warehouse=str(folder / "archive"), work=folder / "work", files_url=url, rest_url=url, bucket_rows=40
        )

    def run(self, day: date = DAY, *symbols: str) -> Outcome:
        return import_day(self.settings, day, symbols or ("BTCUSDT", "ETHUSDT"), {}, self.market.now_us)

    def faults(self, *days: date) -> list[str]:
        return [str(one) for one in verify_days(Archive(self.settings, create=False), list(days))]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    market = GeneratedMarket()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        market.listed(symbol, 100)
        for day in (DAY, NEXT):
            market.fill(symbol, day, 50)
    market.now_us = midnight(NEXT + timedelta(days=1))
    with served(market) as url:
        yield History(url, market, tmp_path)


def test_days_are_imported_once_and_chained(history: History) -> None:
    first, second = history.run(), history.run(NEXT)
    assert [(one.certificate.verdict, one.certificate.origin) for one in (first, second)] == [
        (Verdict.PASS, "exchange-files")
    ] * 2
    archive = Archive(history.settings, create=False)
    for day in (DAY, NEXT):
        truth = {name: history.market.rows(name, day) for name in ("BTCUSDT", "ETHUSDT")}
        assert table_rows(archive, day) == truth
        assert duckdb_rows(archive, day) == truth
    assert len(first.certificate.files) == 2
    assert second.certificate.previous is not None
    assert second.certificate.previous.root == first.certificate.root
    assert history.faults(DAY, NEXT) == []
    again = history.run()
    assert (again.changed, again.certified) == (False, False)
    entry = first.certificate.entry("BTCUSDT")
    assert entry is not None
    assert (entry.base_asset, entry.quote_asset, entry.start) == ("BTC", "USDT", "the exchange's file")


def test_a_corrected_file_replaces_the_day_and_both_certificates_stay(history: History) -> None:
    history.market.fault("corrected", "ETHUSDT")
    before = history.run()
    history.market.rest.daily_files.faults.clear()
    after = history.run()
    assert (after.changed, after.certificate.sequence) == (True, 2)
    assert before.certificate.root != after.certificate.root
    assert len(Archive(history.settings).certificates.names(DAY)) == 2
    assert history.faults(DAY) == []


@pytest.mark.parametrize(
    ("form", "verdict", "code"),
    [
        ("absent", Verdict.INCONCLUSIVE, "comparison_absent"),
        ("truncated", Verdict.INCONCLUSIVE, "comparison_checksum"),
        ("hole", Verdict.FAIL, "missing"),
    ],
)
def test_files_that_are_wrong(history: History, form: str, verdict: Verdict, code: str) -> None:
    history.market.fault(form, "ETHUSDT")
    certificate = history.run().certificate
    entry = certificate.entry("ETHUSDT")
    assert entry is not None
    assert (certificate.verdict, [one.code for one in entry.findings]) == (verdict, [code])
    assert history.faults(DAY) == []


def test_a_hole_between_imported_days_fails(history: History) -> None:
    history.run()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        history.market.void(symbol, 2)
        history.market.fill(symbol, NEXT + timedelta(days=1), 20)
    history.market.now_us = midnight(NEXT + timedelta(days=2))
    history.run(NEXT)
    third = history.run(NEXT + timedelta(days=1)).certificate
    assert third.verdict is Verdict.FAIL
    assert {one.code for each in third.symbols for one in each.findings} == {"missing"}


def test_what_cannot_be_imported(history: History) -> None:
    with pytest.raises(NotFinished):
        history.run(NEXT + timedelta(days=1))
    with pytest.raises(ArchiveError, match="--assets OLDUSDT"):
        history.run(DAY, "OLDUSDT")
