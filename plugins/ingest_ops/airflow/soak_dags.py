"""The shape that both soak DAGs share: watch, audit, report, verdict; in the pool that keeps deployments out."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from ingest_ops.airflow.assets import SOAK_REPORT
from ingest_ops.airflow.notifier import WebhookNotifier, late
from ingest_ops.airflow.soak_tasks import SoakAudit, SoakReport, SoakVerdict, SoakWatch

POOL = "ingest"
"""One slot, deferred tasks counted: a deployment and a soak never change and judge the same service at once."""

DOC = """
Watches the **running** service through Prometheus; nothing is started or stopped. The wait is deferred and survives the
death of scheduler, triggerer and worker. Memory above the limit, a restart, too many dropped connections or too many
missing samples end it at once, with the reason. The last task fails unless the verdict is PASS; the link *Soak report*
of every task leads to the report.

By hand: *Trigger*, with the form. `trial_seconds` cuts the run for a look: a trial is INCONCLUSIVE by design.
"""


def soak_dag(dag_id: str, *, plans: Sequence[str], schedule: Any, description: str | None) -> DAG:
    """One of the two DAGs; the first of ``plans`` is what the schedule runs."""
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        description=description,
        doc_md=DOC,
        tags=["k2", "soak"],
        on_failure_callback=WebhookNotifier(text=f"{dag_id}: the verdict is not PASS."),
        deadline=late(30, f"{dag_id}: no report after 30 h."),
        default_args={
            "pool": POOL,
            "retries": 3,
            "retry_delay": timedelta(seconds=15),
            "owner": "k2",
        },
        params={
            "plan": Param(plans[0], type="string", enum=list(plans), title="Plan"),
            # The form takes a parameter that cannot be null for a required one.
            "selector": Param(
                None,
                type=["null", "string"],
                pattern=r'^([a-zA-Z_]\w*="[^"\\{}]*"(,[a-zA-Z_]\w*="[^"\\{}]*")*)?$',
                title="Instance",
                description='Labels of the one instance, e.g. job="ingest",slot="green". Empty: the configured ones.',
            ),
            "previous_selector": Param(
                None,
                type=["null", "string"],
                pattern=r'^[a-zA-Z_]\w*="[^"\\{}]*"(,[a-zA-Z_]\w*="[^"\\{}]*")*$',
                title="Previous release",
                description="Labels of the previous release, where it runs beside on the same feed.",
            ),
            "trial_seconds": Param(
                None,
                type=["null", "number"],
                minimum=60,
                maximum=86_400,
                title="Trial, seconds",
                description="Cuts the run short. Never a PASS.",
            ),
        },
    ) as made:
        watch = SoakWatch(task_id="watch")
        audit = SoakAudit(task_id="audit", job=watch.output)
        report = SoakReport(task_id="report", job=watch.output, figures=audit.output, outlets=[SOAK_REPORT])
        verdict = SoakVerdict(task_id="verdict", found=report.output, retries=0)
        watch >> audit >> report >> verdict
    return made
