"""The tasks of the soak DAGs: watch (deferred), audit, report, verdict. Paths travel between them, no data."""

import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ingest.decoding import decode_json
from ingest_ops.airflow.connections import environment
from ingest_ops.airflow.soak_trigger import SoakTrigger
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.job import BadParams, Job, clock
from ingest_ops.soak.record import Record, State

GRACE = timedelta(hours=2)
"""Beyond the soak's own time: the triggerer may have been away, Prometheus too."""
STARTED = "started"


def report_url(run_id: str) -> str:
    """Where the report page of the web interface shows a soak."""
    return f"/k2/reports/soak/{run_id}.html"


class ReportLink(BaseOperatorLink):
    """From a task to its soak's report."""

    name = "Soak report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, from the run's own name."""
        return report_url(run_name(operator.dag_id if operator.has_dag() else ti_key.dag_id, ti_key.run_id))


def run_name(dag_id: str, run_id: str) -> str:
    """A file's name for a DAG run: what neither a path nor a URL reads as something else."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dag_id}-{run_id}")[:110].strip("-")


class _SoakTask(BaseOperator):
    operator_extra_links = (ReportLink(),)

    @staticmethod
    def settings() -> ReportSettings:
        """Where Prometheus, the auditor and the reports are."""
        return ReportSettings.load(environment())


class SoakWatch(_SoakTask):
    """Begin the soak, or go on with it, and wait deferred. Returns the job with how it ended."""

    def execute(self, context: Context) -> Any:
        """Defer; the start is kept in the task's state and survives retries."""
        self.defer(
            trigger=SoakTrigger(self._job(context).as_json()),
            method_name="over",
            timeout=timedelta(seconds=self._job(context).parsed.run_seconds) + GRACE,
        )

    def _job(self, context: Context) -> Job:
        store = context["task_state_store"]
        started = store.get(STARTED)
        if started is None:
            started = clock()
            store.set(STARTED, started, retention=timedelta(days=7))
        run = context["dag_run"]
        try:
            return Job.of(
                context["params"],
                self.settings(),
                run_id=run_name(run.dag_id, run.run_id),
                started=float(str(started)),
                trigger=str(run.run_type),
            )
        except BadParams as error:
            raise AirflowFailException(str(error)) from error

    def over(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Make sure that the record is here, wherever the triggerer kept its own."""
        job = self._job(context)
        engine = job.engine(self.settings())
        if engine.tick() is State.RUNNING:
            raise AirflowException(f"the trigger saw the end ({event}) and Prometheus does not show it: asked again")
        self.log.info("soak %s: %s %s", job.run_id, engine.record.state, engine.record.reason)
        return job.as_json()


class SoakAudit(_SoakTask):
    """Let the auditor read the topic. Returns the path of its figures, or ``None`` where there was no audit."""

    template_fields = ("job",)

    def __init__(self, *, job: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    def execute(self, context: Context) -> str | None:
        """Run the command of the settings. A soak that was ended is judged without: its reason is known."""
        del context
        from ingest_ops.common.audit_runner import run_audit

        job, command = Job(**self.job), self.settings().audit_command
        record = _record(job)
        if not command or record.state is State.ABORTED:
            self.log.warning("no audit: %s", record.reason or "K2_REPORT_AUDIT_COMMAND is not set")
            return None
        figures = job.record.with_suffix(".audit.json")
        result = run_audit(shlex.split(command), figures)
        self.log.info("audit: %s: %s", result.verdict, result.reason)
        return str(figures)


class SoakReport(_SoakTask):
    """Judge and write the report; its files are the asset's. Succeeds whatever the verdict is."""

    template_fields = ("job", "figures")

    def __init__(self, *, job: Any, figures: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.figures = figures

    def execute(self, context: Context) -> dict[str, Any]:
        """Write it."""

        from ingest_ops.common.audit_runner import AuditResult
        from ingest_ops.common.files import read_file
        from ingest_ops.render import addresses
        from ingest_ops.soak import report
        from ingest_ops.soak.cli import known_rates

        job = Job(**self.job)
        audit = None
        if self.figures:
            audit = AuditResult.of_figures(decode_json(read_file(Path(self.figures))))
        record = _record(job)
        where = addresses.of(self.settings())
        judgement, paths = report.write(Path(job.reports), record, audit, known_rates(), now=clock(), addresses=where)
        ended = [f"ended early: {record.reason}"] if record.state is State.ABORTED else []
        found: dict[str, Any] = {
            "verdict": str(judgement.verdict),
            "reasons": [*ended, *judgement.reasons],
            "files": {suffix: str(path) for suffix, path in paths.items()},
        }
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"run_id": job.run_id, **found}
        return found


class SoakVerdict(_SoakTask):
    """Fail with the reasons unless the verdict is PASS. Never retried: the samples will not be others."""

    template_fields = ("found",)

    def __init__(self, *, found: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.found: Mapping[str, Any] = found

    def execute(self, context: Context) -> str:
        """Say it."""
        del context
        if self.found["verdict"] != Verdict.PASS:
            raise AirflowFailException(f"{self.found['verdict']}: {'; '.join(self.found['reasons'])}")
        return str(self.found["files"]["html"])


def _record(job: Job) -> Record:
    record = Record.load(job.record)
    if record is None:
        raise AirflowException(f"{job.record} is not there: reports must be on a disk that all workers share")
    return record
