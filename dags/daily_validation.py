"""Each day: the finished UTC day is read from Prometheus and kept, and the last seven are judged and reported."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronPartitionTimetable, Param, TriggerRule

from ingest_ops.airflow.assets import DAY_KEY, VALIDATION_REPORT
from ingest_ops.airflow.notifier import WebhookNotifier, late
from ingest_ops.airflow.validation_tasks import ValidationAudit, ValidationRead, ValidationReport, ValidationVerdict

DOC = """
Reads the day that has just ended (UTC) from Prometheus, keeps it under `reports/validation/days/`, and judges the last
seven days from what is kept. The last task fails unless the verdict is PASS; the link *Validation report* leads to the
report.

Missed days are made up for: each run reads every day of its window that is not kept yet, as far as Prometheus still
has it, and makes the reports that were not made. A run's partition is the UTC day that its report ends with, the day
before the run. For older ones: `airflow backfill create --dag-id daily_validation --from-date 2026-01-20 --to-date
2026-01-23` makes the runs of those dates, whose reports end with the 19th to the 22nd. By hand: *Trigger*, with the
form. A second run for the same day gives the same report but for the time of its making.
"""

with DAG(
    "daily_validation",
    # Twenty minutes past midnight: the last scrapes are written and the rules evaluated.
    schedule=CronPartitionTimetable("20 0 * * *", timezone="UTC", run_offset=-1, key_format=DAY_KEY),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    description=__doc__,
    doc_md=DOC,
    tags=["k2", "validation"],
    default_args={"owner": "k2", "execution_timeout": timedelta(minutes=30)},
    on_failure_callback=WebhookNotifier(text="The daily validation of {{ dag_run.partition_key }} is not PASS."),
    deadline=late(4, "The daily validation has no report after 4 h."),
    params={
        "days": Param(7, type="integer", minimum=1, maximum=31, title="Days"),
        "end": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}$",
            title="Last day",
            description="UTC, e.g. 2026-01-22. Empty: the day before the run.",
        ),
        "refresh": Param(default=False, type="boolean", title="Read kept days again"),
    },
) as dag:
    audit = ValidationAudit(task_id="audit", execution_timeout=timedelta(hours=2), retries=1)
    read = ValidationRead(
        task_id="read",
        retries=4,
        retry_delay=timedelta(minutes=2),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=30),
    )
    report = ValidationReport(
        task_id="report", trigger_rule=TriggerRule.ALL_DONE, retries=1, outlets=[VALIDATION_REPORT]
    )
    verdict = ValidationVerdict(task_id="verdict", retries=0)
    [audit, read] >> report >> verdict
