"""Put a version live: green proves itself beside blue, takes over in under a second, and is taken back by itself."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG, Asset, Param, TriggerRule

from ingest_ops.deployment.state_machine import State
from ingest_ops.deployment.tasks import AcquirePool, Advance, CheckPlan, DeploymentOpened, Report

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
    default_args={"owner": "k2", "retries": 3, "retry_delay": timedelta(seconds=5)},
    params={
        "version": Param(
            type="string",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            title="Version",
            description="A tag of the image, e.g. v2.0-stable: letters, digits and . _ -, at most 64 of them.",
        ),
        "watch_minutes": Param(10.0, type="number", exclusiveMinimum=0, maximum=1440, title="Watch, minutes"),
        "validate_minutes": Param(15.0, type="number", exclusiveMinimum=0, maximum=1440, title="Validate, minutes"),
        "approval": Param(default=False, type="boolean", title="A person must approve the cut-over"),
        "audit": Param(
            "auto",
            enum=["auto", "yes", "no"],
            title="Audit",
            description="auto: where an auditor is configured. yes: refuse to deploy without one.",
        ),
        "min_rate": Param(10.0, type="number", minimum=0, title="Least messages per second"),
        "max_memory_mb": Param(400.0, type="number", exclusiveMinimum=0, title="Memory below, MB"),
        "min_compared": Param(6000, type="integer", minimum=1, title="Least records compared in the shadow"),
        "min_coverage": Param(0.95, type="number", exclusiveMinimum=0, maximum=1, title="Least share of samples"),
        "hold_minutes": Param(5.0, type="number", exclusiveMinimum=0, title="Wait where data is missing, minutes"),
        "holds": Param(2, type="integer", minimum=0, maximum=10, title="How often to wait"),
        "grace_seconds": Param(30.0, type="number", minimum=0, maximum=300, title="After the cut-over, seconds"),
        "max_growth_mb": Param(8.0, type="number", exclusiveMinimum=0, title="Memory growth in a window, MB"),
        "max_gap_seconds": Param(
            30.0, type="number", exclusiveMinimum=0, title="Trades missing at the end for at most, seconds"
        ),
        "compare_after": Param(
            default=True,
            type="boolean",
            title="The predecessor compares what the new version commits",
            description="Off only where the predecessor is of a version that cannot.",
        ),
        "scrape_seconds": Param(15.0, type="number", minimum=0.1, maximum=60, title="Scrape interval, seconds"),
    },
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
    approve = ApprovalOperator(
        task_id="approve",
        subject="Let {{ params.version }} take over?",
        body="{{ ti.xcom_pull(task_ids='watch', key='evidence') }}",
        fail_on_reject=True,
        response_timeout=timedelta(hours=24),
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
        outlets=[Asset("k2_deployment")],
    )
    roll_back = Advance(
        task_id="roll_back", undo=True, trigger_rule=TriggerRule.ONE_FAILED, execution_timeout=timedelta(minutes=10)
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
    [retire_blue, roll_back, acquire_pool] >> report
