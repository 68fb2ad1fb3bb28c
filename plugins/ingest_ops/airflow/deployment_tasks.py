"""The tasks of the deployment DAGs. They drive the same machine as ``python -m ingest_ops deploy``; the truth is in the
journal, never in a task's state.
"""

import hashlib
import os
import re
import time
from collections.abc import Collection
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ingest_ops.deployment.state_machine import AFTER_HANDOVER, HOLD_POINTS, TERMINAL, UNDOING, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest_ops.deployment.journal import Record
    from ingest_ops.deployment.settings import DeployerContext

ORDER = (
    State.PLAN, State.BUILD, State.STANDBY, State.SHADOW, State.SHADOW_HELD, State.APPROVAL, State.HANDOVER,
    State.VALIDATE, State.VALIDATE_HELD, State.RETIRE, State.DONE,
)  # fmt: skip
"""The way forward: a task whose states lie behind has nothing left to do."""

WAITING = frozenset({State.SHADOW, State.SHADOW_HELD, *AFTER_HANDOVER})
"""States of minutes: waited for without a worker."""

DEFER_LIMIT = timedelta(hours=30)
AIRFLOW = "airflow"
EVIDENCE = "evidence"
"""XCom of the watch: the gates, for the person who approves."""
CLOCK_SECONDS = 60.0
"""Tolerance between the clocks of Airflow's database and of the journal."""
LEAST_WAIT_SECONDS = 20.0
"""Shorter waits are not worth a deferral."""
POOL = "ingest"
SOAKS = ("soak_1h", "soak_24h")
POOL_SECONDS = 300.0
"""For which the pool may not be given though no soak holds it: a scheduler that is busy, or starting."""
SCHEDULED_SECONDS = 60.0
"""For which Airflow may want to run ``acquire_pool`` and not find a slot for it, though no soak holds one."""
OPENING_SECONDS = 10.0
"""For which the wait for the deployment to be opened looks again in place."""


def deployment_name(dag_id: str, run_id: str) -> str:
    """The name of a run's deployment: at most 50 characters, and none that a path or a URL reads as something else."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run_id).strip("-.")
    prefix = "back" if "roll" in dag_id else "deploy"
    if len(name) > 42:
        name = f"{name[:31]}-{hashlib.sha256(run_id.encode()).hexdigest()[:10]}"
    return f"{prefix}-{name}"


def report_url(name: str) -> str:
    """Where the report page of the web interface shows it."""
    return f"/k2/reports/deployments/{name}.html"


class ReportLink(BaseOperatorLink):
    """From a task to its deployment's report."""

    name = "Deployment report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, from the run's own name."""
        del operator
        return report_url(deployment_name(ti_key.dag_id, ti_key.run_id))


class DeploymentTask(BaseOperator):
    """A task with the deployer, and a link to the report of its run's deployment."""

    operator_extra_links = (ReportLink(),)

    @staticmethod
    def name_of(context: Context) -> str:
        """The run's deployment."""
        run = context["dag_run"]
        return deployment_name(run.dag_id, run.run_id)

    @contextmanager
    def parts(self, context: Context) -> "Iterator[DeployerContext]":
        """The deployer with its parts. Wrong settings are not tried again."""
        from ingest.core.errors import BadSettings
        from ingest_ops.airflow.connections import BadConnection, environment
        from ingest_ops.deployment.settings import DeployerContext, load

        try:
            made = DeployerContext(load(environment()), holder(context))
        except (BadConnection, BadSettings) as error:
            raise AirflowFailException(str(error)) from error
        with made:
            yield made


def holder(context: Context) -> str:
    """Under which name a run holds the lease: the same for its tasks, their retries and its triggers."""
    return f"airflow:{deployment_name(context['dag_run'].dag_id, context['dag_run'].run_id)}"


class CheckPlan(DeploymentTask):
    """Refuse what cannot be deployed before anything is queued: unknown keys, bad versions, bad settings."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns the plan."""
        import msgspec

        with self.parts(context):
            return dict(msgspec.to_builtins(plan_of(context)))


def person(context: Context) -> str:
    """Who triggered the run."""
    run = context["dag_run"]
    who = getattr(run, "triggering_user_name", None) or "airflow"
    return f"{who} ({run.run_id})"[:128]


def owner(context: Context) -> str:
    """The run, as the journal names it."""
    run = context["dag_run"]
    return f"{AIRFLOW} {run.dag_id} {run.run_id}"


def begun(context: Context) -> float:
    """When the run came to be, seconds since 1970: a deployment of its name that is older is another run's."""
    at: float = context["dag_run"].run_after.timestamp()
    return at - CLOCK_SECONDS


def _started(context: Context) -> float:
    """When the run began, seconds since 1970: later than it came to be where another run had to end first."""
    run = context["dag_run"]
    return float((run.start_date or run.run_after).timestamp())


