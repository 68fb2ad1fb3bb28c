"""The deployer: reads the journal, takes the lease, does one step, writes down what it found. And again."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.deployment_state import DeploymentState
from ingest_ops.deployment.gate_windows import StepResult
from ingest_ops.deployment.journal import LEASE_SECONDS, Journal, JournalError, OtherShard, Record, Stale, Unreachable
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.state_machine import HELD, UNDOING, Event, State, transition
from ingest_ops.deployment.steps import Steps

log = logging.getLogger(__name__)

UNREACHABLE_SECONDS = 300.0
"""How long a run waits for its journal."""

KEEP_REASON = frozenset({Event.DONE, Event.RETRY})
"""Events that do not overwrite why a deployment failed or is held."""


class Deployer:
    """Advances deployments of one shard, or of the only one.

    ``actor`` holds the lease: each deployer needs a name of its own.
    """

    def __init__(
        self,
        journal: Journal,
        steps: Steps,
        *,
        trail: Callable[[str], AuditTrail],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        actor: str,
        shard: str = "",
        lease_seconds: float = LEASE_SECONDS,
        audit: Callable[[Record], AuditResult] | None = None,
        finished: Callable[[Record, AuditTrail], None] = lambda _record, _trail: None,
        moved: Callable[[Record, AuditTrail], None] = lambda _record, _trail: None,
    ) -> None:
        self.journal = journal
        self._steps = steps
        self._trail = trail
        self._clock = clock
        self._sleep = sleep
        self._actor = actor
        self._shard = shard
        self._lease_seconds = lease_seconds
        self._audit = audit
        self._finished = finished
        self._moved = moved

    def open(self, deployment_id: str, plan: Plan, *, owner: str = "", not_before: float | None = None) -> Record:
        """Begin a deployment, or find it. Raises ``AlreadyOpen``, ``IdTaken``."""
        facts = DeploymentState(owner=owner)
        record = self.journal.create(deployment_id, plan, facts=facts, not_before=not_before)
        if record.revision == 1 and record.state is State.PLAN:
            self._note(record, "opened", {"plan": msgspec.to_builtins(plan), "owner": owner})
            self._moved(record, self._trail(record.id))
        return record

    def open_roll_back(self, deployment_id: str, plan: Plan, *, live: str, live_version: str, candidate: str) -> Record:
        """Begin a roll-back of its own: ``live`` shall write in place of ``candidate``."""
        record = self.journal.create(deployment_id, plan, kind="roll-back", state=State.ROLLING_BACK)
        if record.facts.live:
            return record
        by = plan.requested_by or self._actor
        self._note(record, "opened", {"roll-back to": live, "version": live_version, "from": candidate, "by": by})
        facts = record.facts.with_(live=live, live_version=live_version, candidate=candidate)
        return self.journal.change(record, facts=facts.with_(reason=f"requested by {by}"))

    def advance(self, deployment_id: str) -> tuple[Record, float]:
        """Do one step. Returns the record, and the seconds until the next look is due.

        Raises ``Leased`` while another deployer works on it, ``OtherShard``. If the record was changed
        meanwhile, the step is taken again.
        """
        record = self.read_own(deployment_id)
        if record.finished:
            return record, 0.0
        forgotten = record.lease_until <= self._clock()
        record = self._lease(record)
        try:
            if forgotten:
                record = self._resumed(record)
            record = self._requested(record)
            with self._heart(record):
                return self._advance(record)
        except Stale:
            return self.journal.read(deployment_id), 0.0

    def read_own(self, deployment_id: str) -> Record:
        """The record. Raises ``OtherShard`` where this deployer's agent and slots are those of another shard."""
        return self.own(self.journal.read(deployment_id))

    def own(self, record: Record) -> Record:
        """The same record. Raises ``OtherShard``."""
        if record.plan.shard != self._shard:
            raise OtherShard(
                f"{record.id} is of {_shard(record.plan.shard)}, this command works on {_shard(self._shard)}: "
                "choose it with --shard, and K2_DEPLOY_FLEET_FILE names the shards"
            )
        return record

    def _requested(self, record: Record) -> Record:
        """Take over what a person asked of the agent."""
        request = self._steps.request(record) if record.kind == "deploy" else None
        if request is None:
            return record
        by = f"{request.by}, by the agent"
        facts = self._changes(request.word, by)(record.facts).with_(agent_request=request.id)
        changed = self.journal.change(record, facts=facts)
        self._note(changed, request.word, {"by": by, "reason": f"by {by}"})
        self._moved(changed, self._trail(record.id))
        return changed

    def _lease(self, record: Record) -> Record:
        if record.holder == self._actor and record.lease_until - self._clock() > self._lease_seconds / 2:
            return record  # renewed often enough: not a write for each look
        return self.journal.lease(record, self._actor, self._lease_seconds)

    def _resumed(self, record: Record) -> Record:
        """Time without a deployer does not count against the step's limit. A person's time to decide continues."""
        silent = self._clock() - record.facts.entered
        if record.state is State.APPROVAL or silent < self._lease_seconds:
            return record
        self._note(record, "taken up again", {"reason": f"in {record.state}, which was entered {silent:.0f} s ago"})
        return self.journal.change(record, facts=record.facts.with_(resumed=self._clock()))

    @contextmanager
    def _heart(self, record: Record) -> Iterator[None]:
        """Keep the lease while a step takes its time (a promotion, an audit); a frozen process loses it."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._lease_seconds / 3):
                try:
                    self.journal.lease(record, self._actor, self._lease_seconds)
                except JournalError as error:
                    log.warning("the lease on %s is lost: %s", record.id, error)
                    return

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _advance(self, record: Record) -> tuple[Record, float]:
        by = record.facts.cancelled_by
        if by and record.undoable:
            step = StepResult(facts=record.facts, event=Event.CANCELLED, reason=f"undone by {by}")
        else:
            step = self._steps.step(record)
        if step.event is not None:
            return self._move(record, step.event, step), 0.0
        if step.facts == record.facts:
            return record, step.wait
        self._note(record, "intent" if step.wait == 0.0 else "noted", {"reason": step.reason, **_figures(step.facts)})
        return self.journal.change(record, facts=step.facts), step.wait

    def _move(self, record: Record, event: Event, step: StepResult) -> Record:
        state = transition(record.state, event)
        data: dict[str, Any] = {"event": str(event), "reason": step.reason, **_figures(step.facts)}
        results = step.facts.results.get(str(record.state))
        if results is not None and results != record.facts.results.get(str(record.state)):
            data["gates"] = [msgspec.to_builtins(one) for one in results]
        self._note(record, f"{record.state} -> {state}", data)
        log.info("deployment %s: %s -> %s (%s)", record.id, record.state, state, step.reason)
        facts = step.facts.with_(entered=self._clock(), resumed=None)
        if event is not Event.RETRY:
            facts = facts.with_(window_start=None)
        if state not in HELD and event is not Event.RETRY:
            facts = facts.with_(holds=0)
        if event not in KEEP_REASON:
            facts = facts.with_(reason=step.reason, failed_in=str(record.state))
        elif record.state not in UNDOING:
            facts = facts.with_(reason="", failed_in="")
        changed = self.journal.change(record, state=state, facts=facts)
        self._moved(changed, self._trail(record.id))
        return changed

    def due(self, deployment_id: str) -> bool:
        """Whether there is something to do, for a trigger: only looks, and keeps the lease alive."""
        record = self.read_own(deployment_id)
        if record.finished or record.facts.cancelled_by:
            return True
        return self._steps.due(self._lease(record))

    def run(self, deployment_id: str, *, until: Callable[[Record], bool], deadline: float | None = None) -> Record:
        """StepResult until ``until`` holds, the end, or ``deadline`` (seconds since 1970). Raises ``Leased``."""
        silent_since: float | None = None
        while True:
            try:
                record, wait = self.advance(deployment_id)
            except Unreachable:
                # Nothing is decided without the journal; but a locked or restarting database is worth a wait.
                silent_since = self._clock() if silent_since is None else silent_since
                if self._clock() - silent_since > UNREACHABLE_SECONDS:
                    raise
                self._sleep(1.0)
                continue
            silent_since = None
            if record.finished or until(record):
                return record
            if deadline is not None and self._clock() >= deadline:
                return record
            if wait > 0:
                self._sleep(wait)

    def finish(self, deployment_id: str) -> Record:
        """After the end: run the audit if there was none, and write the report. Can be repeated."""
        record = self.read_own(deployment_id)
        if not record.finished:
            return record
        if self._audit and record.plan.audit is not False and record.facts.live and record.facts.audit is None:
            result = self._audit(record)
            self._note(record, "audit", result.as_json())
            try:
                record = self.journal.change(record, facts=record.facts.with_(audit=result.as_json()))
            except Stale:
                record = self.journal.read(deployment_id)
        self._finished(record, self._trail(record.id))
        self.journal.release(record, self._actor)
        return record

    def cancel(self, deployment_id: str, by: str = "") -> Record:
        """Stop it: request that it is undone. Never raises ``Leased``: recording a request needs no lease."""
        return self.control(deployment_id, "stop", by)

    def control(self, deployment_id: str, word: str, by: str = "") -> Record:
        """``stop``, ``hold`` or ``resume`` it: the request is recorded; the deployer follows it."""
        who = by or self._actor
        record = self._request(deployment_id, word, self._changes(word, who), by=who)
        if not record.finished:
            self._moved(record, self._trail(record.id))
        return record

    def _changes(self, word: str, by: str) -> Callable[[DeploymentState], DeploymentState]:
        """What a request changes. A hold and its end restart the limit of the state."""
        now = self._clock()
        changes: dict[str, dict[str, Any]] = {
            "stop": {"cancelled_by": by},
            "hold": {"held_by": by, "resumed": now},
            "resume": {"held_by": "", "resumed": now},
        }
        return lambda facts: facts.with_(**changes[word])

    def decide(self, deployment_id: str, decision: str, by: str) -> Record:
        """Record a person's decision: ``approved`` or ``rejected``."""
        return self._request(
            deployment_id, decision, lambda facts: facts.with_(decision=decision, decided_by=by), by=by
        )

    def _request(
        self, deployment_id: str, what: str, change: Callable[[DeploymentState], DeploymentState], *, by: str
    ) -> Record:
        while True:
            record = self.journal.read(deployment_id)
            if record.finished:
                return record
            try:
                changed = self.journal.change(record, facts=change(record.facts))
            except Stale:
                continue
            self._note(changed, what, {"by": by, "reason": f"by {by}"})
            return changed

    def _note(self, record: Record, what: str, data: dict[str, Any]) -> None:
        self._trail(record.id).append(self._clock(), self._actor, what, {"revision": record.revision, **data})


def _shard(name: str) -> str:
    return f"shard {name}" if name else "the only shard"


def _figures(facts: DeploymentState) -> dict[str, Any]:
    names = (
        "handover_call_seconds", "handover_seconds", "gap_seconds", "new_generation", "roll_back_seconds",
        "roll_back_gap_seconds",
    )  # fmt: skip
    return {name: value for name in names if (value := getattr(facts, name)) is not None}
