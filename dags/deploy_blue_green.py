"""Put a version live: green proves itself beside blue, takes over in under a second, and is taken back by itself."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG, TriggerRule

from ingest_ops.airflow.approval import Approval
from ingest_ops.airflow.assets import DEPLOYMENT
from ingest_ops.airflow.control_tasks import person_or_report
from ingest_ops.airflow.deployment_form import form
from ingest_ops.airflow.deployment_tasks import AcquirePool, Advance, CheckPlan, DeploymentOpened, Report
from ingest_ops.airflow.notifier import WebhookNotifier, late
from ingest_ops.deployment.state_machine import State

DOC = """
`airflow dags trigger deploy_blue_green --conf '{"version": "v2.0-stable"}'`, or *Trigger* with the form.

The steps are those of the machine in `ingest_ops.deployment`; where it stands is in its journal, not here: a task that
is run again looks first and does only what is missing. Whatever fails before the cut-over stops the candidate;
whatever fails after it rolls back. *report* is red unless the version is live; the link *Deployment report* leads to
the time line, every gate with its query and samples, the hand-over and the audit. By hand: `roll_back`.
"""

with DAG(
    "deploy_blue_green",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    description=__doc__,
    doc_md=DOC,
    tags=["k2", "deployment"],
    render_template_as_native_obj=True,
    on_failure_callback=WebhookNotifier(text="{{ params.version }} is not live."),
    deadline=late(2, "A deployment is open after 2 h: it waits for an answer, is held, or is stuck."),
    default_args={"owner": "k2", "retries": 3, "retry_delay": timedelta(seconds=5)},
    params=form(),
) as dag:
    check = CheckPlan(task_id="check", retries=0)
    acquire_pool = AcquirePool(task_id="acquire_pool", pool="ingest")
    # As long as a soak holds the pool's slot there is no deployment to advance.
    wait_for_open_deployment = DeploymentOpened(
        task_id="wait_for_open_deployment", mode="reschedule", poke_interval=30, timeout=26 * 3600
    )
    build = Advance(task_id="build", states=[State.PLAN, State.BUILD], execution_timeout=timedelta(minutes=7))
    start_green = Advance(task_id="start_green", states=[State.STANDBY], execution_timeout=timedelta(minutes=4))
    watch = Advance(task_id="watch", states=[State.SHADOW, State.SHADOW_HELD])

    need_approval = BranchPythonOperator(
        task_id="need_approval", python_callable=lambda params: "approve" if params["approval"] else "cut_over"
    )
    approve = Approval(
        task_id="approve",
        subject="Let {{ params.version }} take over?",
        body="{{ ti.xcom_pull(task_ids='watch', key='evidence') }}",
        response_timeout=timedelta(hours=24),
        notifiers=[WebhookNotifier(text="Let {{ params.version }} take over? The question is under Required Actions.")],
        retries=1,
    )
    cut_over = Advance(
        task_id="cut_over",
        states=[State.APPROVAL, State.HANDOVER],
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        execution_timeout=timedelta(minutes=5),
    )
    validate = Advance(task_id="validate", states=[State.VALIDATE, State.VALIDATE_HELD])
    retire_blue = Advance(
        task_id="retire_blue",
        states=[State.RETIRE],
        execution_timeout=timedelta(minutes=4),
        outlets=[DEPLOYMENT],
    )
    roll_back = Advance(
        task_id="roll_back", undo=True, trigger_rule=TriggerRule.ONE_FAILED, execution_timeout=timedelta(minutes=10)
    )
    need_person = BranchPythonOperator(
        task_id="need_person", python_callable=person_or_report, trigger_rule=TriggerRule.ALL_DONE
    )
    person = HITLOperator(
        task_id="person",
        subject="{{ params.version }}: neither forward nor back. Which slot writes?",
        body="{{ ti.xcom_pull(task_ids='need_person', key='evidence') }}",
        options=["Looked after"],
        response_timeout=timedelta(hours=24),
        notifiers=[WebhookNotifier(text="{{ params.version }}: a person must look, see Required Actions.")],
    )
    report = Report(task_id="report", trigger_rule=TriggerRule.ALL_DONE, retries=2)

    check >> [acquire_pool, wait_for_open_deployment]
    wait_for_open_deployment >> build >> start_green >> watch >> need_approval >> [approve, cut_over]
    approve >> cut_over >> validate >> retire_blue
    # Direct parents only: a failed task further upstream does not fire the rule. The branch would skip it.
    [
        acquire_pool,
        wait_for_open_deployment,
        build,
        start_green,
        watch,
        approve,
        cut_over,
        validate,
        retire_blue,
    ] >> roll_back
    [retire_blue, roll_back, acquire_pool] >> need_person >> [person, report]
    person >> report
