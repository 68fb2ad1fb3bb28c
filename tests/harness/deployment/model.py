"""A world of two slots under a virtual clock: agent, control API, Prometheus and auditor, with faults to inject."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest_ops.agent.slots import AgentRefusal, AgentTrouble, ControlRequest, SlotStatus
from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.control import ControlRefusal, ControlTrouble, ServiceStatus
from ingest_ops.deployment.deployer import Deployer
from ingest_ops.deployment.gate_windows import Ports
from ingest_ops.deployment.journal import Journal, Record
from ingest_ops.deployment.steps import Steps
from tests.harness.deployment.series import SYMBOLS, Series, Value

START = 1_769_040_000.0


class Killed(BaseException):
    """The deployer's process ends here, as by SIGKILL: nothing may catch it."""


@dataclass
class Slot:
    version: str = ""
    running: bool = False
    started_at: float | None = None
    exit_code: int | None = None
    role: str = "standby"


@dataclass
class TwoSlots:
    """Everything outside of the deployer."""

    folder: Path
    now: float = START
    slots: dict[str, Slot] = field(default_factory=lambda: {"blue": Slot(), "green": Slot()})
    generation: int = 7
    values: dict[str, float] = field(default_factory=dict)
    """Part of a metric's name -> its value in both slots; anything else is as it should be."""
    functions: dict[tuple[str, str], Value] = field(default_factory=dict)
    """(metric, slot) -> its value over time."""
    mismatches: dict[str, int] = field(default_factory=dict)
    """Slot -> how many records differ, as its status reports it."""
    compared: dict[str, int] = field(default_factory=dict)
    """Slot -> how many records it has compared, as its status reports it; 9,000 where it is not named."""
    missing: set[str] = field(default_factory=set)
    at: dict[float, Callable[[], None]] = field(default_factory=dict)
    """What happens at a moment, in seconds since the start."""
    agent_down: bool = False
    build_state: str = "done"
    can_start: bool = True
    can_promote: set[str] = field(default_factory=lambda: {"blue", "green"})
    audit_verdict: Verdict = Verdict.PASS
    audits: int = 0
    reports: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    """The states for which a report was written on the way."""
    asked: ControlRequest | None = None
    """What a person asked of the agent last."""
    kill_after: int | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        self.slots["blue"] = Slot("v1", running=True, started_at=START - 1000, role="active")

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in sorted(self.at):
            if self.now - START >= moment:
                self.at.pop(moment)()

    def writers(self) -> list[str]:
        return [name for name, slot in self.slots.items() if slot.running and slot.role == "active"]

    def die(self, slot: str, code: int = 137) -> None:
        self.slots[slot].running = False
        self.slots[slot].exit_code = code
        self.slots[slot].role = "standby"

    def _deed(self) -> None:
        """Every call to the outside; the deployer may be killed right after any of them."""
        self.calls += 1
        if self.kill_after is not None and self.calls > self.kill_after:
            self.kill_after = None
            raise Killed

    # --- the agent ---

    def build(self, version: str) -> dict[str, str]:
        self._ask()
        if self.build_state == "refused":
            raise AgentRefusal(f"no version {version}")
        return {"state": self.build_state, "detail": f"image of {version}"}

    def start(self, slot: str, version: str) -> SlotStatus:
        self._ask()
        one = self.slots[slot]
        if one.running and one.version != version:
            raise AgentRefusal(f"slot {slot} runs version {one.version}: stop it first")
        if not one.running:
            running = self.can_start
            self.slots[slot] = Slot(version, running, self.now, None if running else 3)
        status = self.status(slot)
        self._deed()
        return status

    def stop(self, slot: str) -> SlotStatus:
        self._ask()
        self.slots[slot].running = False
        self.slots[slot].role = "standby"
        self._deed()
        return self.status(slot)

    def status(self, slot: str) -> SlotStatus:
        self._ask()
        one = self.slots[slot]
        return SlotStatus(
            slot=slot, running=one.running, version=one.version, started_at=one.started_at, exit_code=one.exit_code,
            status_url=slot, control_url=slot,
        )  # fmt: skip

    def request(self) -> ControlRequest | None:
        self._ask()
        return self.asked

    def _ask(self) -> None:
        if self.agent_down:
            raise AgentTrouble("the agent does not answer")


