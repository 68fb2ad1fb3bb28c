"""Reads the reports' folder and the journal at each scrape; nothing is cached."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.journal import Journal, JournalError, Record
from ingest_ops.deployment.state_machine import State
from ingest_ops.index import FOLDERS, Entry, list_reports


class Operations(Collector):
    """``journal`` opens the journal; it may not exist yet."""

    def __init__(self, reports: Path, journal: Callable[[], Journal]) -> None:
        self._reports = reports
        self._open = journal
        self._journal: Journal | None = None

    def describe(self) -> list[Metric]:
        """Nothing in advance: what registers this must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family, with what is known now. What cannot be read has no sample: missing is not zero."""
        yield from self._of_reports()
        yield from self._of_deployments()

    def _of_reports(self) -> Iterator[Metric]:
        count = GaugeMetricFamily("ingest_reports", "Reports in a folder.", labels=["folder"])
        stamp = GaugeMetricFamily(
            "ingest_report_timestamp_seconds", "When the newest report was made.", labels=["folder"]
        )
        verdicts = GaugeMetricFamily(
            "ingest_report_verdict", "1 for the verdict of the newest report.", labels=["folder", "verdict"]
        )
        entries = list_reports(self._reports)
        for folder in FOLDERS:
            of_folder = [entry for entry in entries if entry.folder == folder]
            count.add_metric([folder], len(of_folder))
            if of_folder:
                stamp.add_metric([folder], made_at(of_folder[0]))
                for verdict in Verdict:
                    verdicts.add_metric([folder, verdict], int(of_folder[0].verdict is verdict))
        yield count
        yield stamp
        yield verdicts

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