def mine(record: "Record", context: Context) -> "Record":
    """The record, if it is of this run and not of an earlier one with the same id."""
    if record.created < begun(context):
        raise AirflowFailException(
            f"{record.id} is an earlier deployment, of {record.plan.version}, in state {record.state}: "
            "trigger a run with another run id"
        )
    return record


def plan_of(context: Context) -> Any:
    """The run's plan, from its params. What cannot be used is not tried again."""
    from ingest_ops.deployment.plan import BadPlan, parse

    try:
        return parse({**context["params"], "requested_by": person(context)})
    except BadPlan as error:
        raise AirflowFailException(f"conf: {error}") from error


class AcquirePool(DeploymentTask):
    """Open the deployment, and hold the pool's only slot until it is over: no soak begins meanwhile."""

    def execute(self, context: Context) -> None:
        """Open it in the journal and defer."""
        from ingest_ops.airflow.deployment_trigger import DeploymentTrigger
        from ingest_ops.deployment.journal import AlreadyOpen, IdTaken

        with self.parts(context) as parts:
            try:
                record = parts.deployer.open(
                    self.name_of(context), plan_of(context), owner=owner(context), not_before=begun(context)
                )
            except (AlreadyOpen, IdTaken) as error:
                raise AirflowFailException(str(error)) from error
        if not record.finished:
            self.defer(
                trigger=DeploymentTrigger(record.id, holder(context), finished=True),
                method_name="over",
                timeout=DEFER_LIMIT,
            )

    def over(self, context: Context, event: dict[str, Any]) -> None:
        """A deferral must name where it goes on; the trigger ends the task before that."""
        del context, event


class DeploymentOpened(BaseSensorOperator):
    """Wait until the run's deployment is in the journal, which takes as long as a soak is running.

    Looks again should be far apart: an executor may take ten seconds to say that a task is over, and one that is queued
    again by then is marked failed (apache/airflow #72716, #71580), which its retries mend.
    """

    def poke(self, context: Context) -> bool:
        """Look for a few seconds: usually the deployment is being opened at this moment."""
        deadline = time.monotonic() + OPENING_SECONDS
        while not (found := self._look(context)) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not found:
            self._explain(context)
        return found

    def _explain(self, context: Context) -> None:
        """Log which soak holds the pool. Fails if none does and the pool has not been given for minutes."""
        from ingest_ops.airflow.waiting import announce
        from ingest_ops.deployment.settings import load, now

        holders = [dag for dag in SOAKS if context["ti"].get_dr_count(dag, states=["running"])]
        if holders:
            reports = Path(load(os.environ).reports)
            announce(reports, DeploymentTask.name_of(context), now())
            self.log.info(
                "waiting for the pool `%s`, which %s holds%s: one that follows a deployment makes way within a minute; "
                "of another wait for the end, or mark its run failed",
                POOL, " and ".join(holders), _until(reports, now()),
            )  # fmt: skip
        elif (waited := now() - _started(context)) > POOL_SECONDS or (
            waited > SCHEDULED_SECONDS and self._has_no_slot(context)
        ):
            raise AirflowFailException(
                f"the pool `{POOL}` was not given within {waited:.0f} s and no soak is running. Does it exist? "
                f"airflow pools set {POOL} 1 'one deployment or soak at a time' --include-deferred"
            )

    @staticmethod
    def _has_no_slot(context: Context) -> bool:
        """Whether Airflow has decided to run ``acquire_pool`` and its pool is full, or is none: else it were queued."""
        run = context["dag_run"]
        found = context["ti"].get_task_states(run.dag_id, task_ids=["acquire_pool"], run_ids=[run.run_id])
        return dict(found.get(run.run_id, {})).get("acquire_pool") == "scheduled"

    @staticmethod
    def _look(context: Context) -> bool:
        from ingest_ops.deployment.journal import Journal, NoSuchDeployment
        from ingest_ops.deployment.settings import load, now

        name = DeploymentTask.name_of(context)
        with closing(Journal(load(os.environ).journal_url, now)) as journal:
            try:
                mine(journal.read(name), context)
            except NoSuchDeployment:
                other = journal.open_one()
                if other is not None:
                    raise AirflowFailException(f"{other.id} is open: wait for it, or undo it") from None
                return False
        return True


def _until(reports: Path, now: float) -> str:
    """When the soak that runs will be over, in words; empty where that is not known."""
    from ingest_ops.soak.record import BadRecord, Record, State

    ends: list[float] = []
    for path in (reports / "soak" / "records").glob("*.json"):
        try:
            record = Record.load(path)
        except BadRecord:
            continue
        if record is not None and record.state is State.RUNNING and record.started + record.plan.run_seconds > now:
            ends.append(record.started + record.plan.run_seconds)
    return f" until {datetime.fromtimestamp(max(ends), UTC):%Y-%m-%d %H:%M} UTC" if ends else ""


