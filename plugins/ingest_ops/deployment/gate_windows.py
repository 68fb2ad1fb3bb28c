"""Judging while time passes: the gates over a window, what can be seen at once, and holding where data is missing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ingest_ops.agent.client import Agent
from ingest_ops.agent.slots import AgentRefusal, AgentTrouble, SlotStatus
from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.control import Control, ControlRefusal, ControlTrouble
from ingest_ops.deployment.deployment_state import DeploymentState, GateResult
from ingest_ops.deployment.gate_evaluation import evaluate, overall, why
from ingest_ops.deployment.gate_inputs import Scope
from ingest_ops.deployment.gates import AUDIT_GATE, gates_of
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.prometheus import Queries
from ingest_ops.deployment.state_machine import Event, State
from ingest_ops.deployment.status_gates import Statuses, evaluate_status

LOOK_SECONDS = 0.5
"""Between two looks while waiting."""
BEAT_SECONDS = 0.5
"""Clocks of two machines, and what was on its way when a state was entered."""

EVENTS = {Verdict.PASS: Event.DONE, Verdict.FAIL: Event.FAILED, Verdict.INCONCLUSIVE: Event.INCONCLUSIVE}


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step found. Without an event the state stays, and the next look is due in ``wait`` seconds."""

    facts: DeploymentState
    event: Event | None = None
    reason: str = ""
    wait: float = LOOK_SECONDS


class Ports(NamedTuple):
    """What the steps need."""

    agent: Agent
    control: Control
    queries: Queries
    clock: Callable[[], float]
    """Seconds since 1970."""
    audit: Callable[[Record], AuditResult] | None
    """Runs the auditor; None where there is none."""


