"""Reads the reports' folder and the journal at each scrape; nothing is cached."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.journal import Journal, JournalError, Record
from ingest_ops.deployment.state_machine import State
from ingest_ops.index import FOLDERS, Entry, NoSuchReport, list_reports, read_report

ARCHIVED_WITHIN = 12 * 3600.0
"""After its end in UTC a day has so long to be certified."""
DAY = 86_400.0
MOST_BYTES = 8 * 2**20
"""A greater report is INCONCLUSIVE here: the greatest kind, a soak's of a day, has 3.4 MiB."""


class _ArchivedDay(msgspec.Struct):
    day: date
    verdict: str


class _ArchiveReport(msgspec.Struct):
    days: list[_ArchivedDay]


class Operations(Collector):
    """``journal`` opens the journal; it may not exist yet. ``clock``: seconds since 1970."""

    def __init__(self, reports: Path, journal: Callable[[], Journal], clock: Callable[[], float]) -> None:
        self._reports = reports
        self._clock = clock
        self._open = journal
        self._journal: Journal | None = None
        self._reading = threading.Lock()
        """One report is in memory at a time, however many scrape."""

    def describe(self) -> list[Metric]:
        """Nothing in advance: what registers this must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family, with what is known now. What cannot be read has no sample: missing is not zero."""
        with self._reading:
            of_reports = list(self._of_reports())
        yield from of_reports
        yield from self._of_deployments()

    def _of_reports(self) -> Iterator[Metric]:
        count = GaugeMetricFamily("ingest_reports", "Reports in a folder.", labels=["folder"])
        stamp = GaugeMetricFamily(
            "ingest_report_timestamp_seconds", "When the newest report was made.", labels=["folder"]
        )
        verdicts = GaugeMetricFamily(
            "ingest_report_verdict", "1 for the verdict of the newest report.", labels=["folder", "verdict"]
        )
        entries = list_reports(self._reports, most_bytes=MOST_BYTES)
        for folder in FOLDERS:
            of_folder = [entry for entry in entries if entry.folder == folder]
            count.add_metric([folder], len(of_folder))
            if of_folder:
                stamp.add_metric([folder], made_at(of_folder[0]))
                for verdict in Verdict:
                    verdicts.add_metric([folder, verdict], int(of_folder[0].verdict is verdict))
                if folder == "archive":
                    yield from self._of_archive(of_folder[0])
        yield count
        yield stamp
        yield verdicts

    def _of_archive(self, newest: Entry) -> Iterator[Metric]:
        """How many days of the newest page, and of those since, are due and not certified."""
        open_days = GaugeMetricFamily(
            "ingest_archive_days_not_certified",
            "Days of the archive, from the first one of its newest report to the last one that ended twelve hours ago,"
            " that are not certified with PASS.",
        )
        try:
            raw = read_report(self._reports, newest.id, "json", MOST_BYTES)
            report = decode_typed(raw, _ArchiveReport)
        except (OSError, NoSuchReport, Undecodable):
            return
        if report.days:
            due = datetime.fromtimestamp(self._clock() - ARCHIVED_WITHIN - DAY, UTC).date()
            passed = sum(one.verdict == Verdict.PASS and one.day <= due for one in report.days)
            wanted = (due - min(one.day for one in report.days)).days + 1
            open_days.add_metric([], max(0, wanted - passed))
        yield open_days

    def _of_deployments(self) -> Iterator[Metric]:
        readable = GaugeMetricFamily("ingest_deployment_journal_readable", "1 while the journal can be read.")
        state = GaugeMetricFamily("ingest_deployment_state", "1 for the newest deployment's state.", labels=["state"])
        is_open = GaugeMetricFamily("ingest_deployment_open", "1 while the newest deployment is under way.")
        created = GaugeMetricFamily("ingest_deployment_created_timestamp_seconds", "When the newest one began.")
        updated = GaugeMetricFamily("ingest_deployment_updated_timestamp_seconds", "When it last made progress.")
        try:
            newest = self._newest()
        except JournalError:
            readable.add_metric([], 0)
        else:
            readable.add_metric([], 1)
            if newest is not None:
                for one in State:
                    state.add_metric([one], int(newest.state is one))
                is_open.add_metric([], int(not newest.finished))
                created.add_metric([], newest.created)
                updated.add_metric([], newest.updated)
        yield from (readable, state, is_open, created, updated)

    def _newest(self) -> Record | None:
        if self._journal is None:
            self._journal = self._open()
        return next(iter(self._journal.latest(1)), None)


def made_at(entry: Entry) -> float:
    """When a report was made, seconds since 1970: what it says, else the age of its file."""
    try:
        return datetime.fromisoformat(entry.generated_at).timestamp()
    except ValueError:
        return entry.modified
