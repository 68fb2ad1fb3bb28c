"""For a person: stop, hold or resume the open deployment."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from ingest_ops.airflow.control_tasks import ControlDeployment

DOC = """
*hold*: it goes no further than the next decisive step: before the hand-over, or, where the new version writes already,
before the old slot is stopped. What fails meanwhile is undone as always. After a day without *resume* it is undone.
*stop*: it is undone now. The same words are commands, `python -m ingest_ops hold`, and requests to the agent. The
journal says who asked; the link *Deployment report* shows it.
"""

with DAG(
    "control_deployment",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    description=__doc__,
    doc_md=DOC,
    tags=["k2", "deployment"],
    default_args={"owner": "k2"},
    params={
        "word": Param(
            "hold",
            type="string",
            enum=["hold", "resume", "stop"],
            values_display={
                "hold": "hold: no further than the next decisive step",
                "resume": "resume: go on",
                "stop": "stop: undo it now",
            },
            title="What the open deployment shall do",
        ),
    },
) as dag:
    ControlDeployment(
        task_id="control", retries=2, retry_delay=timedelta(seconds=2), execution_timeout=timedelta(minutes=2)
    )
