"""The tasks of the daily validation: audit, read, report, verdict. pandas is imported where it is used: a DAG file must
be parsed in moments.
"""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ingest.core.errors import BadSettings
from ingest_ops.airflow.connections import BadConnection, environment
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.verdict import Verdict

ABSENT = "absent"
"""XCom of ``read``: why a day could not be read, by its date."""
PARAMS = ("days", "end", "refresh")


class ReportLink(BaseOperatorLink):
    """From a task to the report of its run."""

    name = "Validation report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address of the run's report, which its window gives; the list of all reports where that is not known."""
        del operator
        # Airflow 3 calls this in the worker, with the task instance in place of its key.
        context = getattr(ti_key, "get_template_context", None)
        if context is None:
            return "/k2/reports/?kind=validation"
        try:
            end, count = _Task.window(context())
        except AirflowFailException:
            return "/k2/reports/?kind=validation"
        return report_url(end, count)


def report_url(end: date, count: int) -> str:
    """Where the report page of the web interface shows the report of a window."""
    return f"/k2/reports/validation/{end.isoformat()}-{count}d.html"


class _Task(BaseOperator):
    operator_extra_links = (ReportLink(),)

    @staticmethod
    def settings() -> ReportSettings:
        """Where Prometheus, the auditor and the reports are. Wrong ones are not tried again."""
        try:
            return ReportSettings.load(environment())
        except (BadConnection, BadSettings) as error:
            raise AirflowFailException(str(error)) from error

    @staticmethod
    def window(context: Context) -> tuple[date, int]:
        """The last day, and how many. Without ``end`` it is the run's partition, or the day before its own time."""
        params = context["params"]
        if unknown := sorted(set(params) - set(PARAMS)):
            raise AirflowFailException(f"unknown parameters: {', '.join(unknown)}; known are {', '.join(PARAMS)}")
        run = context["dag_run"]
        at = run.logical_date or run.run_after
        key = getattr(run, "partition_key", None)
        if params.get("end"):
            end = date.fromisoformat(params["end"])
        else:
            end = date.fromisoformat(key) if key else at.astimezone(UTC).date() - timedelta(days=1)
        if end >= _now().date():
            raise AirflowFailException(f"end {end}: that day is not over yet in UTC")
        return end, int(params["days"])


class ValidationAudit(_Task):
    """Let the auditor read the topic, where a command for it is configured. Returns the path of what it said."""

    def execute(self, context: Context) -> str | None:
        """Run it. What it finds is judged with the day, so it never fails the task."""
        from ingest_ops.validation.daily import audit
        from ingest_ops.validation.report_json import stamp

        end, _ = self.window(context)
        if end != _now().date() - timedelta(days=1):
            self.log.info("no audit: the run is about an earlier day, and an audit speaks for the day before it")
            return None
        path = audit(self.settings(), end, stamp(_now().timestamp()))
        if path is None:
            self.log.warning("no audit: K2_REPORT_AUDIT_COMMAND is not set; completeness will be INCONCLUSIVE")
        return str(path) if path else None


class ValidationRead(_Task):
    """Read the run's day, and each earlier one of the window that is not kept yet, from Prometheus."""

    def execute(self, context: Context) -> list[str]:
        """Returns the days that were read. Fails at the end, for a retry, where one could not be."""
        from ingest.core.errors import Retry, Stop
        from ingest_ops.validation import day_store
        from ingest_ops.validation.daily import read_day
        from ingest_ops.validation.day import days_until
        from ingest_ops.validation.day_reader import PrometheusSource

        settings = self.settings()
        end, count = self.window(context)
        absent: dict[str, Any] = {}
        read: list[str] = []
        source = PrometheusSource(settings)
        refused = False
        try:
            for when in days_until(end, count):
                if when != end and not context["params"].get("refresh") and day_store.is_kept(settings.days, when):
                    continue
                try:
                    day, path, written = read_day(settings, when, source)
                except (Retry, Stop) as error:
                    refused = refused or isinstance(error, Stop)
                    absent[when.isoformat()] = str(error)
                    self.log.error("%s: %s", when, error)  # noqa: TRY400 - the text says it all
                    continue
                read.append(when.isoformat())
                self.log.info("%s: %d samples, %s %s", when, day.samples, "to" if written else "fewer than", path)
        finally:
            source.close()
        context["ti"].xcom_push(key=ABSENT, value=absent)
        if absent:
            text = "; ".join(f"{when}: {why}" for when, why in absent.items())
            raise AirflowFailException(text) if refused else AirflowException(text)
        return read


class ValidationReport(_Task):
    """Judge the kept days and write the report, whatever became of ``read``. Succeeds whatever the verdict is."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Write it; earlier reports of the window that were never made are made, too."""
        from ingest_ops.validation import day_store
        from ingest_ops.validation.daily import build, missed_reports
        from ingest_ops.validation.report_json import stamp

        settings = self.settings()
        end, count = self.window(context)
        said = context["ti"].xcom_pull(task_ids="read", key=ABSENT) or {}
        absent = {date.fromisoformat(when): why for when, why in said.items()}
        made_at = stamp(_now().timestamp())
        for when in missed_reports(settings.folder, end, count):
            if day_store.is_kept(settings.days, when):
                built = build(settings, when, count=count, generated_at=made_at, absent=absent)
                self.log.info("the report to %s had not been made: %s", when, built.verdict)
        built = build(settings, end, count=count, generated_at=made_at, absent=absent)
        for one in built.trials:
            words = {True: "caught", False: "SURVIVED", None: "not applicable"}
            self.log.info("self-check %s: %s: %s", one.mutant.id, words[one.caught], one.said)
        found: dict[str, Any] = {
            "verdict": str(built.verdict),
            "reasons": list(built.reasons),
            "url": report_url(end, count),
            "files": {suffix: str(path) for suffix, path in built.paths.items()},
        }
        for asset in self.outlets:
            context["outlet_events"][asset].extra = found
        return found


class ValidationVerdict(_Task):
    """Fails unless the verdict is PASS, so that the run's colour is the verdict."""

    def execute(self, context: Context) -> str:
        """The verdict of the report task."""
        found = context["ti"].xcom_pull(task_ids="report")
        if found["verdict"] != Verdict.PASS:
            raise AirflowFailException("\n".join([f"{found['verdict']}: {found['url']}", *found["reasons"]]))
        return str(found["verdict"])


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC)
