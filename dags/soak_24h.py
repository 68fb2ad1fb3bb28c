"""A day of watching the running service, each week: no leak, no silence, nothing lost. 12 h can be asked for."""

from airflow.sdk import CronTriggerTimetable

from ingest_ops.airflow.soak_dags import soak_dag

soak_dag(
    "soak_24h",
    plans=("24h", "12h"),
    schedule=CronTriggerTimetable("0 6 * * 6", timezone="UTC"),
    description=__doc__,
)
