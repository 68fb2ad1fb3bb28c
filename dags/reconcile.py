"""Each minute: a deployment whose deployer has died is taken up where it stands, and a missing report is written."""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from ingest_ops.airflow.control_tasks import Reconcile

with DAG(
    "reconcile",
    schedule=CronTriggerTimetable("* * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    description=__doc__,
    doc_md=__doc__,
    tags=["k2", "deployment"],
    default_args={"owner": "k2"},
) as dag:
    Reconcile(
        task_id="reconcile", retries=1, retry_delay=timedelta(seconds=10), execution_timeout=timedelta(minutes=70)
    )
