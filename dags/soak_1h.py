"""One hour of watching the running service: daily, and after each deployment. A smoke test."""

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

from ingest_ops.airflow.assets import DEPLOYMENT
from ingest_ops.airflow.soak_dags import soak_dag

soak_dag(
    "soak_1h",
    plans=("1h", "3min"),
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 3 * * *", timezone="UTC"), assets=[DEPLOYMENT]),
    description=__doc__,
)