class GateWindows:
    """The steps of the states that take minutes."""

    def __init__(self, ports: Ports) -> None:
        self._agent, self._control, self._queries, self._clock, self._audit = ports
        self._judged: dict[str, float] = {}

    def due(self, record: Record) -> bool:
        """Whether the window is over, or something in it has failed."""
        if self.trouble(record):
            return True
        start, end = self._window(record)
        now = self._clock()
        if now >= end:
            return True
        if now < start or now - self._judged.get(record.id, 0.0) < record.plan.scrape_seconds:
            return False
        self._judged[record.id] = now
        return overall(self._judge(record, start, over=False)) is Verdict.FAIL

    def watched(self, record: Record) -> StepResult:
        """Judge what can be judged by now; the verdict once the window is over."""
        facts, now = record.facts, self._clock()
        if trouble := self.trouble(record):
            start, _ = self._window(record)
            results = self._judge(record, start, over=False) if now > start else []
            return StepResult(facts=_with_results(record, facts, results), event=Event.FAILED, reason=trouble)
        start, end = self._window(record)
        if now < start:
            return StepResult(facts=facts, wait=min(LOOK_SECONDS, start - now))
        over = now >= end
        if not over and now - self._judged.get(record.id, 0.0) < record.plan.scrape_seconds:
            return StepResult(facts=facts, wait=min(LOOK_SECONDS, end - now))
        self._judged[record.id] = now
        results = self._judge(record, start, over=over)
        verdict = overall(results)
        if not over and verdict is not Verdict.FAIL:
            return StepResult(facts=facts, wait=min(LOOK_SECONDS, end - now))
        if (
            record.state is State.VALIDATE
            and verdict is Verdict.PASS
            and self._audit
            and record.plan.audit is not False
        ):
            facts, audited = self._audited(record, start)
            results.append(audited)
            verdict = overall(results)
        if record.state is State.SHADOW:
            facts = facts.with_(shadow=self._compared(record), baseline=(start, now))
        reason = why(results, verdict) if verdict is not Verdict.PASS else f"{len(results)} gates passed"
        return StepResult(facts=_with_results(record, facts, results), event=EVENTS[verdict], reason=reason)

    def _compared(self, record: Record) -> dict[str, Any] | None:
        try:
            return self._control.status(self._agent.status(record.facts.candidate).control_url).shadow
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal):
            return None  # for the report alone: the gates have judged

    def _window(self, record: Record) -> tuple[float, float]:
        """From when to when the state's gates are judged."""
        plan, facts = record.plan, record.facts
        grace, seconds = (
            (0.0, plan.watch_seconds)
            if record.state is State.SHADOW
            else (plan.grace_seconds, plan.validate_seconds)
        )  # fmt: skip
        start = facts.window_start if facts.window_start is not None else facts.entered + grace
        return start, start + seconds

    def _judge(self, record: Record, start: float, *, over: bool) -> list[GateResult]:
        """All gates once the window is over; before that those whose failure cannot be undone by waiting."""
        facts, plan, now = record.facts, record.plan, self._clock()
        scope = Scope(
            plan=plan,
            candidate=facts.candidate,
            live=facts.live,
            start=start,
            end=now,
            baseline=facts.baseline,
            symbols=frozenset(facts.symbols),
        )
        results = [
            evaluate(gate, scope, self._queries)
            for gate in gates_of(record.state)
            if (over or gate.early) and (plan.compare_after or not gate.needs_incumbent)
        ]
        return results + evaluate_status(record.state, self._statuses(record), start, now, plan=plan)

    def _statuses(self, record: Record) -> Statuses | str:
        slots = {"candidate": record.facts.candidate, "live": record.facts.live}
        try:
            return {name: self._control.status(self._agent.status(slot).control_url) for name, slot in slots.items()}
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal) as error:
            return str(error)

    def _audited(self, record: Record, start: float) -> tuple[DeploymentState, GateResult]:
        found = self._audit(record) if self._audit is not None else None
        facts = record.facts if found is None else record.facts.with_(audit=found.as_json())
        return facts, GateResult(
            gate=AUDIT_GATE,
            title="Audit: every trade once, in order, unaltered",
            verdict=Verdict.INCONCLUSIVE if found is None else found.verdict,
            reason="no auditor is configured" if found is None else found.reason,
            query="the independent auditor",
            start=start,
            end=self._clock(),
            value=None,
            threshold="exit code 0",
        )

    def held(self, record: Record) -> StepResult:
        """Wait for data that is missing, a few times."""
        facts, plan, now = record.facts, record.plan, self._clock()
        if trouble := self.trouble(record):
            return StepResult(facts=facts, event=Event.FAILED, reason=trouble)
        if facts.holds >= plan.holds:
            reason = f"still inconclusive after {facts.holds} retries: {facts.reason}"
            return StepResult(facts=facts, event=Event.EXHAUSTED, reason=reason)
        left = facts.entered + plan.hold_seconds - now
        if left > 0:
            return StepResult(facts=facts, wait=min(LOOK_SECONDS, left))
        seconds = plan.watch_seconds if record.state is State.SHADOW_HELD else plan.validate_seconds
        # The last window is judged again: it has moved on by the time of holding.
        again = facts.with_(holds=facts.holds + 1, window_start=now - seconds)
        return StepResult(facts=again, event=Event.RETRY, reason=f"retry {again.holds} of {plan.holds}")

    def trouble(self, record: Record) -> str:
        """A problem that shows without waiting for a scrape; empty if there is none or no slot answers."""
        facts = record.facts
        try:
            candidate = self._agent.status(facts.candidate)
            if not candidate.running:
                return f"{facts.candidate} {ended(candidate)}"
            if record.state in (State.SHADOW, State.SHADOW_HELD, State.APPROVAL):
                live = self._agent.status(facts.live)
                if not live.running:
                    return f"the writer, {facts.live}, {ended(live)}"
            role = self._control.status(candidate.control_url)
        except (AgentTrouble, AgentRefusal, ControlTrouble, ControlRefusal):
            return ""  # the gates' business: a slot that stays silent is not scraped either
        if self._clock() - role.snapshot_age_seconds < facts.entered + BEAT_SECONDS:
            return ""  # it may be from before the hand-over
        if record.state in (State.VALIDATE, State.VALIDATE_HELD):
            if role.role in ("standby", "shadow", "stopped"):
                return f"{facts.candidate} is {role.role}: generation {role.generation} writes"
        elif role.writes:
            return f"{facts.candidate} writes before the hand-over"
        return ""


def _with_results(record: Record, facts: DeploymentState, results: list[GateResult]) -> DeploymentState:
    return facts.with_(results={**facts.results, str(record.state): results}) if results else facts


def ended(status: SlotStatus) -> str:
    """How a slot that should run does not."""
    return "does not run" + ("" if status.exit_code is None else f": it ended with {status.exit_code}")
