"""What is done in each state. Every step looks first, then does what is missing, and can be repeated at any point.

A step changes nothing in the journal: it returns what it found. Where it is about to do something that must not be
forgotten (hand over, go back), it first returns the intent, which is journalled, and acts when called again.
"""

import math
from collections.abc import Callable

from ingest_ops.agent.slots import SLOTS, AgentRefusal, AgentTrouble, ControlRequest, SlotStatus
from ingest_ops.deployment.control import ControlRefusal, ControlTrouble, ServiceStatus
from ingest_ops.deployment.deployment_state import DeploymentState
from ingest_ops.deployment.gate_inputs import slot_matchers
from ingest_ops.deployment.gate_windows import LOOK_SECONDS, GateWindows, Ports, StepResult, ended
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.prometheus import NoAnswer
from ingest_ops.deployment.state_machine import Event, State

PLAN_SECONDS = 30.0
RETIRE_SECONDS = 90.0
REQUEST_SECONDS = 2.0
"""How often the agent is asked for a person's request."""
COMPARE_SECONDS = 15.0
"""For which the hand-over waits until the predecessor compares what the candidate commits."""


class Steps:
    """One step for each state of a deployment."""

    def __init__(self, ports: Ports) -> None:
        self._agent, self._control, self._queries, self._clock, self._audit = ports
        self._asked = -math.inf
        self._windows = GateWindows(ports)
        self._steps: dict[State, Callable[[Record], StepResult]] = {
            State.PLAN: self._plan,
            State.BUILD: self._build,
            State.STANDBY: self._standby,
            State.SHADOW: self._windows.watched,
            State.SHADOW_HELD: self._windows.held,
            State.APPROVAL: self._approval,
            State.HANDOVER: self._handover,
            State.VALIDATE: self._windows.watched,
            State.VALIDATE_HELD: self._windows.held,
            State.RETIRE: self._retire,
            State.ABORTING: self._restore,
            State.ROLLING_BACK: self._restore,
        }

    def step(self, record: Record) -> StepResult:
        """Do what the record's state asks for. An agent or a slot that does not answer costs time, not a verdict."""
        return self._steps[record.state](record)

    def due(self, record: Record) -> bool:
        """Whether a waiting state has something to do: a look without a deed, for a trigger."""
        if self.request(record) is not None:
            return True
        if record.state in (State.SHADOW, State.VALIDATE):
            return self._windows.due(record)
        if record.state is State.RETIRE:  # its step has a deed
            return not record.facts.held_by or self._held(record).event is not None
        return self.step(record).event is not None

    def request(self, record: Record) -> ControlRequest | None:
        """What a person asked of the agent since the deployment began, unless it was taken; asked every two seconds."""
        now = self._clock()
        if now - self._asked < REQUEST_SECONDS:
            return None
        self._asked = now
        try:
            found = self._agent.request()
        except (AgentRefusal, AgentTrouble):  # an older agent, or none: the step says so
            return None
        if found is None or found.id == record.facts.agent_request or found.at < record.created:
            return None
        return found

    # --- before the candidate runs ---

    def _plan(self, record: Record) -> StepResult:
        facts = record.facts
        try:
            statuses = {slot: self._agent.status(slot) for slot in SLOTS}
            roles = {slot: self._control.status(s.control_url) for slot, s in statuses.items() if s.running}
            ups = {slot: f"up{{{slot_matchers(record.plan, slot)}}}" for slot in roles}
            scraped = {slot: self._queries.value(up, self._clock()) for slot, up in ups.items()}
        except (AgentRefusal, ControlRefusal) as error:
            return StepResult(facts=facts, event=Event.FAILED, reason=str(error))
        except (AgentTrouble, ControlTrouble, NoAnswer) as error:
            return self._again(record, PLAN_SECONDS, str(error))
        writers = [slot for slot, role in roles.items() if role.writes]
        if len(writers) != 1:
            return self._again(
                record, PLAN_SECONDS, f"{len(writers)} slots write; exactly one must before a deployment"
            )
        (live,) = writers
        if scraped[live] != [1.0]:
            return self._again(record, PLAN_SECONDS, f"Prometheus does not scrape the writer: {ups[live]}")
        if record.plan.audit is True and self._audit is None:
            text = "no auditor is configured: set K2_DEPLOY_AUDIT_COMMAND, or deploy without the audit"
            return StepResult(facts=facts, event=Event.FAILED, reason=text)
        candidate = next(slot for slot in SLOTS if slot != live)
        facts = facts.with_(
            live=live,
            live_version=statuses[live].version or roles[live].version,
            candidate=candidate,
            generation=roles[live].generation,
        )
        return StepResult(
            facts=facts, event=Event.DONE, reason=f"{live} writes; {record.plan.version} goes to {candidate}"
        )

    def _build(self, record: Record) -> StepResult:
        facts = record.facts
        try:
            built = self._agent.build(record.plan.version)
        except AgentRefusal as error:
            return StepResult(facts=facts, event=Event.FAILED, reason=str(error))
        except AgentTrouble as error:
            return self._again(record, record.plan.build_seconds, str(error))
        match built["state"]:
            case "done":
                return StepResult(facts=facts, event=Event.DONE, reason=built["detail"])
            case "failed":
                return StepResult(facts=facts, event=Event.FAILED, reason=f"the build failed: {built['detail']}")
            case _:
                return self._again(record, record.plan.build_seconds, "it is still being built")

    def _standby(self, record: Record) -> StepResult:
        facts, slot, version = record.facts, record.facts.candidate, record.plan.version
        try:
            status = self._agent.status(slot)
            ours = status.version == version and (status.started_at or 0.0) >= math.floor(record.created)
            if not ours:
                if status.running:
                    self._agent.stop(slot)
                status = self._agent.start(slot, version)
            if not status.running:
                return StepResult(facts=facts, event=Event.FAILED, reason=f"{slot} {ended(status)}")
            role = self._control.status(status.control_url)
            if role.writes:
                return StepResult(facts=facts, event=Event.FAILED, reason=f"{slot} writes before the hand-over")
            if role.role != "shadow":
                self._control.watch(status.control_url)
                return StepResult(facts=facts, wait=0.1)
            ready, reason = self._control.ready(status.status_url)
            live = self._control.status(self._agent.status(facts.live).control_url)
        except (AgentRefusal, ControlRefusal) as error:
            return StepResult(facts=facts, event=Event.FAILED, reason=str(error))
        except (AgentTrouble, ControlTrouble) as error:
            return self._again(record, record.plan.standby_seconds, str(error))
        if not ready:
            return self._again(record, record.plan.standby_seconds, f"{slot} is not ready: {reason}")
        facts = facts.with_(symbols=sorted(live.symbols))
        return StepResult(facts=facts, event=Event.DONE, reason=f"{slot} is warm and watches")

    # --- approval and hand-over ---

    def _approval(self, record: Record) -> StepResult:
        facts, plan = record.facts, record.plan
        if trouble := self._windows.trouble(record):
            return StepResult(facts=facts, event=Event.FAILED, reason=trouble)
        if facts.held_by and facts.decision != "rejected":
            return self._held(record)
        if not plan.approval:
            return StepResult(
                facts=facts.with_(decided_by="not required"), event=Event.DONE, reason="no approval required"
            )
        match facts.decision:
            case "approved":
                return StepResult(facts=facts, event=Event.DONE, reason=f"approved by {facts.decided_by}")
            case "rejected":
                return StepResult(facts=facts, event=Event.REJECTED, reason=f"rejected by {facts.decided_by}")
            case _:
                return self._again(record, plan.approval_seconds, "no decision yet", wait=1.0)

    def _handover(self, record: Record) -> StepResult:
        facts, now, seconds = record.facts, self._clock(), record.plan.handover_seconds
        try:
            status = self._agent.status(facts.candidate)
            if not status.running:
                return StepResult(facts=facts, event=Event.FAILED, reason=f"{facts.candidate} {ended(status)}")
            role = self._control.status(status.control_url)
            if facts.handover_began is None:
                intent = facts.with_(handover_began=now, generation=role.generation)
                return StepResult(facts=intent, reason=f"{facts.candidate} shall take over from {facts.live}", wait=0.0)
            if not role.writes:
                began = self._clock()
                # Its own answer is what counts: a status may still be that of a second ago.
                role = self._control.promote(status.control_url, record.id, role.generation + 1)
                facts = facts.with_(handover_call_seconds=round(self._clock() - began, 4))
            if not role.writes:
                return self._again(record, seconds, f"{facts.candidate} is {role.role}")
            if not self._predecessor_compares(record, now):
                return StepResult(facts=facts, reason=f"{facts.live} is to compare what is committed", wait=0.2)
            took, gap = self._measured(status)
        except (AgentTrouble, ControlTrouble) as error:
            return self._again(record, seconds, str(error))
        except (AgentRefusal, ControlRefusal) as error:
            return StepResult(facts=facts, event=Event.FAILED, reason=str(error))
        facts = facts.with_(handover_seconds=took, gap_seconds=gap, new_generation=role.generation)
        return StepResult(
            facts=facts, event=Event.DONE, reason=f"{facts.candidate} writes as generation {role.generation}"
        )

    def _predecessor_compares(self, record: Record, now: float) -> bool:
        """Let the predecessor, now a standby, compare what the candidate commits; True once it does, or cannot."""
        facts = record.facts
        if not record.plan.compare_after:
            return True
        try:
            status = self._agent.status(facts.live)
            role = self._control.status(status.control_url).role if status.running else ""
            if role == "standby":
                self._control.watch(status.control_url)
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal):
            role = "unknown"
        if role in ("", "shadow"):
            return True
        began = facts.handover_began if facts.handover_began is not None else now
        # Beyond this the gates see that there is no comparison.
        return now - max(began, facts.resumed or 0.0) > min(COMPARE_SECONDS, record.plan.handover_seconds / 2)

    def _measured(self, status: SlotStatus) -> tuple[float | None, float | None]:
        samples = self._control.metrics(status.status_url)
        return samples.get("ingest_handover_seconds"), samples.get("ingest_handover_gap_seconds")

    def _held(self, record: Record) -> StepResult:
        """A person holds it: wait, and see that what writes goes on. A day without an answer is a no."""
        facts = record.facts
        try:
            if record.state is State.RETIRE and (trouble := self._not_writing(facts.candidate)):
                return StepResult(facts=facts, event=Event.FAILED, reason=trouble)
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal) as error:
            return self._again(record, record.plan.approval_seconds, str(error), wait=1.0)
        return self._again(record, record.plan.approval_seconds, f"held by {facts.held_by}", wait=1.0)

    def _not_writing(self, slot: str) -> str:
        """Why a slot does not write; empty if it does."""
        status = self._agent.status(slot)
        role = self._control.status(status.control_url) if status.running else None
        if role is not None and role.writes:
            return ""
        return f"{slot} {ended(status) if role is None else f'is {role.role}'}"

    def _retire(self, record: Record) -> StepResult:
        facts = record.facts
        if facts.held_by:
            return self._held(record)
        try:
            if trouble := self._not_writing(facts.candidate):
                return StepResult(facts=facts, event=Event.FAILED, reason=trouble)
            status = self._agent.stop(facts.live)
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal) as error:
            return self._again(record, RETIRE_SECONDS, str(error), event=Event.STUCK)
        if status.running:
            return self._again(record, RETIRE_SECONDS, f"{facts.live} does not stop", event=Event.STUCK)
        return StepResult(facts=facts, event=Event.DONE, reason=f"{facts.live} is stopped")

    # --- back ---

    def _restore(self, record: Record) -> StepResult:
        """The predecessor writes (again), and then the candidate is stopped: in this order, and never the reverse."""
        facts, limit = record.facts, record.plan.roll_back_seconds
        if not facts.live:
            return StepResult(facts=facts, event=Event.DONE, reason="nothing had been started")
        if facts.roll_back_began is None:
            intent = facts.with_(roll_back_began=facts.entered)
            return StepResult(facts=intent, reason=f"{facts.live} shall write", wait=0.0)
        try:
            if facts.roll_back_seconds is None:
                back = self._take_back(record)
                if back is not None:
                    return back
                return StepResult(facts=self._restored(record), reason=f"{facts.live} writes", wait=0.0)
            status = self._agent.stop(facts.candidate)
            role = self._control.status(self._agent.status(facts.live).control_url)
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal) as error:
            return self._again(record, limit, str(error), event=Event.STUCK, wait=0.2)
        if status.running:
            return self._again(record, limit, f"{facts.candidate} does not stop", event=Event.STUCK)
        if facts.candidate_stopped is None:
            stopped = facts.with_(candidate_stopped=self._clock())
            return StepResult(facts=stopped, reason=f"{facts.candidate} is stopped", wait=0.2)
        if not role.writes:
            # A take-over with an unknown outcome was still in progress and has fenced it: repeat.
            return StepResult(
                facts=facts.with_(roll_back_seconds=None), reason=f"{facts.live} was fenced again", wait=0.0
            )
        if role.last_commit_us is not None and role.last_commit_us / 1e6 < facts.candidate_stopped:
            return self._again(record, limit, f"{facts.live} has not written since", event=Event.STUCK, wait=0.2)
        return StepResult(facts=facts, event=Event.DONE, reason=f"{facts.live} writes, {facts.candidate} is stopped")

    def _take_back(self, record: Record) -> StepResult | None:
        """Make the predecessor write; None once it does."""
        facts, limit = record.facts, record.plan.roll_back_seconds
        status = self._agent.status(facts.live)
        if not status.running:
            self._agent.start(facts.live, facts.live_version)
            return self._again(record, limit, f"{facts.live} is being started", event=Event.STUCK, wait=0.1)
        role: ServiceStatus = self._control.status(status.control_url)
        if role.writes:
            return None
        name = f"{record.id}.back{role.generation}"
        if self._control.promote(status.control_url, name, role.generation + 1).writes:
            return None
        return self._again(record, limit, f"{facts.live} does not write yet", event=Event.STUCK, wait=0.1)

    def _restored(self, record: Record) -> DeploymentState:
        """How long it took, from the decision to the predecessor's first commit. Raises like ``_take_back``."""
        facts = record.facts
        began = facts.roll_back_began if facts.roll_back_began is not None else facts.entered
        seconds = round(self._clock() - began, 4)
        gap = None
        if facts.handover_began is not None or record.kind != "deploy":
            _, gap = self._measured(self._agent.status(facts.live))
        return facts.with_(roll_back_seconds=seconds, roll_back_gap_seconds=gap)

    # --- time ---

    def _again(
        self, record: Record, seconds: float, reason: str, *, event: Event = Event.FAILED, wait: float = LOOK_SECONDS
    ) -> StepResult:
        """Look again, or give up after ``seconds`` in the state, not counting time without a deployer."""
        facts = record.facts
        if self._clock() - (facts.entered if facts.resumed is None else facts.resumed) > seconds:
            return StepResult(facts=record.facts, event=event, reason=f"not within {seconds:g} s: {reason}")
        return StepResult(facts=record.facts, reason=reason, wait=wait)
