"""For a person: undo the open deployment, or let the other colour write again. Measured."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from ingest_ops.airflow.control_tasks import RollBack

DOC = """
`airflow dags trigger roll_back`. With an open deployment, that one is undone by its deployer. Without one, the
other slot takes over: at once where it stands by, after a start (of `version`, or of what was live there last) where it
was stopped. The link *Deployment report* leads to the figures.
"""

with DAG(
    "roll_back",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    description=__doc__,
    doc_md=DOC,
    tags=["k2", "deployment"],
    default_args={"owner": "k2"},
    params={
        "version": Param(
            None,
            type=["null", "string"],
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            title="Version",
            description="What the other slot shall run, if it is stopped. Empty: what was live there last.",
        ),
        "audit": Param(default=True, type="boolean", title="Let the auditor look afterwards"),
    },
) as dag:
    # Not in the pool: a roll-back must not wait for a soak.
    RollBack(task_id="roll_back", retries=3, retry_delay=timedelta(seconds=2), execution_timeout=timedelta(minutes=70))