class FakeControl:
    """The control APIs of both slots."""

    def __init__(self, world: TwoSlots) -> None:
        self._world = world

    def _slot(self, name: str) -> Slot:
        slot = self._world.slots[name]
        if not slot.running:
            raise ControlTrouble(f"{name}: connection refused")
        return slot

    def status(self, control_url: str) -> ServiceStatus:
        role = self._slot(control_url).role
        different = self._world.mismatches.get(control_url, 0)
        compared = self._world.compared.get(control_url, 9000)
        shadow = {"compared": compared, "mismatched": different, "unreadable": 0, "mismatches": []}
        return ServiceStatus(
            role=role, generation=self._world.generation, topic="trades", delivery="exactly-once",
            shard={"index": 0, "count": 1}, shadow=shadow if role == "shadow" else None,
            symbols={name: {"last_id": 100, "frozen": False} for name in SYMBOLS},
        )  # fmt: skip

    def ready(self, status_url: str) -> tuple[bool, str]:
        self._slot(status_url)
        return True, ""

    def watch(self, control_url: str) -> None:
        self._slot(control_url).role = "shadow"
        self._world._deed()

    def promote(self, control_url: str, deployment_id: str, generation: int | None) -> ServiceStatus:
        world, slot = self._world, self._slot(control_url)
        if control_url not in world.can_promote:
            raise ControlTrouble("promote did not finish in time")
        if generation is not None and generation <= world.generation:
            raise ControlRefusal(f"generation {generation} is not newer than {world.generation}")
        for other in world.slots.values():
            other.role = "standby" if other.role == "active" else other.role
        slot.role = "active"
        world.generation += 1
        world.now += 0.3
        world._deed()
        return ServiceStatus(role=slot.role, generation=world.generation)

    def metrics(self, status_url: str) -> Mapping[str, float]:
        self._slot(status_url)
        return {"ingest_handover_seconds": 0.3, "ingest_handover_gap_seconds": 0.21}


class FakeQueries(Series):
    """Prometheus: every series is as it should be, unless the world says otherwise."""

    def __init__(self, world: TwoSlots) -> None:
        super().__init__(origin=START, values=world.values, missing=world.missing, candidate="")
        writes: Value = lambda _t, slot: float(world.slots[slot].role == "active")  # noqa: E731
        for slot in world.slots:
            self.functions["ingest_writer_active", slot] = writes
        self.functions.update(world.functions)


def deployer(
    world: TwoSlots, *, actor: str = "test", auditor: bool = True, shard: str = "", journals: Path | None = None
) -> Deployer:
    """A deployer in that world, with its journal in the world's folder, or in ``journals``."""
    world.folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(f"sqlite:///{(journals or world.folder) / 'journal.db'}", world.clock)

    def audit(_: Record) -> AuditResult:
        world.audits += 1
        return AuditResult(world.audit_verdict, f"audit {world.audit_verdict}", {"totals": {"missing": 0}})

    steps = Steps(Ports(world, FakeControl(world), FakeQueries(world), world.clock, audit if auditor else None))
    return Deployer(
        journal, steps, trail=lambda name: AuditTrail(world.folder / f"{name}.trail.jsonl"), clock=world.clock,
        sleep=world.sleep, actor=actor, shard=shard, audit=audit if auditor else None,
        finished=lambda record, _: world.reports.append(record.id),
        moved=lambda record, _: world.moves.append(str(record.state)),
    )  # fmt: skip


@contextmanager
def closing(made: Deployer) -> Iterator[Deployer]:
    """Close the journal's connections afterwards."""
    try:
        yield made
    finally:
        made.journal.close()
