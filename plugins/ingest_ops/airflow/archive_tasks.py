"""The tasks of the daily archive: the days, and a mapped task for each of them. Arrow is imported where it is used."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ingest.core.errors import BadSettings
from ingest_ops.airflow.connections import BadConnection, environment
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.verdict import Verdict

if TYPE_CHECKING:
    from ingest_ops.archive.certificate import Certificate
    from ingest_ops.archive.settings import ArchiveSettings

MOST_DAYS = 366
LATER = frozenset({"comparison_absent", "comparison_checksum", "comparison_unusable", "end_not_shown"})
"""Findings that a later run may not have: the exchange's file comes hours or days after midnight."""
MOST_LINES = 20


class ArchiveLink(BaseOperatorLink):
    """From a day to the page with its certificate."""

    name = "Archive report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The page that the task wrote last, as its result names it; before that the list of them."""
        del operator
        pull = getattr(ti_key, "xcom_pull", None)
        found = pull(task_ids=ti_key.task_id, map_indexes=ti_key.map_index) if pull is not None else None
        return str(found["url"]) if isinstance(found, dict) and "url" in found else "/k2/reports/?kind=archive"


class ArchiveDays(BaseOperator):
    """The days of a run: those of the form, or the run's partition, or the day before the run."""

    def execute(self, context: Context) -> list[str]:
        """Return them as YYYY-MM-DD. Fails for a range that is none, or that is not over."""
        params = context["params"]
        run = context["dag_run"]
        key = getattr(run, "partition_key", None)
        at = run.logical_date or run.run_after
        default = date.fromisoformat(key) if key else at.astimezone(UTC).date() - timedelta(days=1)
        first = date.fromisoformat(params["first"]) if params.get("first") else default
        last = date.fromisoformat(params["last"]) if params.get("last") else max(first, default)
        count = (last - first).days + 1
        if not 1 <= count <= MOST_DAYS:
            raise AirflowFailException(f"from {first} to {last}: allowed are 1 to {MOST_DAYS} days")
        if last >= _today():
            raise AirflowFailException(f"{last} is not over yet in UTC")
        return [(first + timedelta(days=number)).isoformat() for number in range(count)]


class ArchiveDay(BaseOperator):
    """Archive one day. It succeeds with PASS alone; it is tried again while a later run may pass."""

    template_fields: Sequence[str] = ("day",)
    operator_extra_links = (ArchiveLink(),)

    def __init__(self, *, day: str, **others: Any) -> None:
        super().__init__(**others)
        self.day = day

    def execute(self, context: Context) -> dict[str, Any]:
        """Return verdict, root and number of trades."""
        from ingest_ops.archive.certificate import CertificateError
        from ingest_ops.archive.day import archive_day
        from ingest_ops.archive.errors import ArchiveError, TryAgain
        from ingest_ops.archive.settings import ArchiveSettings

        try:
            stated = environment()
            settings, reports = ArchiveSettings.load(stated), ReportSettings.load(stated).reports
            outcome = archive_day(settings, date.fromisoformat(self.day), time.time_ns() // 1000)
        except TryAgain as error:
            raise AirflowException(str(error)) from error
        except (BadConnection, BadSettings, ArchiveError, CertificateError) as error:
            raise AirflowFailException(str(error)) from error
        certificate = outcome.certificate
        url = self._page(settings, reports)
        if certificate.verdict != Verdict.PASS:
            text = "\n".join([f"{self.day}: {certificate.verdict}", *_lines(certificate)])
            raise AirflowException(text) if _may_pass_later(certificate) else AirflowFailException(text)
        found: dict[str, Any] = {
            "day": self.day,
            "verdict": str(certificate.verdict),
            "root": certificate.root,
            "trades": certificate.trades,
            "table_changed": outcome.changed,
            "url": url,
        }
        for asset in self.outlets:
            context["outlet_events"][asset].extra = found
        return found

    def _page(self, settings: "ArchiveSettings", reports: Path) -> str:
        """Write the page of the last days, whatever the verdict; returns its address. It never fails the day."""
        from ingest_ops.archive.day import Archive
        from ingest_ops.archive.errors import ArchiveError
        from ingest_ops.archive.report import write

        try:
            written = write(Archive(settings, create=False), reports, time.time_ns() // 1000)
        except (ArchiveError, OSError) as error:
            self.log.warning("the archive's page was not written: %s", error)
            written = None
        return f"/k2/reports/archive/{written[1]['html'].name}" if written else "/k2/reports/?kind=archive"


def _may_pass_later(certificate: "Certificate") -> bool:
    if certificate.verdict == Verdict.FAIL:
        return False
    codes = {one.code for each in certificate.symbols if each.verdict != Verdict.PASS for one in each.findings}
    return "start_not_shown" not in codes and bool(codes & LATER)


def _lines(certificate: "Certificate") -> list[str]:
    lines = [
        f"{each.symbol} {one.code} {'' if one.first_id is None else f'{one.first_id}..{one.last_id} '}{one.detail}"
        for each in certificate.symbols
        if each.verdict != Verdict.PASS
        for one in each.findings
    ]
    return lines[:MOST_LINES]


def _today() -> date:
    return datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC).date()
