"""Each day: the finished UTC day of the topic becomes a certified partition of the Iceberg table."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronPartitionTimetable, Param

from ingest_ops.airflow.archive_tasks import ArchiveDay, ArchiveDays
from ingest_ops.airflow.assets import ARCHIVE_DAY, DAY_KEY
from ingest_ops.airflow.notifier import WebhookNotifier, late

DOC = """
Archives the day that has just ended (UTC): `python -m ingest_ops archive day`, with the settings `K2_ARCHIVE_...` of
the worker's environment. A day is green if its certificate says PASS. INCONCLUSIVE is tried again every two hours,
because the exchange publishes its daily files hours after midnight; FAIL is not tried again.

A run's partition is the UTC day before the run. The asset `k2_archive_day` is updated when the day is certified, so
that a consumer's DAG can wait for it. For older days: *Trigger* with the form, one mapped task a day; or `airflow
backfill create --dag-id daily_archive --from-date 2026-01-20 --to-date 2026-01-23`, which archives the 19th to the
22nd. A second run for the same day changes nothing. The topic must still hold the day.
"""

with DAG(
    "daily_archive",
    # Half an hour past midnight: quiet symbols have had their grace of ten minutes.
    schedule=CronPartitionTimetable("30 0 * * *", timezone="UTC", run_offset=-1, key_format=DAY_KEY),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    description=__doc__,
    doc_md=DOC,
    tags=["k2", "archive"],
    default_args={"owner": "k2"},
    on_failure_callback=WebhookNotifier(text="The archive of {{ dag_run.partition_key }} is not certified."),
    deadline=late(11.5, "A day of the archive is not certified by noon."),
    params={
        name: Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}$",
            title=title,
            description="UTC, e.g. 2026-01-22. Empty: the day before the run.",
        )
        for name, title in (("first", "First day"), ("last", "Last day"))
    },
) as dag:
    days = ArchiveDays(task_id="days", retries=0, execution_timeout=timedelta(minutes=5))
    archive = ArchiveDay.partial(
        task_id="archive",
        retries=36,
        retry_delay=timedelta(hours=2),
        execution_timeout=timedelta(hours=12),
        max_active_tis_per_dag=1,
        outlets=[ARCHIVE_DAY],
    ).expand(day=days.output)
