"""What the exporter says of reports and deployments, and that it says nothing where it knows nothing."""

import json
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.state_machine import State
from ingest_ops.exporter.collector import MOST_BYTES, Operations
from ingest_ops.index import Entry, list_reports


def made(reports: Path, url: str, now: float = 1000.0) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Operations(reports, lambda: Journal(url, lambda: 1000.0), lambda: now))
    return registry


def report(folder: Path, name: str, verdict: str, generated_at: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"verdict": verdict, "generated_at": generated_at}))


def test_the_newest_report_of_each_folder_counts(tmp_path: Path) -> None:
    report(tmp_path / "validation", "old", "FAIL", "2026-01-01T00:00:00+00:00")
    report(tmp_path / "validation", "new", "PASS", "2026-01-02T00:00:00+00:00")
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db")
    assert registry.get_sample_value("ingest_reports", {"folder": "validation"}) == 2
    assert registry.get_sample_value("ingest_report_timestamp_seconds", {"folder": "validation"}) == 1767312000.0
    labels = {"folder": "validation", "verdict": "PASS"}
    assert registry.get_sample_value("ingest_report_verdict", labels) == 1
    assert registry.get_sample_value("ingest_report_verdict", {**labels, "verdict": "FAIL"}) == 0


def test_no_report_has_no_age(tmp_path: Path) -> None:
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db")
    assert registry.get_sample_value("ingest_reports", {"folder": "soak"}) == 0
    assert registry.get_sample_value("ingest_report_timestamp_seconds", {"folder": "soak"}) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-12T11:59:59", 0),
        ("2026-01-13T11:59:59", 1),  # the 11th has failed
        ("2026-01-13T12:00:00", 1),
        ("2026-01-14T12:00:00", 2),  # and the 13th was never archived
        ("2026-01-01T00:00:00", 0),
    ],
)
def test_days_of_the_archive_that_are_due_and_not_certified(tmp_path: Path, now: str, expected: int) -> None:
    verdicts = {"2026-01-10": "PASS", "2026-01-11": "FAIL", "2026-01-12": "PASS"}
    folder = tmp_path / "archive"
    folder.mkdir()
    days = [{"day": day, "verdict": verdict, "trades": 5} for day, verdict in verdicts.items()]
    (folder / "2026-01-12-3d.json").write_text(json.dumps({"verdict": "FAIL", "days": days, "missing": []}))
    at = datetime.fromisoformat(f"{now}+00:00").timestamp()
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db", at)
    assert registry.get_sample_value("ingest_archive_days_not_certified") == expected


@pytest.mark.parametrize("text", [None, "{}", '{"days": [], "missing": []}'])
def test_an_archive_that_is_not_known_has_no_days(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "a.json").write_text(text)
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db", 2e9)
    assert registry.get_sample_value("ingest_archive_days_not_certified") is None


def test_a_deployment_under_way_shows_its_state_and_its_last_progress(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    registry = made(tmp_path, url)
    assert registry.get_sample_value("ingest_deployment_open") is None
    journal = Journal(url, lambda: 2000.0)
    record = journal.create("d1", Plan(version="1.0.0"))
    assert registry.get_sample_value("ingest_deployment_open") == 1
    assert registry.get_sample_value("ingest_deployment_updated_timestamp_seconds") == 2000.0
    journal.change(record, state=State.DONE)
    assert registry.get_sample_value("ingest_deployment_open") == 0
    assert registry.get_sample_value("ingest_deployment_state", {"state": "DONE"}) == 1
    assert registry.get_sample_value("ingest_deployment_state", {"state": "PLAN"}) == 0
    journal.close()


def test_a_journal_that_cannot_be_read_is_said_and_not_guessed(tmp_path: Path) -> None:
    registry = made(tmp_path, f"sqlite:///{tmp_path}/nowhere/journal.db")
    assert registry.get_sample_value("ingest_deployment_journal_readable") == 0
    assert registry.get_sample_value("ingest_deployment_open") is None


def test_a_report_beyond_the_bound_is_inconclusive_and_not_read(tmp_path: Path) -> None:
    """It is the newest one: an older PASS must not stand for it."""
    report(tmp_path / "archive", "old", "PASS", "2026-01-01T00:00:00+00:00")
    (tmp_path / "archive" / "big.json").write_bytes(b'{"verdict": "PASS"}')
    with (tmp_path / "archive" / "big.json").open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db")
    labels = {"folder": "archive", "verdict": "INCONCLUSIVE"}
    assert registry.get_sample_value("ingest_report_verdict", labels) == 1
    assert registry.get_sample_value("ingest_reports", {"folder": "archive"}) == 2
    assert registry.get_sample_value("ingest_archive_days_not_certified") is None


def test_reports_are_read_for_one_scrape_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight scrapers had one report of 60 MB in memory four times."""
    reading: list[int] = []
    most: list[int] = []

    def slow(root: Path, *, most_bytes: int) -> list[Entry]:
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.02)
        reading.pop()
        return list_reports(root, most_bytes=most_bytes)

    monkeypatch.setattr("ingest_ops.exporter.collector.list_reports", slow)
    registry = made(tmp_path, f"sqlite:///{tmp_path}/journal.db")
    scrapers = [threading.Thread(target=lambda: list(registry.collect())) for _ in range(8)]
    for one in scrapers:
        one.start()
    for one in scrapers:
        one.join()
    assert (len(most), max(most)) == (8, 1)
