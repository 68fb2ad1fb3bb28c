"""``python -m ingest_ops roll-back``: undo the open deployment, or let the other colour write again."""

import argparse
from collections.abc import Sequence

from ingest.command import arguments as kinds
from ingest_ops.agent.slots import SLOTS, SlotStatus
from ingest_ops.deployment.commands.common import LIVE, MANUAL, Progress, explain, guarded, new_id, said, say
from ingest_ops.deployment.control import ControlRefusal, ControlTrouble
from ingest_ops.deployment.journal import IdTaken, Leased, NoSuchDeployment, Record
from ingest_ops.deployment.plan import BadPlan, parse
from ingest_ops.deployment.settings import DeployerContext, actor, now
from ingest_ops.deployment.state_machine import State

WRITES = "writes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(
        parser,
        "0 the predecessor writes, 2 bad settings, 3 a person must look, 75 no answer now",
        "roll-back",
        "roll-back --version v1.9-stable --json",
    )
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")
    parser.add_argument("--id", type=kinds.run_id, help="name of the roll-back, where none is open (default: made up)")
    parser.add_argument(
        "--version", help="what the other slot shall run, if it is stopped (default: what was live in it)"
    )
    parser.add_argument("--no-audit", action="store_true", help="do without the independent auditor")


def run(namespace: argparse.Namespace) -> int:
    """Roll back; returns the exit code."""

    def roll_back(parts: DeployerContext) -> int:
        record = undo(
            parts, namespace.id, version=namespace.version, audit=not namespace.no_audit, as_json=namespace.json
        )
        say(record, parts, as_json=namespace.json)
        return LIVE if record.state in (State.ROLLED_BACK, State.ABORTED) else MANUAL

    return guarded(roll_back)


def undo(
    parts: DeployerContext,
    name: str | None,
    *,
    version: str | None,
    audit: bool,
    as_json: bool = False,
    by: str = "",
    not_before: float | None = None,
) -> Record:
    """Undo the open deployment, or open a roll-back of its own, and carry it out.

    ``not_before``: an older roll-back of that name is another one. Raises ``BadPlan`` where it is not clear what to go
    back to, ``IdTaken`` for a name that is used.
    """
    deployer = parts.deployer
    record = parts.journal.open_one()
    if name is not None and (done := _finished(parts, name, not_before)):
        return deployer.finish(done.id)  # requested again, after it was done
    if record is None:
        record = _own(parts, name or new_id("roll-back", now()), version, audit=audit, by=by)
    elif record.undoable:
        record = deployer.cancel(record.id, by)
    said(f"deployment {record.id}", as_json=as_json)
    progress = Progress()
    while not record.finished:
        try:
            record = deployer.run(record.id, until=progress)
        except Leased:  # its deployer reads the request at its next look
            parts.sleep(0.2)
            record = parts.journal.read(record.id)
    return deployer.finish(record.id)


def _finished(parts: DeployerContext, name: str, not_before: float | None) -> Record | None:
    try:
        record = parts.journal.read(name)
    except NoSuchDeployment:
        return None
    if record.kind != "roll-back" or (not_before is not None and record.created < not_before):
        raise IdTaken(f"{name} is an earlier {record.kind}, in state {record.state}: choose another id")
    return record if record.finished else None


def proven(records: Sequence[Record], slot: str) -> str:
    """The version that was last live in a slot, by the journal (the newest first); empty where none was.

    Not what ran there last: that may be a candidate that was taken back.
    """
    for record in records:
        facts = record.facts
        if record.state is State.DONE and facts.live == slot:
            return facts.live_version
        if record.state is State.ROLLED_BACK and facts.live == slot:
            return facts.live_version
        if record.state is State.DONE and facts.candidate == slot:
            return record.plan.version
    return ""


def _found(parts: DeployerContext, status: SlotStatus) -> str:
    """A short description of a slot; only its own answer makes it the writer."""
    if not status.running:
        return "is stopped"
    try:
        role = parts.control.status(status.control_url)
    except (ControlTrouble, ControlRefusal) as error:
        return f"does not report its role ({error})"
    return WRITES if role.writes else f"is {role.role}"


def _own(parts: DeployerContext, name: str, version: str | None, *, audit: bool, by: str) -> Record:
    statuses = {slot: parts.agent.status(slot) for slot in SLOTS}
    found = {slot: _found(parts, status) for slot, status in statuses.items()}
    said = ", ".join(f"{slot} {word}" for slot, word in found.items())
    writers = [slot for slot, word in found.items() if word == WRITES]
    if not any(status.running for status in statuses.values()):
        raise BadPlan(f"nothing is deployed that could be rolled back: {said}; start a slot first")
    if len(writers) != 1:
        raise BadPlan(f"it is not clear what to go back from: {said}; see `By hand` in docs/how_to/deploy.md")
    (writer,) = writers
    other = next(slot for slot in SLOTS if slot != writer)
    running = statuses[other].version if statuses[other].running else ""
    before = running or version or proven(parts.journal.latest(100), other)
    if not before:
        raise BadPlan(f"{said}; no version is known that was live in {other}: name the one to go back to")
    plan = parse({"version": before, "audit": None if audit else False, "requested_by": (by or actor())[:128]})
    return parts.deployer.open_roll_back(name, plan, live=other, live_version=before, candidate=writer)