class Advance(DeploymentTask):
    """Take the deployment through ``states``: returns where it stands. Fails with the reason where it goes back.

    ``undo``: take it back instead, whatever it was doing.
    """

    def __init__(self, *, states: Collection[str] = (), undo: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.states = sorted(str(state) for state in states)
        self.undo = undo

    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """A wait is over: look again."""
        del event
        return self.execute(context)

    def execute(self, context: Context) -> str:
        """StepResult until the states are behind, deferring the long waits."""
        states = {State(state) for state in self.states}
        with self.parts(context) as parts:
            name = self.name_of(context)
            if self.undo:
                return self._undo(context, parts, name)
            mine(parts.journal.read(name), context)
            self._approved(context, parts, name)
            record = self._run(context, parts, name, states)
            if record.state is State.APPROVAL:
                from ingest_ops.deployment.report import evidence

                context["ti"].xcom_push(key=EVIDENCE, value=evidence(record))
            if record.state in UNDOING:
                # At once, here: the next task is seconds away, and there may be no writer.
                record = self._run(context, parts, name, set(UNDOING))
        facts = record.facts
        if record.state in TERMINAL and record.state is not State.DONE:
            raise AirflowFailException(f"{record.state}: {facts.failed_in}: {facts.reason}")
        if ORDER.index(record.state) <= max(ORDER.index(state) for state in states):
            raise AirflowException(f"{name} stands at {record.state}: nothing to do here yet")
        return str(record.state)

    def _run(self, context: Context, parts: "DeployerContext", name: str, mine: set[State]) -> "Record":
        from ingest_ops.airflow.deployment_trigger import DeploymentTrigger
        from ingest_ops.deployment.journal import Leased

        while True:
            record = parts.journal.read(name)
            if record.finished or record.state not in mine:
                return record
            waits = record.state in WAITING or (record.facts.held_by and record.state in HOLD_POINTS)
            if waits and not record.facts.cancelled_by and not self._soon(parts, record):
                self.defer(trigger=DeploymentTrigger(name, holder(context)), method_name="resume", timeout=DEFER_LIMIT)
            try:
                _, wait = parts.deployer.advance(name)
            except Leased as error:
                self.log.info("%s: waiting for it", error)
                wait = 2.0
            if wait > 0:
                time.sleep(wait)

    @staticmethod
    def _soon(parts: "DeployerContext", record: "Record") -> bool:
        """Whether there is something to do, or will be within seconds."""
        from ingest_ops.deployment.journal import Leased
        from ingest_ops.deployment.settings import now

        plan, facts = record.plan, record.facts
        seconds = {
            State.SHADOW: plan.watch_seconds,
            State.VALIDATE: plan.grace_seconds + plan.validate_seconds,
        }.get(record.state, plan.hold_seconds)
        start = facts.window_start if facts.window_start is not None else facts.entered
        if record.state in WAITING and start + seconds - now() < LEAST_WAIT_SECONDS:
            return True
        try:
            return parts.deployer.due(record.id)
        except Leased:
            return False

    def _approved(self, context: Context, parts: "DeployerContext", name: str) -> None:
        """The approval task is over and this one runs: a person agreed."""
        record = parts.journal.read(name)
        if State.APPROVAL not in {State(state) for state in self.states} or not record.plan.approval:
            return
        if record.state is State.APPROVAL and not record.facts.decision:
            answer = context["ti"].xcom_pull(task_ids="approve") or {}
            by = answer.get("responded_by_user") or {}
            parts.deployer.decide(name, "approved", str(by.get("name") or by.get("id") or "a user of Airflow"))

    def _undo(self, context: Context, parts: "DeployerContext", name: str) -> str:
        from ingest_ops.deployment.journal import NoSuchDeployment

        try:
            record = mine(parts.journal.read(name), context)
        except (NoSuchDeployment, AirflowFailException):
            return "nothing was begun"
        if record.state is State.APPROVAL and record.plan.approval:
            parts.deployer.decide(name, "rejected", "a user of Airflow, or by not answering in time")
        elif record.undoable:
            parts.deployer.cancel(name)
        record = self._run(context, parts, name, set(State) - TERMINAL)
        if record.state is State.MANUAL:
            raise AirflowFailException(f"a person must look: {record.facts.reason}")
        return str(record.state)


class Report(DeploymentTask):
    """Runs the audit if there was none and writes the report; fails unless the version went live."""

    def execute(self, context: Context) -> str:
        """Write it."""
        from ingest_ops.deployment.journal import NoSuchDeployment

        with self.parts(context) as parts:
            try:
                mine(parts.journal.read(self.name_of(context)), context)
                record = parts.deployer.finish(self.name_of(context))
            except NoSuchDeployment as error:
                raise AirflowFailException("nothing was begun: see the task check") from error
        if not record.finished:
            raise AirflowException(f"{record.id} is still open, in state {record.state}")
        if record.state is not State.DONE:
            raise AirflowFailException(f"{record.state}: {record.facts.failed_in}: {record.facts.reason}")
        return report_url(record.id)
