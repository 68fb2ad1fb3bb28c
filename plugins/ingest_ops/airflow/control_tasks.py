"""What persons and the clock do beside a deployment's own run: roll back, stop, hold, resume, reconcile.

The words are those of the command line and of the agent.
"""

from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from ingest_ops.airflow.deployment_tasks import (
    AIRFLOW,
    EVIDENCE,
    CheckPlan,
    DeploymentTask,
    ReportLink,
    holder,
    mine,
    person,
    report_url,
)
from ingest_ops.deployment.state_machine import State

PARAMS = frozenset({"word"})
BY_HAND = "Ask both slots who writes, let one write and stop the other: *By hand* in `docs/how_to/deploy.md`."


class RollBackLink(ReportLink):
    """From a roll-back to the report of what it undid: its own, or the deployment's that was open."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address that the task's result names; before it has one, the roll-back's own."""
        pull = getattr(ti_key, "xcom_pull", None)
        found = pull(task_ids=ti_key.task_id) if pull is not None else None
        if isinstance(found, dict) and "deployment" in found:
            return report_url(str(found["deployment"]))
        return super().get_link(operator, ti_key=ti_key)


class RollBack(DeploymentTask):
    """For a person: undo the open deployment, or let the other colour write again."""

    operator_extra_links = (RollBackLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Do it, and say how long it took."""
        from ingest_ops.agent.slots import AgentRefusal
        from ingest_ops.deployment.commands.undoing import undo
        from ingest_ops.deployment.plan import BadPlan

        params = context["params"]
        if unknown := sorted(set(params) - {"version", "audit"}):
            raise AirflowFailException(f"conf: unknown: {', '.join(unknown)}; allowed are audit, version")
        with self.parts(context) as parts:
            try:
                record = undo(parts, self.name_of(context), version=params.get("version"), audit=bool(params["audit"]))
            except (BadPlan, AgentRefusal) as error:
                raise AirflowFailException(str(error)) from error
        if record.state not in (State.ROLLED_BACK, State.ABORTED):
            raise AirflowFailException(f"{record.id} is {record.state}: {record.facts.reason}")
        self.log.info("%s: %s in %s s", record.id, record.state, record.facts.roll_back_seconds)
        return {"deployment": record.id, "state": str(record.state), "seconds": record.facts.roll_back_seconds}


class ControlDeployment(DeploymentTask):
    """Record the request; the deployment's own tasks follow it within seconds."""

    operator_extra_links = (RollBackLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns which deployment it was, and what happens now."""
        from ingest_ops.deployment.commands.control import NotPossible, asked, effect

        params = context["params"]
        if unknown := sorted(set(params) - PARAMS):
            raise AirflowFailException(f"conf: unknown: {', '.join(unknown)}; allowed is word")
        by = person(context)
        with self.parts(context) as parts:
            try:
                record = asked(parts, str(params["word"]), by)
            except NotPossible as error:
                raise AirflowFailException(str(error)) from error
        said = effect(record, str(params["word"]), by)
        self.log.info("%s", said)
        return {"deployment": record.id, "state": str(record.state), "said": said}


def person_or_report(**context: Any) -> str:
    """Which task follows: a question to a person where a deployment could neither go on nor back."""
    from ingest_ops.deployment.journal import NoSuchDeployment
    from ingest_ops.deployment.report import evidence

    typed: Any = context
    task = CheckPlan(task_id="journal")
    with task.parts(typed) as parts:
        try:
            record = mine(parts.journal.read(task.name_of(typed)), typed)
        except (NoSuchDeployment, AirflowFailException):
            return "report"
    if record.state is not State.MANUAL:
        return "report"
    typed["ti"].xcom_push(key=EVIDENCE, value=f"{record.facts.reason}\n\n{BY_HAND}\n\n{evidence(record)}")
    return "person"


def run_ended(context: Context, owner: str) -> bool:
    """Whether a run that owns a deployment is over, or was deleted."""
    kind, _, rest = owner.partition(" ")
    dag_id, _, run_id = rest.partition(" ")
    if kind != AIRFLOW or not run_id:
        return False
    active: int = context["ti"].get_dr_count(dag_id, run_ids=[run_id], states=["queued", "running"])
    return active == 0


class Reconcile(DeploymentTask):
    """Take up the open deployment of a deployer that has not been heard of for a lease, and finish what is over."""

    def __init__(self, *, seconds: float = 45.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Context) -> str:
        """Go on with it for a while; the next run, in a minute, goes on further."""
        from ingest_ops.deployment import report
        from ingest_ops.deployment.journal import Leased
        from ingest_ops.deployment.settings import now
        from ingest_ops.deployment.versions import refresh

        with self.parts(context) as parts:
            deadline = now() + self.seconds
            for closed in parts.journal.latest(5):
                if closed.plan.shard != parts.shard:
                    continue
                if closed.finished and closed.holder is None and not report.is_final(parts.reports, closed):
                    parts.deployer.finish(closed.id)
            refresh(parts.reports, parts.agent)
            record = parts.journal.open_one()
            if record is None:
                return "nothing is open"
            if record.plan.shard != parts.shard:
                return f"{record.id} is of shard {record.plan.shard}: its own command, repeated, goes on with it"
            if run_ended(context, record.facts.owner) and record.undoable and not record.facts.cancelled_by:
                # The run was marked failed or deleted: the deployment must not go live without it.
                self.log.warning("the run of %s is over and the deployment is not: undoing it", record.id)
                record = parts.deployer.cancel(record.id, f"reconcile: its run is over ({record.facts.owner})")
            if record.holder is not None and record.lease_until > now():
                return f"{record.id}: {record.holder} works on it"
            if not record.facts.cancelled_by and now() - record.updated < parts.settings.lease_seconds:
                return f"{record.id}: it was worked on a moment ago"
            self.log.warning("%s stands at %s and no deployer works on it: resuming", record.id, record.state)
            try:
                record = parts.deployer.run(record.id, until=lambda _: False, deadline=deadline)
            except Leased as error:
                return str(error)
            if record.finished:
                parts.deployer.finish(record.id)
            elif record.state is State.APPROVAL:
                parts.journal.release(record, holder(context))
        return f"{record.id}: {record.state}"
